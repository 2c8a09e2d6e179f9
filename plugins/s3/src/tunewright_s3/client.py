"""botocore's side of a bucket: it finds the server, the region and the credential, as the AWS CLI does."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore import UNSIGNED
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.handlers import validate_bucket_name

from tunewright.providers import user_variable
from tunewright_s3.access import Access, Place, certificates
from tunewright_s3.errors import no_listing
from tunewright_s3.listing import Listed, Marker
from tunewright_s3.quick import LISTED, make_quick, take_page
from tunewright_s3.signing import Keys, Signer
from tunewright_s3.translate import is_of_unknown, translated
from tunewright_s3.uri import format_uri

_TIMEOUT = 30.0


class Client:
    """botocore's client for one bucket, with one credential.

    Args:
        name: the bucket's name.
        access: the credential, and where the bucket is.
        about: what every request has: the bucket, and who pays.

    Attributes:
        s3: botocore's client. It sends each request once; callers retry.
        ca_bundle: file with the certificates to trust.

    Raises:
        FetchError: botocore rejects the settings.
    """

    def __init__(self, name: str, access: Access, about: Mapping[str, str]) -> None:
        self._name, self._about = name, about
        self._pays = access.request_payer is not None
        session = botocore.session.Session()
        # Nobody needs the dates, and parsing them is half the cost of a listing.
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
        if access.access_key_id is not None:
            session.set_credentials(access.access_key_id, access.secret_access_key, access.session_token)
        with translated(format_uri(name)):
            if session.get_config_variable("ca_bundle") is None:
                session.set_config_variable("ca_bundle", certificates())
            make_quick(session.get_component("data_loader"))
            # botocore itself only reads AWS_DEFAULT_REGION; EKS sets both.
            region = access.region or session.get_config_variable("region") or user_variable("AWS_REGION")
            self.s3 = session.create_client(
                "s3", region_name=region, endpoint_url=access.endpoint_url, config=_config(access)
            )
            self._credentials = None if access.anonymous else session.get_credentials()
            self.ca_bundle: str | None = session.get_config_variable("ca_bundle")
        # It refuses names that stores have: `uri` has refused what is hostile.
        self.s3.meta.events.unregister("before-parameter-build.s3", validate_bucket_name)
        self._region = ""
        self._lock = threading.Lock()
        self._place: Place | None = None
        self.s3.meta.events.register("before-sign.s3", self._learn_region)
        for event in LISTED:
            self.s3.meta.events.register(event, take_page)

    def list(self, prefix: str, token: str | None) -> Listed:
        """Return a page of the objects whose keys begin with a prefix.

        Raises:
            FetchError: they cannot be listed.
        """
        uri = format_uri(self._name, prefix)
        with translated(uri, pays=self._pays):
            answer = self._listed({**self._about, "Prefix": prefix}, token)
        found = answer.get("Listed")
        if not isinstance(found, Listed):
            raise no_listing(uri, str(answer.get("Problem", "")))
        return found

    def _listed(self, asked: Mapping[str, str], token: str | None) -> Mapping[str, Any]:
        if isinstance(token, Marker):
            return self.s3.list_objects(Marker=token, **asked)  # type: ignore[no-any-return]
        after = {"ContinuationToken": token} if token is not None else {}
        try:
            return self.s3.list_objects_v2(**asked, **after)  # type: ignore[no-any-return]
        except ClientError as error:
            if token is not None or not is_of_unknown(error):
                raise
            return self._listed(asked, Marker())

    def place(self) -> Place:
        """Return where the objects are, from a URL that botocore presigns.

        Call this only after botocore's first request, which discovers the bucket's region.
        """
        with self._lock:
            if self._place is None:
                region = self._region  # to presign is to sign, too, with the region that was there first
                with translated(format_uri(self._name)):
                    params = {"Bucket": self._name, "Key": "x"}
                    url = urlsplit(self.s3.generate_presigned_url("get_object", Params=params))
                self._place = Place(
                    origin=f"{url.scheme}://{url.netloc}",
                    folder=url.path[:-1],
                    signer=Signer(region),
                    keys=self._keys,
                )
            return self._place

    def _keys(self) -> Keys | None:
        if self._credentials is None:
            return None
        with translated(format_uri(self._name)):
            frozen: Keys = self._credentials.get_frozen_credentials()
        return frozen

    def _learn_region(self, request: AWSRequest, region_name: str, **_: object) -> None:
        """Remember the region that botocore signs for: it follows redirects to the bucket's own region."""
        self._region = request.context.get("signing", {}).get("region") or region_name


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
