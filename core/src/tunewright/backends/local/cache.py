"""What the jobs of this machine have fetched and share: list it, and remove what is no longer needed.

The launcher fills the cache; its module `shared_cache` says what is in there.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import attrs

from tunewright.runner.checkpoints import MARKER
from tunewright.runner.leases import is_kept

_FILES = "files"
_REMOVED = ".removed-"


@attrs.frozen(kw_only=True)
class CachedInput:
    """An input in the cache.

    Attributes:
        folder: its folder.
        uri: where it was fetched from; "" for a download that was interrupted.
        revision: the revision that the URI was resolved to, if the source has revisions.
        size: bytes.
        used: when a job last used it, or began to fetch it.
        jobs: how many jobs have links to its files; their space is freed only with the jobs.
        busy: whether it is being fetched.
    """

    folder: Path
    uri: str
    revision: str | None
    size: int
    used: datetime
    jobs: int
    busy: bool


def cached_inputs(folder: Path) -> list[CachedInput]:
    """Return what is in the cache, the most recently used first.

    Args:
        folder: the cache; it may not exist.
    """
    found = []
    for path in folder.glob("[!.]*"):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # removed just now; or no folder of ours
            found.append(_input_in(path))
    return sorted(found, key=lambda item: item.used, reverse=True)


def remove(item: CachedInput) -> None:
    """Remove an input from the cache. Jobs that use its files keep theirs."""
    gone = item.folder.with_name(f"{_REMOVED}{item.folder.name}-{time.time_ns()}")
    with contextlib.suppress(FileNotFoundError):
        item.folder.rename(gone)
    for left in item.folder.parent.glob(f"{_REMOVED}*"):  # also of a process that was killed
        shutil.rmtree(left, ignore_errors=True)


def _input_in(folder: Path) -> CachedInput:
    marker = _marker(folder / _FILES / MARKER)
    files = list(_files_below(folder))
    sizes, links = zip(*((s.st_size, s.st_nlink) for s in map(Path.stat, files)), strict=True) if files else ((), ())
    used = folder / "used"
    when = (used if used.exists() else folder).stat().st_mtime
    revision = marker.get("revision")
    return CachedInput(
        folder=folder,
        uri=str(marker.get("uri", "")),
        revision=None if revision is None else str(revision),
        size=sum(sizes),
        used=datetime.fromtimestamp(when, UTC),
        jobs=max(links, default=1) - 1,
        busy=_is_busy(folder),
    )


def _files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _marker(file: Path) -> dict[str, object]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_busy(folder: Path) -> bool:
    return is_kept(folder / ".staging" / f"{_FILES}.lease")
