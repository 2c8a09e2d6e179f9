"""A folder of a WebDAV server, as the pod sees it: RFC 4918, as far as servers agree on it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree as ET

from tunewright import ExitCode, FetchError
from tunewright_http.server import Server, is_tag, plain
from tunewright_launcher.http import Answered, Headers, HttpRequest, answered, refusal, shown, status_of, words_of
from tunewright_launcher.objects import Object, Page

_LONGEST_ANSWER = 64 << 20
_ASKED = b"""<?xml version="1.0" encoding="utf-8"?>
<propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/><getetag/><getlastmodified/></prop></propfind>"""
_NONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_ALLOW = "Let the server accept PUT, DELETE, MKCOL and PROPFIND there, which is WebDAV, or give another output."
# Refusals of a method whose status says less, or something else, than for a download.
_MEANINGS: Mapping[int, tuple[ExitCode, str]] = {
    HTTPStatus.UNAUTHORIZED: (ExitCode.NO_PERMISSION, "Give a credential that may write there: token=, or username= and password=."),
    HTTPStatus.FORBIDDEN: (ExitCode.NO_PERMISSION, f"Give a credential that may write there. {_ALLOW}"),
    HTTPStatus.METHOD_NOT_ALLOWED: (ExitCode.NO_PERMISSION, _ALLOW),
    HTTPStatus.NOT_IMPLEMENTED: (ExitCode.NO_PERMISSION, _ALLOW),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (ExitCode.BAD_DATA, "Let the server, and proxies before it, accept larger files."),
    HTTPStatus.LOCKED: (ExitCode.TRY_AGAIN, "Wait until nobody has the file locked."),
    HTTPStatus.INSUFFICIENT_STORAGE: (ExitCode.NO_SPACE, "Make room on the server, or raise the quota."),
}  # fmt: skip


class _Found(NamedTuple):
    """What a listing of a folder has.

    Attributes:
        path: on the server, percent-decoded, without a `/` at its end.
        is_folder: whether it is one.
        size: bytes of a file.
        version: as `Object.validator`.
        changed: the time of the last change.
    """

    path: str
    is_folder: bool
    size: int
    version: str | None
    changed: str | None


class DavFolder:
    """A folder of a server, and what is below it, by relative paths: a bucket, as `tunewright_launcher.objects` calls it.

    Args:
        server: the server.
        url: of the folder, with a `/` at its end.
    """

    def __init__(self, server: Server, url: str) -> None:
        self.server, self.url = server, url
        self.http = server.http

    def at(self, key: str) -> str:
        """Return the URL of a file, or of a folder with a `/` at its end; "" is the folder itself."""
        return f"{self.url}{quote(key, errors='surrogateescape')}"

    def above(self) -> DavFolder | None:
        """Return the folder that this one is in; None for all that the server has."""
        parts = urlsplit(self.url)
        path = parts.path.rstrip("/")
        return (
            DavFolder(self.server, f"{parts.scheme}://{parts.netloc}{path[: path.rindex('/') + 1]}") if path else None
        )

    def uri(self, key: str = "") -> str:
        """See `tunewright_launcher.objects.Bucket`."""
        return shown(self.at(key))

    def get(self, key: str) -> HttpRequest:
        """See `tunewright_launcher.objects.Bucket`."""
        return self.server.request(self.at(key))

    def pages(self, prefix: str) -> Iterator[Page]:
        """Yield the files below a folder, which is "" or ends with `/`, in one page; see `tunewright_launcher.objects.Bucket`."""
        yield Page(list(self._below(prefix)), False)

    def _below(self, prefix: str) -> Iterator[Object]:
        # One folder after the other: servers need not tell about all that is below, and the usual ones refuse to.
        folders = [prefix]
        while folders:
            here = folders.pop()
            for found in self.listing(here):
                key = f"{here}{found.path.rpartition('/')[2]}"
                if found.is_folder:
                    folders.append(f"{key}/")
                else:
                    yield Object(key, found.size, found.version)

    def listing(self, folder: str) -> list[_Found]:
        """Return what is directly in a folder; nothing if it does not exist.

        Raises:
            FetchError: it cannot be listed.
        """
        found, _ = self._find(folder, depth=1)
        # The folder itself is among them, by the path that it has behind a proxy, too.
        own = unquote(urlsplit(self.at(folder)).path, errors="surrogateescape").rstrip("/")
        if all(one.path != own for one in found):
            own = min((one.path for one in found), key=len, default=own)
        return [one for one in found if one.path != own]

    def settled(self, key: str) -> Object | None:
        """Return a file in a version that a later change of the file does not have; None if it does not exist. It may take a second.

        Some servers tell versions by the time of the last change in seconds, also in their entity tags.

        Raises:
            FetchError: the server does not say.
        """
        found, headers = self._find(key, depth=0)
        if not found or found[0].is_folder:
            return None
        file, changed = found[0], _seconds(found[0].changed)
        if changed >= _seconds(headers.get("Date")) and _is_of_seconds(file.version, changed):
            time.sleep(1)
        return Object(key, file.size, file.version)

    def _find(self, key: str, depth: int) -> tuple[list[_Found], Headers]:
        headers = {"Depth": str(depth), "Content-Type": "application/xml; charset=utf-8"}
        response, body = self.ask("PROPFIND", key, headers=headers, body=_ASKED)
        if response.status in _NONE:
            return [], response.headers
        if response.status != HTTPStatus.MULTI_STATUS:
            raise self.refused_to("list", key, response, body)
        try:
            root = ET.fromstring(body)  # noqa: S314 - expat limits the expansion of entities
        except ET.ParseError as error:
            cause = f"The request to list {self.uri(key)} was answered with something that is not a listing."
            remedy = "Check the URI, and a proxy in between."
            raise FetchError(cause, remedy=remedy, code=ExitCode.BAD_DATA) from error
        return [_read(element) for element in root.iterfind("{DAV:}response")], response.headers

    def ask(
        self, method: str, key: str, *, headers: Mapping[str, str] | None = None, body: bytes | Path | None = None
    ) -> tuple[Answered, bytes]:
        """Send a request, and return the answer, whatever its status.

        Raises:
            FetchError: the server does not respond, or leads elsewhere.
        """
        url = self.at(key)
        request = self.server.request(url, method=method, headers=headers, body=body)
        response, said = self.http.ask(request, _LONGEST_ANSWER)
        there = urlsplit(self.http.answered_by)
        if (there.scheme, there.netloc) != urlsplit(url)[:2]:
            cause = f"{self.uri(key)} redirects to {there.scheme}://{there.netloc}, which gets neither the credential nor the files."
            raise FetchError(cause, remedy="Give the URL there.", code=ExitCode.USAGE)
        return response, said

    def refused(self, what: str, status: int, headers: Headers, body: bytes) -> FetchError:
        """See `tunewright_launcher.objects.Bucket`."""
        return refusal(what, answered(status, headers), body)

    def refused_to(self, do: str, key: str, response: Answered, body: bytes) -> FetchError:
        """Return the error for an unsuccessful request to change or list something, with the server's own words."""
        usual = refusal(self.uri(key), response, body)
        code, remedy = _MEANINGS.get(response.status, (usual.code, usual.remedy))
        cause = f"The request to {do} {self.uri(key)} failed with {status_of(response)}.{words_of(body)}"
        return FetchError(cause, remedy=remedy, code=code, retry_after=usual.retry_after)


