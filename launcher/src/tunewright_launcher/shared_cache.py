"""The cache that jobs on one machine share: an input is downloaded once, and each job gets links to its files.

    <cache>/<key>/files/          the files, as a slot: complete with `complete.json`; see `tunewright_launcher.slots`
    <cache>/<key>/files.json      size, time and inode of each file, to notice that a job has changed one
    <cache>/<key>/used            its time is when a job last used the files

The key is the request's digest, so the slot's lease and staging serve jobs that want the same at once.

Links are clones of the files where the file system can make them (reflinks): changes on either side stay there. Elsewhere large
files are hard links, and read-only, so that a job cannot write into them by mistake; small ones are copied, as those are what
programs rewrite in place. Where no links are possible, all are copied.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs

from tunewright import _canonical
from tunewright.environment import CACHE
from tunewright.errors import ExitCode, FetchError
from tunewright.providers.base import SourceProvider
from tunewright.providers.snapshots import SnapshotSource
from tunewright.runner.checkpoints import MARKER
from tunewright.runner.files import write_atomically
from tunewright_launcher.files import sha256_of
from tunewright_launcher.journal import FileRecord
from tunewright_launcher.slots import CompletionMarker, LeaseLost, Slot, discard, read_marker

FILES = "files"
SMALL = 1 << 20  # bytes of a file that is copied rather than linked
_KEY = 32  # characters of a digest
_READ_ONLY = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
_CLONE = 0x40049409  # FICLONE; see ioctl_ficlone(2)
_NO_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@attrs.frozen
class SharedCache:
    """The cache of this machine.

    Attributes:
        folder: where it is.
    """

    folder: Path

    @classmethod
    def read(cls, env: Mapping[str, str]) -> SharedCache | None:
        """Return the cache that the environment names; None if there is none."""
        return cls(Path(env[CACHE])) if env.get(CACHE) else None

    def item(self, provider: SourceProvider, request: str) -> CachedItem | None:
        """Return where a request is kept; None for a source that cannot say whether what was kept is still current.

        Args:
            provider: the source.
            request: the request's digest.

        Raises:
            FetchError: the source cannot be looked at.
        """
        if isinstance(provider, SnapshotSource):
            return CachedItem(self.folder / request[:_KEY])
        version = provider.current_version()
        return None if version is None else CachedItem(self.folder / _canonical.digest([request, version])[:_KEY])


@attrs.frozen
class CachedItem:
    """What one request has fetched.

    Attributes:
        folder: its folder in the cache.
    """

    folder: Path

    @property
    def slot(self) -> Slot:
        """The slot with the files."""
        return Slot(self.folder, FILES)

    def protect(self) -> None:
        """Make large files read-only, and note how all of them look; called after they were fetched, before they are linked."""
        marker = read_marker(self.slot.folder)
        if marker is None or self._looks():
            return
        for name, record in marker.files.items():
            if record.size > SMALL:
                (self.slot.folder / name).chmod(_READ_ONLY)
        noted = {"marker": self._look(MARKER), "files": {name: self._look(name) for name in marker.files}}
        write_atomically(self._noted, json.dumps(noted))

    def drop_former(self) -> None:
        """Remove the files of an earlier version: jobs have links of their own to them."""
        discard(self.slot.former)

    def give_to(self, place: Slot, request: str) -> CompletionMarker | None:
        """Link the files into a job's slot, unless it has them already; return its marker.

        None if a file was changed in the cache: what there was is then removed from it.

        Raises:
            FetchError: TRY_AGAIN: somebody else replaced, changed or removed the files meanwhile.
        """
        try:
            marker = self._intact()
            if marker is not None:
                self._touch()
                self._link(place, request, marker)
        except FileNotFoundError as error:
            raise _changed(self.folder) from error
        return marker

    def _link(self, place: Slot, request: str, marker: CompletionMarker) -> None:
        have = place.find(request)
        if have is not None and have.files == marker.files:
            return
        with contextlib.suppress(LeaseLost), place.staged(request, replace=have is not None) as staging:
            if staging is None or (have is None and staging.recover()):
                return
            staging.empty()
            before = self._look_of_all(marker)
            for name in marker.files:
                target = staging.files / name
                target.parent.mkdir(parents=True, exist_ok=True)
                share(self.slot.folder / name, target)
            if self._look_of_all(marker) != before:  # of two versions, or of a file while a job was writing to it
                raise _changed(self.folder)
            staging.commit(attrs.evolve(marker, files={}), iter(marker.files.items()))

    def _intact(self) -> CompletionMarker | None:
        """Return the marker if all files are as they were fetched. One whose time has changed is read."""
        marker = read_marker(self.slot.folder)
        if marker is None:
            return None
        looks = self._looks()
        if all(looks.get(name) == self._look(name) or self._is_same(name, r) for name, r in marker.files.items()):
            return marker
        discard(self.slot.folder)
        return None

    def _is_same(self, name: str, record: FileRecord) -> bool:
        file = self.slot.folder / name
        return file.stat().st_size == record.size and sha256_of(file) == record.sha256

    def _look_of_all(self, marker: CompletionMarker) -> list[list[int]]:
        return [self._look(name) for name in (MARKER, *marker.files)]

    def _look(self, name: str) -> list[int]:
        found = (self.slot.folder / name).stat()
        return [found.st_size, found.st_mtime_ns, found.st_ino]

    @property
    def _noted(self) -> Path:
        return self.folder / f"{FILES}.json"

    def _looks(self) -> dict[str, list[int]]:
        """Return how the files looked when they were fetched; nothing if that was noted of others."""
        try:
            found = json.loads(self._noted.read_text("utf-8"))
            return dict(found["files"]) if found["marker"] == self._look(MARKER) else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _touch(self) -> None:
        (self.folder / "used").touch()


def _changed(folder: Path) -> FetchError:
    cause = f"The cached files in {folder} were replaced, changed or removed while they were used."
    return FetchError(cause, remedy="They will be used again, or fetched again.", code=ExitCode.TRY_AGAIN)


def share(source: Path, target: Path) -> None:
    """Give a new file the contents of another one, without copying them if the file system can do that safely."""
    if _clone(source, target):
        return
    if source.stat().st_size > SMALL:
        try:
            target.hardlink_to(source)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
        else:
            return
    shutil.copyfile(source, target)


def _clone(source: Path, target: Path) -> bool:
    """Clone a file, and return whether that worked."""
    if sys.platform != "linux":
        return False
    import fcntl

    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        with source.open("rb") as file:
            fcntl.ioctl(handle, _CLONE, file.fileno())
    except OSError:
        target.unlink()
        return False
    finally:
        os.close(handle)
    return True
