"""What Kaggle has: one archive, fetched by the engine in ranges, and then unpacked and compared with the listing."""

from __future__ import annotations

import base64
import binascii
import http.client
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

from tunewright import ExitCode, FetchError
from tunewright.snapshots import Digest, Entry
from tunewright_kaggle.api import Account, Api
from tunewright_kaggle.archive import unpack
from tunewright_kaggle.uri import KaggleCompetition, KaggleHandle
from tunewright_launcher.http import HttpRequest, HttpSnapshot

ARCHIVE = ".kaggle-archive"


class KaggleSnapshot(HttpSnapshot):
    """One version of a dataset or model, or a competition's data.

    Args:
        handle: what to fetch.
        account: who asks.
        selects: whether a file is wanted.

    Raises:
        FetchError: NOT_FOUND, NO_PERMISSION, UNAVAILABLE.
    """

    def __init__(self, handle: KaggleHandle, account: Account, selects: Callable[[str], bool]) -> None:
        super().__init__()
        self._api = Api(account, self.http)
        self._handle = self._api.pin(handle)
        self._selects = selects
        self._listed: dict[str, int] = {}
        version = None if isinstance(self._handle, KaggleCompetition) else self._handle.version
        self.revision = None if version is None else str(version)

    def entries(self) -> Iterator[Entry]:
        """The archive, once all that is in it has been listed."""
        self._listed = {file.path: file.size for file in self._api.files(self._handle)}
        wanted = [path for path in self._listed if self._selects(path)]
        if not wanted:
            cause = f"{self._handle.uri} has {len(self._listed)} files, and none of them is selected."
            raise FetchError(cause, remedy="Check the URI and the patterns.", code=ExitCode.NOT_FOUND)
        self.extra_space = sum(self._listed[path] for path in wanted)
        yield self._archive()

    def _archive(self) -> Entry:
        response, _ = self.http.send(self._api.archive(self._handle))
        try:
            if response.status >= HTTPStatus.BAD_REQUEST:
                response.read(1 << 16)
                raise self._api.refused(self._handle, response)
            length = response.getheader("Content-Length") or ""
            if not length.isdecimal():
                cause = f"The store does not say how large the archive of {self._handle.uri} is."
                raise FetchError(cause, remedy="It is tried again.", code=ExitCode.TRY_AGAIN)
            tag = response.getheader("ETag")
            return Entry(path=ARCHIVE, size=int(length), validator=tag, digests=_digests(response.headers))
        finally:
            self.http.close_unread(response)  # its body comes in ranges

    def request(self, entry: Entry) -> HttpRequest:
        """Kaggle redirects to a store, with a signed URL that is asked for again when it expires."""
        del entry
        return self._api.archive(self._handle)

    def refusal(self, entry: Entry, status: int, headers: http.client.HTTPMessage, body: bytes) -> FetchError | None:
        """A signed URL that has expired in the middle of the archive: the next try gets a new one."""
        del headers, body
        if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN):
            cause = f"The store of {self._handle.uri} answered {status} to a part of {entry.path}."
            return FetchError(cause, remedy="It is tried again.", code=ExitCode.TRY_AGAIN)
        return None

    def finish(self, folder: Path) -> None:
        """Unpack the archive, and remove it."""
        archive = folder / ARCHIVE
        unpack(archive, folder, self._listed, self._selects)
        archive.unlink()


def _digests(headers: http.client.HTTPMessage) -> tuple[Digest, ...]:
    """Google's store tells the MD5 of an object: `x-goog-hash: crc32c=…,md5=…`, in base64."""
    found = []
    for header in headers.get_all("x-goog-hash") or ():
        for part in header.split(","):
            algorithm, _, value = part.strip().partition("=")
            if algorithm == "md5":
                try:
                    found.append(Digest(algorithm="md5", value=base64.b64decode(value, validate=True).hex()))
                except binascii.Error:
                    continue
    return tuple(found)
