"""Outputs: where `output="scheme://…"` uploads the finished model, and the checkpoints from which a job resumes.

A model provider whose service can be written to derives from `OutputTarget`, and says in `store()` how. The launcher
decides what is uploaded and when: files first, and after them a marker, `complete.json`, so that a folder without one does
not count. It skips what is there already, tries again with patience, and fetches a checkpoint back through the engine.
"""

from __future__ import annotations

import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import attrs

from tunewright.providers.base import SourceProvider
from tunewright.providers.snapshots import Entry, Snapshot

_CHECK = ".tunewright-check"


class Store(ABC):
    """What lies below the URI of an output. Paths are relative to it, with "/"; all methods may raise FetchError.

    Class attributes:
        atomic: whether all files of one `upload` appear together, so that no marker is needed.
        check_leaves_traces: whether something is there after `check_writable` that was not before, so that
            `tunewright doctor`, which creates nothing, does not call it.
    """

    atomic: ClassVar[bool] = False
    check_leaves_traces: ClassVar[bool] = False

    def check_writable(self) -> None:
        """Raise unless it may be written to. By default a small file is written and removed."""
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, "check")
            file.write_bytes(b"")
            self.upload({f"{_CHECK}/{uuid.uuid4().hex}": file})
        self.remove(_CHECK)

    @abstractmethod
    def entries(self, folder: str) -> Iterator[Entry]:
        """The files below a folder ("": all), with paths relative to the URI; none if there is no such folder."""

    @abstractmethod
    def upload(self, files: Mapping[str, Path]) -> None:
        """Write these files, path → file of this machine; in one go where the service has such a thing as a commit.

        Each arrives whole or not at all, and is verified: the service compares a digest that comes with it. Writing the
        same again changes nothing. Called from several threads only for different paths.
        """

    @abstractmethod
    def remove(self, folder: str) -> None:
        """Remove everything below a folder: a checkpoint that a newer one replaces."""

    @abstractmethod
    def snapshot(self, folder: str) -> Snapshot:
        """A folder, to be fetched back; the paths of its entries are relative to the folder."""


@attrs.frozen(kw_only=True, slots=False)  # without slots it can be mixed into providers, which have theirs
class OutputTarget(SourceProvider):
    """A source that can be written to, too. Mix it in before `ModelProvider`."""

    @abstractmethod
    def store(self) -> Store:
        """The container half: connect. Called once in a process.

        Raises:
            FetchError: NOT_FOUND, NO_PERMISSION; UNAVAILABLE and TRY_AGAIN are tried again.
        """
