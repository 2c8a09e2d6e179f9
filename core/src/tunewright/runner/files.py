"""Small files that a crash never leaves half written."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Replace a file atomically: readers find the old text or the new one, even after a crash."""
    temporary = _temporary(path, text)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink()
        raise
    sync(path.parent)


def create(path: Path, text: str) -> None:
    """Write a file atomically, unless it exists."""
    temporary = _temporary(path, text)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        with contextlib.suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
            file.write(text)
    finally:
        temporary.unlink()


def _temporary(path: Path, text: str) -> Path:
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk, where the system supports it."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read(file: Path) -> str | None:
    """Return the text of a file, with invalid bytes replaced; None if it cannot be read."""
    try:
        return file.read_text("utf-8", errors="replace")
    except OSError:
        return None
