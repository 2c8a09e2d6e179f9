"""Checkpoints: which are complete, and which is the newest."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tunewright.runner.files import sync, write_atomically

MARKER = "complete.json"

_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")


def newest_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint with the highest step in a folder of `checkpoint-<step>` folders; None without any."""
    found = folder.glob(f"checkpoint-*/{MARKER}") if folder.is_dir() else ()
    complete = [path.parent for path in found if _CHECKPOINT.fullmatch(path.parent.name)]
    return max(complete, key=_step_of, default=None)


def mark_checkpoint(folder: Path) -> None:
    """Declare `checkpoint-<step>` complete, once all of its files are written; they are flushed to the disk first.

    Raises:
        ValueError: the folder's name is another, so nobody would find it.
    """
    if not _CHECKPOINT.fullmatch(folder.name):
        raise ValueError(f"Not a checkpoint's folder: {folder}. Name it checkpoint-<step>.")
    for path in sorted(folder.rglob("*")):
        sync(path)
    write_atomically(folder / MARKER, json.dumps({"step": _step_of(folder)}))
    sync(folder.parent)


def _step_of(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


def newest_step(output: Path) -> int:
    """The step of the newest complete checkpoint in an output folder; -1 without any."""
    newest = newest_checkpoint(output / "checkpoints")
    return -1 if newest is None else _step_of(newest)
