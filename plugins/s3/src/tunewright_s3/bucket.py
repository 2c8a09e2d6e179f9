"""A bucket, as seen in the container: botocore lists it and finds its server; the engine's plain GETs are signed here."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import attrs
import botocore.session
from botocore import UNSIGNED
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.handlers import validate_bucket_name

from tunewright import FetchError
from tunewright.providers import user_variable
from tunewright_launcher.http import Headers, Http, HttpRequest, retry
from tunewright_launcher.objects import Object, Page
from tunewright_s3.errors import refused, translated
from tunewright_s3.quick import LISTED, make_quick, take_objects
from tunewright_s3.signing import Signer
from tunewright_s3.uri import format_uri

_TIMEOUT = 30.0
# Seconds for which a page after the first is retried, so that the pages before it are not lost.
_PATIENCE = 20.0

Item = Mapping[str, Any]
"""What a listing says about an object: "Key", "Size" and "ETag"."""


@attrs.frozen(kw_only=True)
class Access:
    """How to reach a bucket; every field is that of `S3Source`.

    Attributes:
        access_key_id: with `secret_access_key`, the credential; None for what the environment provides.
        secret_access_key: see `access_key_id`.
        session_token: of a temporary credential.
        region: the bucket's region; None for what the environment says.
        endpoint_url: of a store other than Amazon's.
        addressing_style: "path", "virtual" or "auto".
        anonymous: send no credential.
        request_payer: "requester" if whoever asks pays.
    """

    access_key_id: str | None = attrs.field(default=None, repr=False)
    secret_access_key: str | None = attrs.field(default=None, repr=False)
    session_token: str | None = attrs.field(default=None, repr=False)
    region: str | None = None
    endpoint_url: str | None = None
    addressing_style: str = "auto"
    anonymous: bool = False
    request_payer: str | None = None


class Bucket:
    """One bucket, with one credential.

    Args:
        name: the bucket's name.
        access: the credential, and where the bucket is.

    Attributes:
        about: what every request of `client` has: the bucket, and who pays.
        pays: whether requests say that whoever asks pays.
        client: botocore's client. It sends each request once; callers retry.
        http: sends the requests that `request` makes.

    Raises:
        FetchError: botocore rejects the settings.
    """

    def __init__(self, name: str, access: Access) -> None:
        self.name = name
        self.pays = access.request_payer is not None
        self.about = {"Bucket": name, **({"RequestPayer": "requester"} if self.pays else {})}
        session = botocore.session.Session()
        # Nobody needs the dates, and parsing them is half the cost of a listing.
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
        if access.access_key_id is not None:
            session.set_credentials(access.access_key_id, access.secret_access_key, access.session_token)
        with translated(format_uri(name)):
            if session.get_config_variable("ca_bundle") is None:  # botocore itself only reads AWS_CA_BUNDLE
                session.set_config_variable("ca_bundle", user_variable("SSL_CERT_FILE"))
            make_quick(session.get_component("data_loader"))
            # botocore itself only reads AWS_DEFAULT_REGION; EKS sets both.
            region = access.region or session.get_config_variable("region") or user_variable("AWS_REGION")
            self.client = session.create_client(
                "s3", region_name=region, endpoint_url=access.endpoint_url, config=_config(access)
            )
            self._credentials: Credentials | None = None if access.anonymous else session.get_credentials()
            self.http = Http(ca_bundle=session.get_config_variable("ca_bundle"))
        # It refuses names that stores have: `uri` has refused what is hostile.
        self.client.meta.events.unregister("before-parameter-build.s3", validate_bucket_name)
        self._region = ""
        self._lock = threading.Lock()
        self._signer = Signer("")
        self._place: tuple[str, str, str] | None = None
        self.client.meta.events.register("before-sign.s3", self._learn_region)
        self.client.meta.events.register(LISTED, take_objects)

    def uri(self, key: str = "") -> str:
        """See `tunewright_launcher.objects.Bucket`."""
        return format_uri(self.name, key)

    def get(self, key: str) -> HttpRequest:
        """See `tunewright_launcher.objects.Bucket`."""
        return self.request(key, {})

    def refused(self, what: str, status: int, headers: Headers, body: bytes) -> FetchError:
        """See `tunewright_launcher.objects.Bucket`."""
        return refused(what, status, headers, body, pays=self.pays)

    def pages(self, prefix: str) -> Iterator[Page]:
        """Yield pages of the objects whose keys begin with a prefix.

        Raises:
            FetchError: the objects cannot be listed.
        """
        asked: dict[str, str] = {**self.about, "Prefix": prefix}
        page = self._page(asked)
        while True:
            contents = page.get("Contents", ())
            yield Page([Object(i["Key"], i["Size"], i.get("ETag")) for i in contents], bool(page.get("IsTruncated")))
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]
            page = self._next_page(asked)

    def _next_page(self, asked: Mapping[str, str]) -> Mapping[str, Any]:
        return retry(lambda: self._page(asked), _PATIENCE, lambda *_: None)

    def _page(self, asked: Mapping[str, str]) -> Mapping[str, Any]:
        with translated(format_uri(self.name, asked["Prefix"]), pays=self.pays):
            return self.client.list_objects_v2(**asked)  # type: ignore[no-any-return]

    def request(self, key: str, headers: Mapping[str, str], *, method: str = "GET", query: str = "") -> HttpRequest:
        """Return a signed request for an object.

        Args:
            key: the object's key.
            headers: headers to send and to sign; names in lower case.
            method: GET or HEAD.
            query: percent-encoded query, sorted by name.

        Raises:
            FetchError: there is no credential, or it cannot be refreshed.
        """
        base, host, folder = self._located()
        if self.pays:
            headers = {**headers, "x-amz-request-payer": "requester"}
        path = f"{folder}{quote(key)}"
        url = f"{base}{path}{'?' if query else ''}{query}"
        if self._credentials is None:
            return HttpRequest(url=url, headers=headers, method=method)
        with translated(format_uri(self.name, key)):
            frozen = self._credentials.get_frozen_credentials()
        signed = self._signer.sign(frozen, method, host=host, path=path, query=query, headers=headers)
        return HttpRequest(url=url, headers=signed, method=method)

    def _learn_region(self, request: AWSRequest, region_name: str, **_: object) -> None:
        """Remember the region that botocore signs for: it follows redirects to the bucket's own region."""
        self._region = request.context.get("signing", {}).get("region") or region_name

    def _located(self) -> tuple[str, str, str]:
        """Return where the objects are: the origin of their URLs, its host, and the path before the key.

        They are taken from a URL that botocore presigns. Call this only after botocore's first request, which discovers the
        bucket's region.
        """
        with self._lock:
            if self._place is None:
                self._signer = Signer(self._region)
                with translated(format_uri(self.name)):
                    params = {"Bucket": self.name, "Key": "x"}
                    url = urlsplit(self.client.generate_presigned_url("get_object", Params=params))
                self._place = f"{url.scheme}://{url.netloc}", url.netloc, url.path[:-1]
            return self._place


def _config(access: Access) -> Config:
    return Config(
        # Explicit, because the default presigns URLs in a form that only Amazon supports.
        signature_version=UNSIGNED if access.anonymous else "s3v4",
        s3={"addressing_style": access.addressing_style},
        connect_timeout=_TIMEOUT,
        read_timeout=_TIMEOUT,
        retries={"total_max_attempts": 1},
        # Checksums are given explicitly. As trailers, the default, few other stores accept them.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
