"""An archive on a web server, fetched as one file and then unpacked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tunewright import ExitCode, FetchError
from tunewright.providers import Entry
from tunewright_http.server import Server
from tunewright_http.snapshot import HttpFiles
from tunewright_http.uri import Place
from tunewright_launcher.archives import unpack

ARCHIVE = ".tunewright-archive"
_OF_MACOS = "__MACOSX/"  # what macOS adds to each file of a zip


class HttpArchive(HttpFiles):
    """The files of an archive, which is verified as a whole before it is unpacked; see `HttpFiles`.

    Args:
        server: the server.
        place: the archive.
        selects: returns whether to unpack a relative path.
        without_top: whether files that are all in one folder are unpacked without it.
        manifest: as for `HttpFiles`.
        sha256: SHA-256 of the archive.
    """

    def __init__(
        self,
        server: Server,
        place: Place,
        *,
        selects: Callable[[str], bool] = lambda _: True,
        without_top: bool = False,
        manifest: str,
        sha256: str | None = None,
    ) -> None:
        super().__init__(server, place, manifest=manifest, sha256=sha256, file_name=ARCHIVE)
        self._members = selects
        self._without_top = without_top

    def entries(self) -> Iterator[Entry]:
        """Yield the archive."""
        yield self._file()

    def finish(self, folder: Path) -> Mapping[str, str]:
        """Unpack the archive, and remove it."""
        archive = folder / ARCHIVE
        digests = unpack(archive, folder, None, lambda path: self._members(path) and not path.startswith(_OF_MACOS))
        archive.unlink()
        if not digests:
            cause = f"{self._place.url} has no file that is selected."
            raise FetchError(cause, remedy="Check the patterns.", code=ExitCode.NOT_FOUND)
        return _moved_up(folder, digests) if self._without_top else digests


def _moved_up(folder: Path, digests: Mapping[str, str]) -> Mapping[str, str]:
    """Move files that are all in one folder out of it, if they are; return the digests by the paths that they have then."""
    tops = {path.partition("/")[0] for path in digests}
    if len(tops) > 1 or not all("/" in path for path in digests):
        return digests
    (top,) = tops
    apart = (folder / top).rename(folder / ARCHIVE)  # one of the files in it may have the folder's own name
    for path in apart.iterdir():
        path.rename(folder / path.name)
    apart.rmdir()
    return {path.partition("/")[2]: digest for path, digest in digests.items()}
