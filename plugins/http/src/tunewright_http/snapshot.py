"""A file, or the files that a list names, on a web server, as a snapshot for the fetch engine."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ClassVar
from urllib.parse import quote

import attrs

from tunewright import ExitCode, FetchError
from tunewright.errors import SourceChanged
from tunewright.providers import MARKER, Digest, Entry, Reader
from tunewright_http.server import Server, is_other
from tunewright_http.uri import Place
from tunewright_launcher.http import (
    LONGEST_SUMS,
    SUMS_NAME,
    Headers,
    HttpRequest,
    HttpSnapshot,
    Sums,
    answered,
    check_path,
    digests_in,
    retry,
)

_ASKED_AT_ONCE = 16
# Seconds for which a question about one of many files is asked again, so that the answers about others are not lost.
_PATIENCE = 20.0
# The same for a list that nobody asked for: some servers answer 500 to whatever they do not have.
_PATIENCE_UNASKED = 3.0
_DECIDES = f"give sha256=, or put a list {SUMS_NAME} beside the file, which decide then."
_LONGEST_LINE = 100  # characters that are shown


class HttpFiles(HttpSnapshot):
    """One file, or the files of a folder that a list of digests names.

    The version of each file is what the server says of it: its digest, its entity tag, or the time of its last change. Where a list or
    the user gives the digest, that alone decides. A folder that an output was uploaded to has the list of its marker.

    Args:
        server: the server.
        place: the file or folder.
        selects: returns whether to fetch a relative path.
        manifest: name of the list in the folder.
        sha256: SHA-256 of the one file.
        file_name: name of the one file, instead of the one in the URL.
    """

    forkable: ClassVar[bool] = True

    def __init__(
        self,
        server: Server,
        place: Place,
        *,
        selects: Callable[[str], bool] = lambda _: True,
        manifest: str,
        sha256: str | None = None,
        file_name: str | None = None,
    ) -> None:
        super().__init__(server.http)
        self._server = server
        self._place = place
        self._selects = selects
        self._manifest = manifest
        self._sha256 = sha256
        self._name = file_name or place.name

    def entries(self) -> Iterator[Entry]:
        """Yield the file, or those that the list names."""
        if self._place.name:
            try:
                yield self._file()
            except FetchError as error:
                if error.code.may_pass:
                    raise
                folder = attrs.evolve(self._place, url=f"{self._place.url}/", name="")
                if self._sha256 is not None or not (sums := self._marker(folder)):
                    raise
                self._place = folder  # of an output, which users need not write with a "/" at its end
                yield from self._folder(sums)
            return
        yield from self._folder(self._marker(self._place) or self._list())

    def _folder(self, sums: Sums) -> Iterator[Entry]:
        paths = [path for path in sums.known if self._selects(path)]
        if not paths:
            cause = f"{sums.name} in {self._place.url} lists {len(sums.known)} files, but none of them is selected."
            raise FetchError(cause, remedy="Check the patterns.", code=ExitCode.NOT_FOUND)
        yield from self._listed(paths, sums)

    def _file(self) -> Entry:
        return self._entry(self._name, self._place.url, self._known_digests())

    def _marker(self, folder: Place) -> Sums | None:
        """Return the files that the marker of an output names; None for a folder without one, or if the user names another list."""
        if self._manifest != SUMS_NAME:
            return None
        try:
            text = self._server.text(f"{folder.url}{MARKER}", LONGEST_SUMS)
        except FetchError as error:
            if error.code.may_pass:
                raise
            return None
        return Sums.of_marker(MARKER, text) if text else None

    def _known_digests(self) -> tuple[Digest, ...]:
        """Return the digest of the one file, if the user gives it, or a list beside it does."""
        if self._sha256 is not None:
            return (Digest(algorithm="sha256", value=self._sha256.lower()),)
        try:
            url = f"{self._place.folder}{quote(self._manifest)}"
            text = retry(lambda: self._server.text(url, LONGEST_SUMS), _PATIENCE_UNASKED, lambda *_: None)
        except FetchError:  # whatever is wrong with a list that nobody asked for
            return ()
        return Sums.read(text or b"").see(self._place.name) or ()

    def _list(self) -> Sums:
        url = f"{self._place.folder}{quote(self._manifest)}"
        text = self._server.text(url, LONGEST_SUMS)
        remedy = (
            f"Write it in the folder: find . -type f ! -name {self._manifest} -exec sha256sum {{}} + > {self._manifest}"
        )
        if text is None:
            cause = f"{self._place.url} is a folder, and it has no list of its files: there is no {self._manifest}."
            remedy = f"Give its name if there is a list with another one, manifest=; or name one file. {remedy}."
            raise FetchError(cause, remedy=remedy, code=ExitCode.NOT_FOUND)
        sums = Sums.read(text, self._manifest)
        if sums.unread is not None or not sums.known:  # the line may be about a file that would be left out
            line = f": {sums.unread[:_LONGEST_LINE]!r} is not one" if sums.unread else ""
            cause = f"{url} is not a list of the digests of files, of SHA-256, SHA-512, SHA-1 or MD5{line}."
            raise FetchError(cause, remedy=f"{remedy}.", code=ExitCode.BAD_DATA)
        return sums

    def _listed(self, paths: list[str], sums: Sums) -> Iterator[Entry]:
        """Yield the files, whose sizes the server is asked for, several at a time."""
        pending: deque[Future[Entry]] = deque()
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            try:
                for path in paths:
                    check_path(path)
                    url = f"{self._place.folder}{quote(path, errors='surrogateescape')}"
                    pending.append(pool.submit(self._patiently, path, url, sums))
                    if len(pending) > 4 * _ASKED_AT_ONCE:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _patiently(self, path: str, url: str, sums: Sums) -> Entry:
        try:
            return retry(lambda: self._entry(path, url, sums.see(path) or ()), _PATIENCE, lambda *_: None)
        except FetchError as error:
            if error.code is not ExitCode.NOT_FOUND:
                raise
            cause = f"{sums.name} lists {path!r}, which is not there. {error.cause}"
            remedy = f"Upload the file, write {sums.name} again, or leave the file out with ignore_patterns."
            raise FetchError(cause, remedy=remedy, code=error.code) from error

    def _entry(self, path: str, url: str, digests: tuple[Digest, ...]) -> Entry:
        about = self._server.about(url)
        if digests:
            return Entry(path=path, size=about.size, digests=digests, source=url)
        return Entry(path=path, size=about.size, digests=about.digests, validator=about.validator, source=url)

    def request(self, entry: Entry) -> HttpRequest:
        """Return a GET with the credential."""
        return self._server.request(entry.source)

    def digests_in(self, headers: Headers) -> tuple[Digest, ...]:
        """See `HttpSnapshot.digests_in`."""
        return digests_in(headers)

    def is_other(self, entry: Entry, headers: Headers) -> bool:
        """See `HttpSnapshot.is_other`; where a list has the digest, that decides."""
        return is_other(entry.validator, headers)

    @contextlib.contextmanager
    def open(self, entry: Entry, start: int, stop: int) -> Iterator[Reader]:
        """See `Snapshot.open`. Servers behind one name often disagree on the version of a file that nobody writes to."""
        try:
            with super().open(entry, start, stop) as reader:
                yield reader
        except SourceChanged as error:
            self._server.distrust(entry.source)
            if not entry.digests:
                remedy = f"{error.remedy} If nobody writes to it, several servers answer, each with versions of its own: {_DECIDES}"
                raise SourceChanged(error.cause, remedy=remedy, code=error.code) from error
            raise

    def refusal(self, entry: Entry, status: int, headers: Headers, body: bytes) -> FetchError | None:
        """See `HttpSnapshot.refusal`."""
        return self._server.refused(entry.source, answered(status, headers), body)
