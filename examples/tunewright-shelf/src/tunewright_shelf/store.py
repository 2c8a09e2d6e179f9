"""The container half of uploads. The launcher decides what is uploaded and when."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from tunewright import ExitCode, FetchError, SecretRef
from tunewright.providers import Entry, Snapshot, Store
from tunewright_shelf.container import ShelfSnapshot
from tunewright_launcher.http import Http, HttpRequest, refusal

_LONGEST_ANSWER = 1 << 20  # bytes
_FIRST_REFUSAL = 300  # a status


class ShelfStore(Store):
    """The files below one address.

    Args:
        address: their address.
        token: sent as a bearer token.
    """

    def __init__(self, address: str, token: str | SecretRef | None) -> None:
        self._address, self._token, self._http = address, token, Http()

    def entries(self, folder: str) -> Iterator[Entry]:
        """List the files below a folder, with paths relative to the address."""
        prefix = f"{folder}/" if folder else ""
        try:
            yield from (e for e in ShelfSnapshot(self._address, self._token).entries() if e.path.startswith(prefix))
        except FetchError as error:
            if error.code is not ExitCode.NOT_FOUND:  # nothing was uploaded yet
                raise

    def upload(self, files: Mapping[str, Path]) -> None:
        """Write each file; the service compares its digest, and refuses another. Stream large files with your library."""
        for path, file in files.items():
            data = file.read_bytes()
            self._send("PUT", path, data, **{"Content-SHA256": hashlib.sha256(data).hexdigest()})

    def remove(self, folder: str) -> None:
        """Remove everything below a folder."""
        self.remove_files([entry.path for entry in self.entries(folder)])

    def remove_files(self, paths: Collection[str]) -> None:
        """Remove files of an earlier result."""
        for path in paths:
            self._send("DELETE", path)

    def snapshot(self, folder: str) -> Snapshot:
        """Return a folder, to be downloaded again."""
        return ShelfSnapshot(f"{self._address}/{folder}".rstrip("/"), self._token)

    def _send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> None:
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        url = f"{self._address}/{quote(path)}"
        request = HttpRequest(url=url, method=method, body=body, headers=headers)
        response, said = self._http.ask(request, _LONGEST_ANSWER)
        if response.status >= _FIRST_REFUSAL:
            raise refusal(url, response, said)
