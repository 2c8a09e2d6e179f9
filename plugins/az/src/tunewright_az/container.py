"""A container of Azure Blob Storage, as seen in the pod, through its REST API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from urllib.parse import quote, unquote, urlencode
from xml.etree import ElementTree as ET

from tunewright import ExitCode, FetchError
from tunewright.providers import Digest
from tunewright_az.access import Access, Credential
from tunewright_az.uri import format_uri
from tunewright_launcher.http import Answered, Headers, Http, HttpRequest, answered, digits_of, refusal, retry
from tunewright_launcher.objects import Object, Page, stands_still

_VERSION = "2021-12-02"
_LONGEST_PAGE = 64 << 20
# Seconds for which a page after the first is retried, so that the pages before it are not lost.
_PATIENCE = 20.0
_ROLES = (
    "Give the identity the role Storage Blob Data Reader, and for an output Storage Blob Data Contributor; a signature needs the "
    "permissions read and list, and for an output write and delete."
)
_CREDENTIAL = "Check account=, and whether the key is current or the signature has expired."
_AGAIN = (ExitCode.TRY_AGAIN, "Start the upload again, once no other job writes to the same place.")
# "Common REST API error codes" and "Blob Storage error codes" that say more than the status.
_MEANINGS: Mapping[str, tuple[ExitCode, str]] = {
    "AuthenticationFailed": (ExitCode.NO_PERMISSION, _CREDENTIAL),
    "AuthorizationFailure": (ExitCode.NO_PERMISSION, f"{_CREDENTIAL} The account's firewall may be what refuses it, too."),
    "AuthorizationPermissionMismatch": (ExitCode.NO_PERMISSION, _ROLES),
    "InsufficientAccountPermissions": (ExitCode.NO_PERMISSION, _ROLES),
    "AuthorizationServiceMismatch": (ExitCode.NO_PERMISSION, _ROLES),
    "AuthorizationResourceTypeMismatch": (ExitCode.NO_PERMISSION, _ROLES),
    "KeyBasedAuthenticationNotPermitted": (
        ExitCode.NO_PERMISSION,
        "The account allows no keys: give the pod's service account an identity, and leave account_key out.",
    ),
    "NoAuthenticationInformation": (ExitCode.NO_PERMISSION, "The container is not public: give a credential."),
    "PublicAccessNotPermitted": (ExitCode.NO_PERMISSION, "The container is not public: give a credential."),
    "ContainerNotFound": (ExitCode.NOT_FOUND, "Check account= and the container's name."),
    "ResourceNotFound": (ExitCode.NOT_FOUND, "Check the URI, and give a credential unless the container is public."),
    "BlobArchived": (ExitCode.NOT_FOUND, "Move it out of the archive tier first."),
    "InvalidBlockList": _AGAIN,  # somebody else has completed an upload of the same blob
    "Md5Mismatch": _AGAIN,
}  # fmt: skip


class Container:
    """One container, with one credential.

    Args:
        name: the container's name.
        access: the credential, and where the account is.

    Raises:
        FetchError: USAGE: there is no account.
    """

    def __init__(self, name: str, access: Access) -> None:
        resolved = access.resolved()
        self.name = name
        self.http = Http()
        self._base = f"{resolved.endpoint}/{name}"
        self._credential = Credential(name, resolved)

    def uri(self, key: str = "") -> str:
        """See `tunewright_launcher.objects.Bucket`."""
        return format_uri(self.name, key)

    def pages(self, prefix: str) -> Iterator[Page]:
        """See `tunewright_launcher.objects.Bucket`."""
        query = {"restype": "container", "comp": "list", "include": "metadata", "prefix": prefix}
        root = self._page(prefix, query)
        while True:
            following = root.findtext("NextMarker") or ""
            yield Page([_object(blob) for blob in root.iterfind("Blobs/Blob")], bool(following))
            if not following:
                return
            if query.get("marker") == following:
                raise stands_still(self.uri(prefix))
            query["marker"] = following
            root = retry(lambda: self._page(prefix, query), _PATIENCE, lambda *_: None)

    def _page(self, prefix: str, query: Mapping[str, str]) -> ET.Element:
        what = self.uri(prefix)
        _, body = self.ask(what, self.request(query=query))
        try:
            root = ET.fromstring(body)  # noqa: S314 - expat limits the expansion of entities
        except ET.ParseError:
            root = None
        if root is None or root.tag != "EnumerationResults":
            cause = f"The request for {what} was answered with something that is not a listing."
            remedy = "Check endpoint, and a proxy in between."
            raise FetchError(cause, remedy=remedy, code=ExitCode.BAD_DATA)
        return root

    def get(self, key: str, validator: str | None = None) -> HttpRequest:
        """Return the request for a blob, of one version if it is given."""
        return self.request(key, headers={"If-Match": validator} if validator else None)

    def request(
        self,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> HttpRequest:
        """Return a request for a blob, or for the container, with the credential.

        Args:
            key: the blob's name; "" for the container.
            query: not percent-encoded.
            method: GET, PUT or DELETE.
            headers: further headers.
            body: the body.
        """
        signed = "&".join(filter(None, (urlencode(query or {}, quote_via=quote), self._credential.query())))
        path = f"/{quote(key)}" if key else ""
        return HttpRequest(
            url=f"{self._base}{path}{'?' if signed else ''}{signed}",
            method=method,
            headers={"x-ms-version": _VERSION, **self._credential.headers(), **(headers or {})},
            body=body,
        )

    def ask(self, what: str, request: HttpRequest, *, also: tuple[int, ...] = ()) -> tuple[Answered, bytes]:
        """Return a successful answer and its body.

        Args:
            what: what is requested, for messages.
            request: the request.
            also: statuses that are no error.

        Raises:
            FetchError: it is refused.
        """
        response, body = self.http.ask(request, _LONGEST_PAGE)
        if response.status >= HTTPStatus.MULTIPLE_CHOICES and response.status not in also:
            raise self.refused(what, response.status, response.headers, body)
        return response, body

    def refused(self, what: str, status: int, headers: Headers, body: bytes) -> FetchError:
        """See `tunewright_launcher.objects.Bucket`; Azure's error codes say more than the status."""
        code = headers.get("x-ms-error-code", "")
        error = refusal(what, answered(status, headers, code or None), body)
        if code not in _MEANINGS:
            return error
        exit_code, remedy = _MEANINGS[code]
        return FetchError(error.cause, remedy=remedy, code=exit_code)


def _is_marked(blob: ET.Element) -> bool:
    """Return whether a blob stands for a folder, as Hadoop marks it; names of metadata have no case."""
    return any(
        found.tag.lower() == "hdi_isfolder" and (found.text or "").lower() == "true"
        for found in blob.iterfind("Metadata/*")
    )


def _object(blob: ET.Element) -> Object:
    name = blob.find("Name")
    key = "" if name is None or name.text is None else name.text
    if name is not None and name.get("Encoded") == "true":
        key = unquote(key)
    properties = {found.tag: found.text or "" for found in blob.iterfind("Properties/*")}
    if properties.get("ResourceType") == "directory" or _is_marked(blob):
        return Object(f"{key}/", 0)  # of an account with real folders; written as other stores have placeholders
    tag = properties.get("Etag", "").strip('"')
    md5 = digits_of(properties.get("Content-MD5", ""))
    digests = (Digest(algorithm="md5", value=md5),) if md5 else ()
    return Object(key, int(properties.get("Content-Length") or 0), f'"{tag}"' if tag else None, digests)
