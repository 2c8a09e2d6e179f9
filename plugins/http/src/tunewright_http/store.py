"""Write outputs and checkpoints to a folder of a WebDAV server."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path

import attrs

from tunewright import ExitCode, FetchError
from tunewright.providers import MARKER, Digest, Entry, Snapshot
from tunewright_http.dav import DavFolder
from tunewright_http.server import is_other
from tunewright_launcher.http import LONGEST_SUMS, Headers, Sums, reading
from tunewright_launcher.objects import Object, ObjectSnapshot, ObjectStore

_BLOCK = 1 << 20
_NO_FOLDER = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
_GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_TRIES = 3  # of an upload into a folder that somebody else removes meanwhile


class DavSnapshot(ObjectSnapshot):
    """The files below a folder, each in the version that was listed."""

    def is_other(self, entry: Entry, headers: Headers) -> bool:
        """See `HttpSnapshot.is_other`."""
        return is_other(entry.validator, headers)


class DavStore(ObjectStore):
    """The files below a folder, for writing. Each is read again, as WebDAV has no digests to be compared by the server.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: DavFolder) -> None:
        super().__init__(folder, "")
        self._dav = folder
        self._made: set[str] = set()
        self._making = threading.Lock()

    def check_writable(self) -> None:
        """See `Store.check_writable`; the folder has to be listed, too, to find what an earlier result has left."""
        super().check_writable()
        self._dav.listing("")

    def entries(self, folder: str) -> Iterator[Entry]:
        """See `Store.entries`; files that are still those that the folder's marker names have the digests in there."""
        prefix = self.prefix(folder)
        known = self._marked(f"{prefix}{MARKER}")
        for entry in super().entries(folder):
            found = known.get(entry.path.removeprefix(prefix), {})
            if entry.validator is not None and entry.validator == found.get("version"):
                digest = Digest(algorithm="sha256", value=str(found["sha256"]))
                yield attrs.evolve(entry, digests=(digest,))
            else:
                yield entry

    def _marked(self, key: str) -> Mapping[str, Mapping[str, object]]:
        response, body = self._dav.http.ask(self._dav.get(key), LONGEST_SUMS)
        if response.status != HTTPStatus.OK or Sums.of_marker(key, body) is None:
            return {}
        return dict(json.loads(body)["files"])

    def snapshot(self, folder: str) -> Snapshot:
        """See `Store.snapshot`."""
        return DavSnapshot(self._dav, self.prefix(folder))

    def send(self, key: str, file: Path) -> str | None:
        """Upload a file, unless it is there already, and read it again."""
        size = file.stat().st_size
        with file.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        found = self._stored(key, size, sha256)
        if found is None:
            self._put(key, file)
            found = self._stored(key, size, sha256, sent=True)
        if found is None:
            cause = f"{self._dav.uri(key)} has other contents than were sent."
            remedy = "Start the upload again. If this persists, tell the operator of the server."
            raise FetchError(cause, remedy=remedy, code=ExitCode.TRY_AGAIN)
        return found.validator

    def delete_one(self, key: str) -> None:
        """See `ObjectStore.delete_one`."""
        response, body = self._dav.ask("DELETE", key)
        if response.status >= HTTPStatus.MULTIPLE_CHOICES and response.status not in _GONE:
            raise self._dav.refused_to("delete", key, response, body)

    def remove(self, folder: str) -> None:
        """See `Store.remove`. The folder itself is removed, too, where the server does that."""
        if not folder:
            super().remove(folder)
            return
        key = f"{folder}/"
        response, body = self._dav.ask("DELETE", key)
        with self._making:
            self._made = {made for made in self._made if not made.startswith(key)}
        if response.status == HTTPStatus.MULTI_STATUS:  # some of it could not be removed
            super().remove(folder)
        elif response.status >= HTTPStatus.MULTIPLE_CHOICES and response.status not in _GONE:
            raise self._dav.refused_to("delete", key, response, body)

    def _put(self, key: str, file: Path) -> None:
        folder = key[: key.rfind("/") + 1]
        for _ in range(_TRIES):
            refused = self._make(folder)
            response, body = self._dav.ask("PUT", key, body=file)
            if response.status < HTTPStatus.MULTIPLE_CHOICES:
                return
            if response.status not in _NO_FOLDER:
                break
            if refused is not None:
                raise refused
            with self._making:
                self._made.discard(folder)
        raise self._dav.refused_to("upload", key, response, body)

    def _make(self, folder: str) -> FetchError | None:
        """Create a folder, and those above it; return why that is refused, which counts only if they do not exist."""
        with self._making:
            if folder in self._made:
                return None
            refused = _create(self._dav, folder)
            self._made.add(folder)
            return refused

    def _stored(self, key: str, size: int, sha256: str, *, sent: bool = False) -> Object | None:
        """Return the file that the server has, if it has these contents; one that was sent has to be readable."""
        about = self._dav.settled(key)
        if about is None or about.size != size:
            return None
        response, came_from = self._dav.http.send(self._dav.get(key))
        try:
            if sent and response.status >= HTTPStatus.BAD_REQUEST:
                with reading(came_from):
                    raise self._dav.refused_to("read", key, response, response.read(_BLOCK))
            digest, left = hashlib.sha256(), size + 1
            with reading(came_from):
                while left > 0 and (block := response.read(_BLOCK)):
                    digest.update(block)
                    left -= len(block)
        finally:
            self._dav.http.close_unread(response)
        return about if digest.hexdigest() == sha256 else None


def _create(dav: DavFolder, folder: str) -> FetchError | None:
    """Create a folder after those that are missing above it; return why that is refused."""
    response, body = dav.ask("MKCOL", folder)
    if response.status in _NO_FOLDER:
        refused: FetchError | None = None
        if folder:
            refused = _create(dav, folder[: folder.rstrip("/").rfind("/") + 1])
        elif (above := dav.above()) is not None:
            refused = _create(above, "")
        if refused is not None:
            return refused
        response, body = dav.ask("MKCOL", folder)
    if response.status < HTTPStatus.MULTIPLE_CHOICES or response.status == HTTPStatus.METHOD_NOT_ALLOWED:  # it exists
        return None
    return dav.refused_to("create", folder, response, body)
