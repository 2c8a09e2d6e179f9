"""Parse the URL of a file, or of a folder with a list of its files, on a web server."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import SplitResult, unquote, urlsplit

import attrs

from tunewright import RequestError
from tunewright.providers import refuse_literal_tokens

FORM = "https://host/path/file, or https://host/folder/ for the files that a SHA256SUMS in the folder lists"
_UNSAFE = set("/\\\0")
_LENGTH = 8  # hexadecimal digits
# Parameters of the signatures of stores and content networks, and whatever says that it is a credential.
_OF_SIGNATURES = re.compile(
    r"x-[a-z]+-.*|sig|.*signature.*|s[eprtv]|spr|sip|sk[a-z]+|expires?|exp|policy|key-pair-id|.*accesskeyid|googleaccessid"
    r"|.*(token|key|secret|password|credential|auth|hmac|hdn).*",
    re.IGNORECASE,
)


@attrs.frozen(kw_only=True)
class Place:
    """Where something is on a web server.

    Attributes:
        url: the URL, without a query.
        origin: scheme, host and port.
        name: the name of the file; "" for a folder.
    """

    url: str
    origin: tuple[str, str]
    name: str

    @property
    def folder(self) -> str:
        """The URL of the folder: of this one, or of the one that the file is in."""
        return self.url[: self.url.rindex("/") + 1]


def split_query(uri: str) -> tuple[str, str | None]:
    """Return a URL without its query, and the query; None if it has none."""
    url, mark, query = uri.partition("?")
    return url, query if mark else None


def query_id(query: str) -> str:
    """Return a short digest of what a query asks for: of its parameters, without those of a signature or credential.

    Two URLs that differ only in these name the same file. The digest is too short to find out from it what is in the query.
    """
    asked = sorted(part for part in query.split("&") if not _OF_SIGNATURES.fullmatch(unquote(part.partition("=")[0])))
    return hashlib.sha256("&".join(asked).encode()).hexdigest()[:_LENGTH] if asked else ""


def parse_uri(uri: str, field: str = "uri") -> Place:
    """Return what a URL without a query names.

    Raises:
        RequestError: it is not the URL of a file or folder on a web server, or it contains a credential.
    """
    refuse_literal_tokens(uri, field, "Pass credentials in the fields for them: token=, or username= and password=.")
    parts = _split(uri, field)
    if "@" in parts.netloc:  # the message leaves the value out: a user name may be a token
        remedy = "Pass token=, or username= and password=."
        raise RequestError("contains a user name or password", field=field, remedy=remedy)
    if not uri.isascii() or not uri.isprintable() or " " in uri:
        remedy = "Write spaces and letters beyond ASCII percent-encoded, as the address bar of a browser copies them."
        raise RequestError("has characters that a URL cannot have", field=field, value=uri, remedy=remedy)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment or "#" in uri:
        raise RequestError("is not the URL of a file on a web server", field=field, value=uri, remedy=f"Write {FORM}.")
    path = unquote(parts.path)
    name = path.rpartition("/")[2] if "/" in parts.path else ""
    inside = unquote(parts.path.rpartition("/")[2])
    if {".", ".."} & set(path.split("/")) or not path.isprintable() or _UNSAFE & set(inside):
        raise RequestError("has a path that leads elsewhere", field=field, value=uri, remedy=f"Write {FORM}.")
    url = uri if parts.path else f"{uri}/"
    return Place(url=url, origin=(parts.scheme, parts.netloc.lower()), name=name)


def _split(uri: str, field: str) -> SplitResult:
    try:
        parts = urlsplit(uri)
        _ = parts.port  # raises if it is not a port
    except ValueError:
        raise RequestError("is not a URL", field=field, remedy=f"Write {FORM}.") from None
    return parts