def _read(response: ET.Element) -> _Found:
    properties = {
        found.tag: found
        for part in response.iterfind("{DAV:}propstat")
        if " 200 " in f"{part.findtext('{DAV:}status')} "
        for found in part.iterfind("{DAV:}prop/*")
    }
    texts = {tag.removeprefix("{DAV:}"): (found.text or "").strip() for tag, found in properties.items()}
    kind = properties.get("{DAV:}resourcetype")
    path = unquote(urlsplit((response.findtext("{DAV:}href") or "").strip()).path, errors="surrogateescape")
    size = texts.get("getcontentlength", "")
    return _Found(
        path=path.rstrip("/"),
        is_folder=kind is not None and kind.find("{DAV:}collection") is not None,
        size=int(size) if size.isdecimal() else 0,
        version=f'"{tag}"' if (tag := _tag(texts)) else texts.get("getlastmodified") or None,
        changed=texts.get("getlastmodified"),
    )


def _tag(texts: Mapping[str, str]) -> str:
    """Return the entity tag without its quotes, which some servers leave out of listings."""
    return (plain(texts.get("getetag")) or "").strip('"')


def _seconds(date: str | None) -> int:
    """Return a date of HTTP in seconds; the end of time for none, and for something else."""
    try:
        return int(parsedate_to_datetime(date or "").timestamp())
    except ValueError:
        return sys.maxsize


def _is_of_seconds(version: str | None, changed: int) -> bool:
    """Return whether a version is no more than the time of the last change in seconds, or made of it, as nginx and WsgiDAV do."""
    return version is not None and (not is_tag(version) or str(changed) in version or f"{changed:x}" in version)
