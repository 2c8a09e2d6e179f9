"""A snapshot on Kaggle: one archive, which the engine fetches in ranges; then it is unpacked and checked by the listing."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path

import attrs

from tunewright import ExitCode, FetchError
from tunewright.providers import Entry
from tunewright_kaggle.api import UNUSABLE, Account, Api, refused
from tunewright_kaggle.uri import KaggleCompetition, KaggleHandle
from tunewright_launcher.archives import holds, unpack
from tunewright_launcher.http import (
    Headers,
    HttpRequest,
    HttpSnapshot,
    check_path,
    digests_in,
    hostile,
    size_of,
    unavailable,
    words_of,
)

ARCHIVE = ".kaggle-archive"
_DENIED = (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN)


class KaggleSnapshot(HttpSnapshot):
    """One version of a dataset or model, or a competition's data.

    Args:
        handle: what to fetch.
        account: the credential.
        selects: returns whether to fetch a file.

    Raises:
        FetchError: NOT_FOUND, NO_PERMISSION, UNAVAILABLE.
    """

    def __init__(self, handle: KaggleHandle, account: Account, selects: Callable[[str], bool]) -> None:
        super().__init__()
        self._api = Api(account, self.http)
        self._handle = self._api.pin(handle)
        self._selects = selects
        self._listed: dict[str, int] = {}
        self._vouched = False
        version = None if isinstance(self._handle, KaggleCompetition) else self._handle.version
        self.revision = None if version is None else str(version)

    def entries(self) -> Iterator[Entry]:
        """Yield the archive, after listing everything in it."""
        self._listed = {}
        for file in self._api.files(self._handle):
            if self._listed.setdefault(file.path, file.size) != file.size:
                raise hostile(file.path, "is listed twice")
        wanted = [path for path in self._listed if self._selects(path)]
        # A listing without folders may lack what is in them; the archive then shows what is selected.
        if not wanted and (not self._listed or any("/" in path for path in self._listed)):
            cause = f"{self._handle.uri} has {len(self._listed)} files, but none of them is selected."
            raise FetchError(cause, remedy="Check the URI and the patterns.", code=ExitCode.NOT_FOUND)
        for path in wanted:
            check_path(path)
            if path == ARCHIVE:
                raise hostile(path, "has the temporary name of the archive itself")
        self.extra_space = sum(self._listed[path] for path in wanted)
        yield self._archive()

    def _archive(self) -> Entry:
        asked = self._api.archive(self._handle)
        # One byte is enough: the headers contain the rest, and the connection can be reused.
        response, url = self.http.send(attrs.evolve(asked, headers={**asked.headers, "Range": "bytes=0-0"}))
        try:
            body = response.read(1 << 16) if response.status >= HTTPStatus.BAD_REQUEST else response.read(1)
        except (http.client.HTTPException, OSError) as error:
            raise unavailable(url, error) from error
        finally:
            self.http.close_unread(response)
        if response.status >= HTTPStatus.BAD_REQUEST:
            own = response.status in _DENIED and url != asked.url  # the store's refusal, not Kaggle's
            raise self._store_refuses(response.status, body) if own else refused(self._handle, response, body)
        size = size_of(response)
        if size is None:
            cause = f"The store does not report the size of the archive of {self._handle.uri}."
            raise FetchError(cause, remedy=UNUSABLE, code=ExitCode.TRY_AGAIN)
        tag = response.getheader("ETag")
        digests = digests_in(response.headers, partial=True, among=("md5",))
        self._vouched = bool(digests)
        return Entry(path=ARCHIVE, size=size, validator=tag, digests=digests)

    def request(self, entry: Entry) -> HttpRequest:
        """See `HttpSnapshot.request`. Kaggle redirects to a store with a signed URL, which is renewed when it expires."""
        del entry
        return self._api.archive(self._handle)

    def refusal(self, entry: Entry, status: int, headers: Headers, body: bytes) -> FetchError | None:
        """See `HttpSnapshot.refusal`. If a signed URL has expired in the middle of the archive, a retry gets a new one."""
        del entry, headers
        return self._store_refuses(status, body) if status in _DENIED else None

    def is_other(self, entry: Entry, headers: Headers) -> bool:
        """See `HttpSnapshot.is_other`. A competition's data may change while it is fetched."""
        tag = headers.get("ETag")
        return entry.validator is not None and tag is not None and tag != entry.validator

    def _store_refuses(self, status: int, body: bytes) -> FetchError:
        cause = f"The store answered {status} to a request for a part of {self._handle.uri}.{words_of(body)}"
        remedy = "Start it again, which asks for a new URL. If this persists, check for a proxy between the step and the store."
        return FetchError(cause, remedy=remedy, code=ExitCode.TRY_AGAIN)

    def _alone(self, archive: Path) -> str | None:
        """Return the path of a single file, which Kaggle does not always put into an archive; None for an archive."""
        if [*self._listed.values()] != [archive.stat().st_size]:
            return None
        path = next(iter(self._listed))
        return None if holds(archive, path) else path

    def finish(self, folder: Path) -> Mapping[str, str]:
        """Unpack the archive, and remove it."""
        archive = folder / ARCHIVE
        if (path := self._alone(archive)) is not None:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            archive.rename(folder / path)
            with (folder / path).open("rb") as file:
                return {path: hashlib.file_digest(file, "sha256").hexdigest()}
        digests = unpack(archive, folder, self._listed, self._selects, vouched=self._vouched)
        archive.unlink()
        if not digests:
            cause = f"{self._handle.uri} has no file that is selected."
            raise FetchError(cause, remedy="Check the patterns.", code=ExitCode.NOT_FOUND)
        return digests
