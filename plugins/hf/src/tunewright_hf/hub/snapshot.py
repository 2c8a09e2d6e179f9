"""A repository at one revision, as a snapshot for the fetch engine."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import ClassVar

import attrs

from tunewright import ExitCode, FetchError
from tunewright.errors import SourceChanged
from tunewright.providers import Entry, Reader
from tunewright_hf.config.dataset_part import DatasetPart
from tunewright_hf.data.reading.card import NAME as CARD
from tunewright_hf.hub.client import DENIED, Hub
from tunewright_hf.hub.file_selection import of_part
from tunewright_hf.hub.user_cache import UserCache
from tunewright_launcher.http import Headers, HttpRequest, HttpSnapshot, refusal

_LONGEST_CARD = 8 << 20  # bytes
_MOST_ODD_ANSWERS = 3  # about one file, before they are final

Choice = Callable[[Iterator[Entry]], Iterator[Entry]]
"""Selects the files of a repository to fetch."""


class HubSnapshot(HttpSnapshot):
    """A repository at one commit.

    Args:
        hub: the repository; its revision is resolved once.
        choose: selects the files to fetch; None for all.
        folder: restricts the snapshot to this folder; paths are relative to it.

    Raises:
        FetchError: as `Hub.commit`.
    """

    forkable: ClassVar[bool] = True

    def __init__(self, hub: Hub, choose: Choice | None = None, *, folder: str = "") -> None:
        super().__init__(hub.http)
        self._hub = hub
        self._choose = choose
        self._prefix = f"{folder}/" if folder else ""
        self._cache = UserCache(hub.repo)
        self._odd: Counter[str] = Counter()
        self.revision: str = hub.commit()

    def entries(self) -> Iterator[Entry]:
        """See `Snapshot.entries`."""
        tree = self._hub.tree(self.revision, self._prefix.rstrip("/"))
        if self._prefix:
            tree = (attrs.evolve(e, path=e.path.removeprefix(self._prefix), source=e.path) for e in tree)
        return self._choose(tree) if self._choose else tree

    def request(self, entry: Entry) -> HttpRequest:
        """See `HttpSnapshot.request`."""
        return self._hub.file(self.revision, entry.source or entry.path)

    def refusal(self, entry: Entry, status: int, headers: Headers, body: bytes) -> FetchError | None:
        """See `HttpSnapshot.refusal`."""
        if status in DENIED and not headers.get("X-Error-Code") and self._may_pass(entry):
            cause = f"The store behind the Hub answered {status} for {entry.path}: its URL may have expired."
            return FetchError(cause, remedy="The Hub will be asked for a new one.", code=ExitCode.TRY_AGAIN)
        return self._hub.refused(status, headers, body, entry.path)

    def is_other(self, entry: Entry, headers: Headers) -> bool:
        """See `HttpSnapshot.is_other`."""
        del entry
        return headers.get("X-Repo-Commit") not in (None, self.revision)

    def read(self, path: str, longest: int) -> bytes:
        """Return the contents of a short file of the commit.

        Raises:
            FetchError: as `Hub.commit`; BAD_DATA: it is longer.
        """
        response, body = self._hub.http.ask(self._hub.file(self.revision, path), longest)
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise self._hub.refused(response.status, response.headers, body, path) or refusal(path, response, body)
        return body

    @contextlib.contextmanager
    def open(self, entry: Entry, start: int, stop: int) -> Iterator[Reader]:
        """See `Snapshot.open`."""
        try:
            with self._cache.open(entry, start, stop) as cached:
                if cached is not None:
                    yield cached
                    return
            with super().open(entry, start, stop) as reader:
                yield reader
        except SourceChanged as error:
            code = ExitCode.TRY_AGAIN if self._may_pass(entry) else ExitCode.BAD_DATA
            cause = f"The Hub sent a file other than {entry.path} of the commit {self.revision}: {error.cause}"
            raise FetchError(cause, remedy="If this persists, tell the operator of the Hub.", code=code) from error

    def _may_pass(self, entry: Entry) -> bool:
        """Return whether an odd answer may come from a proxy in between, as a commit cannot change. The third is final."""
        self._odd[entry.path] += 1
        return self._odd[entry.path] < _MOST_ODD_ANSWERS


class DatasetSnapshot(HubSnapshot):
    """The files of a dataset at one commit, or of a part of it.

    Args:
        hub: the repository.
        choose: selects the files that may be fetched.
        part: which configuration and split of the dataset.

    Raises:
        FetchError: as `Hub.commit`; NOT_FOUND: there is no such configuration or split, or several and none is named.
    """

    def __init__(self, hub: Hub, choose: Choice, *, part: DatasetPart) -> None:
        super().__init__(hub)
        self._allowed = choose
        self._part = part

    def entries(self) -> Iterator[Entry]:
        """See `Snapshot.entries`. The card is read first if it says what belongs to the part."""
        if self._part.config is None and self._part.split is None:
            return self._allowed(super().entries())
        there = list(super().entries())
        has_card = any(entry.path == CARD for entry in there)
        card = self.read(CARD, _LONGEST_CARD).decode(errors="replace") if has_card else ""
        return of_part(self._allowed(iter(there)), self._part, card, self._hub.repo.uri)
