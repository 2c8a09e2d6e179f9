"""Read a page of a listing, as stores answer ListObjectsV2; see its page in Amazon S3's API reference.

Some stores know only its predecessor, ListObjects, which names no token: the next page begins after a key.

Botocore interprets a page of 1,000 objects by the model of S3, which takes 25 ms. Of each object, only three fields are needed.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, unquote_plus
from xml.etree import ElementTree as ET

from tunewright_launcher.objects import Object, Page

_ROOT = "ListBucketResult"


class Marker(str):
    """The key after which the next page begins, in place of a token; "" for the first page by ListObjects."""

    __slots__ = ()


class Listed(NamedTuple):
    """An answer.

    Attributes:
        page: the objects.
        token: what asks for the next page; None after the last one.
    """

    page: Page
    token: str | None


def query_of(prefix: str, token: str | None) -> str:
    """Return the query that asks for a page, percent-encoded and sorted by name, as a signature needs it."""
    fields = {"encoding-type": "url", "prefix": prefix}
    if isinstance(token, Marker):
        fields["marker"] = token
    else:
        fields["list-type"] = "2"
        if token is not None:
            fields["continuation-token"] = token
    return "&".join(f"{name}={quote(fields[name], safe='')}" for name in sorted(fields))


def read_page(body: bytes) -> Listed:
    """Return what an answer lists. Keys are decoded if it says that they are encoded: XML cannot hold every character.

    Raises:
        ValueError: it is not a page of a listing.
    """
    try:
        root = ET.fromstring(body)  # noqa: S314 - as botocore does
        space = root.tag.removesuffix(_ROOT)
        if space == root.tag:
            raise ValueError(f"it begins with {root.tag!r}")
        encoded = root.findtext(f"{space}EncodingType") == "url"
        names = tuple(f"{space}{name}" for name in ("Key", "Size", "ETag"))
        objects = [_object(*map(item.findtext, names), encoded=encoded) for item in root.iterfind(f"{space}Contents")]
    except ET.ParseError as error:
        raise ValueError(str(error)) from error
    more = root.findtext(f"{space}IsTruncated") == "true"
    token = root.findtext(f"{space}NextContinuationToken") if more else None
    if more and not token:
        after = root.findtext(f"{space}NextMarker") or ""
        token = Marker((unquote_plus(after) if encoded else after) or (objects[-1].key if objects else ""))
        if not token:
            raise ValueError("it says that more follows, and not how to ask for it")
    return Listed(Page(objects, more), token)


def _object(key: str | None, size: str | None, tag: str | None, *, encoded: bool) -> Object:
    if key is None or size is None:
        raise ValueError("an object has no key, or no size")
    return Object(unquote_plus(key) if encoded else key, int(size), tag)
