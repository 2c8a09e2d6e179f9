"""The container half: what the service lists, and the request that reads a file. The engine does the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

from tunewright import SecretRef
from tunewright.providers import Digest, Entry
from tunewright_launcher.http import HttpRequest, HttpSnapshot, refusal

_LONGEST_LISTING = 100 << 20  # bytes
_OK = 200


class ShelfSnapshot(HttpSnapshot):
    """The files below one address.

    Args:
        address: their address.
        token: sent as a bearer token.
    """

    def __init__(self, address: str, token: str | SecretRef | None) -> None:
        super().__init__()
        self._address = address
        self._headers = {"Authorization": f"Bearer {token}"} if token is not None else {}

    def entries(self) -> Iterator[Entry]:
        """List the files. Adapt this to your service: here it answers `?list` with path, size and SHA-256 of each."""
        url = f"{self._address}/?list"
        response, body = self.http.ask(HttpRequest(url=url, headers=self._headers), _LONGEST_LISTING)
        if response.status != _OK:
            raise refusal(url, response, body)
        for file in json.loads(body):
            digest = Digest(algorithm="sha256", value=file["sha256"])
            yield Entry(path=file["path"], size=file["size"], digests=(digest,))

    def request(self, entry: Entry) -> HttpRequest:
        """Return the request for a file; the engine adds the range."""
        return HttpRequest(url=f"{self._address}/{quote(entry.path)}", headers=self._headers)
