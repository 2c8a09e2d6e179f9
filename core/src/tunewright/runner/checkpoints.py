"""Checkpoints: which of them are complete, and which one is the newest."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tunewright.runner.files import read, sync, write_atomically

MARKER = "complete.json"
CHECKPOINTS = "checkpoints"
"""Name of their folder in an output."""

_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the complete checkpoint with the highest step in a folder of `checkpoint-<step>` folders; None without any."""
    found = (
        [path for path in folder.glob("checkpoint-*") if _CHECKPOINT.fullmatch(path.name)] if folder.is_dir() else []
    )
    return next((path for path in sorted(found, key=_step_of, reverse=True) if is_complete(path)), None)


def is_complete(checkpoint: Path) -> bool:
    """Return whether a checkpoint has its marker, and every file that the marker names, at its full size.

    A marker without sizes, as older releases wrote it, is trusted.
    """
    text = read(checkpoint / MARKER)
    if text is None:
        return False
    try:
        files = json.loads(text).get("files", {})
        return all((checkpoint / name).stat().st_size == record["size"] for name, record in files.items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False


def mark_checkpoint(folder: Path) -> None:
    """Mark `checkpoint-<step>` complete, after all of its files were written; they are flushed to the disk first.

    Raises:
        ValueError: the folder has another name, so nobody would find it.
    """
    if not _CHECKPOINT.fullmatch(folder.name):
        raise ValueError(f"Not a checkpoint's folder: {folder}. Name it checkpoint-<step>.")
    paths = sorted(folder.rglob("*"))
    for path in paths:
        sync(path)
    files = {p.relative_to(folder).as_posix(): {"size": p.stat().st_size} for p in paths if p.is_file()}
    write_atomically(folder / MARKER, json.dumps({"step": _step_of(folder), "files": files}))
    sync(folder.parent)


def _step_of(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


def newest_step(output: Path) -> int:
    """Return the step of the newest complete checkpoint in an output folder; -1 without any."""
    newest = newest_checkpoint(output / CHECKPOINTS)
    return -1 if newest is None else _step_of(newest)
