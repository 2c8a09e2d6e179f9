"""Outputs: where `output="scheme://…"` uploads the finished model, and the checkpoints to resume from.

A model provider for a service that accepts uploads derives from `OutputTarget`, and returns a `Store` from `store()`. The
launcher decides what to upload and when. It uploads the files first and the marker `complete.json` last, so that a folder
without the marker is known to be incomplete. It skips files that were already uploaded, retries temporary errors, and
downloads checkpoints through the fetch engine.
"""

from __future__ import annotations

import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import attrs

from tunewright.providers.base import SourceProvider
from tunewright.providers.snapshots import Entry, Snapshot

_CHECK = ".tunewright-check"


class Store(ABC):
    """The files below the URI of an output.

    All paths are relative to the URI and use "/". All methods may raise FetchError.

    Class attributes:
        atomic: whether the files of one `upload` appear all at once, so that no marker is needed.
        check_leaves_traces: whether `check_writable` creates something that it does not remove. `tunewright doctor`, which
            creates nothing, does not call it then.
    """

    atomic: ClassVar[bool] = False
    check_leaves_traces: ClassVar[bool] = False

    def check_writable(self) -> None:
        """Raise unless the store is writable. The default implementation uploads an empty file and removes it.

        Raises:
            FetchError: the store is not writable.
        """
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, "check")
            file.write_bytes(b"")
            self.upload({f"{_CHECK}/{uuid.uuid4().hex}": file})
        self.remove(_CHECK)

    @abstractmethod
    def entries(self, folder: str) -> Iterator[Entry]:
        """Yield the files below a folder, with paths relative to the URI.

        Args:
            folder: the folder; "" for all files. If it does not exist, nothing is yielded.
        """

    @abstractmethod
    def upload(self, files: Mapping[str, Path]) -> Mapping[str, str | None] | None:
        """Upload files, in a single commit if the service has commits.

        Each file must arrive completely or not at all, and must be verified, for example by a digest that the service
        compares. Uploading the same file again must change nothing.

        The method may be called from several threads at the same time, but never for the same path.

        Args:
            files: path in the store → local file.

        Returns:
            Path → version of the file that this upload made, as the `validator` of its entry; None if the service does not
            say. The launcher compares it with a later listing: another job may upload to the same place.
        """

    @abstractmethod
    def remove(self, folder: str) -> None:
        """Remove everything below a folder, such as a checkpoint that a newer one replaces."""

    def replace(self, files: Mapping[str, Path], superseded: Collection[str]) -> None:
        """Upload files, and remove those of an earlier result. A service with commits does both in one, and overrides this.

        Args:
            files: as in `upload`; may be empty.
            superseded: paths in the store; may be empty.
        """
        if files:
            self.upload(files)
        if superseded:
            self.remove_files(superseded)

    def remove_files(self, paths: Collection[str]) -> None:  # noqa: B027 - optional
        """Remove files of an earlier result that a newer one lacks, which would be loaded with it.

        By default they stay, which the conformance kit takes for a fault.
        """

    @abstractmethod
    def snapshot(self, folder: str) -> Snapshot:
        """Return a snapshot of a folder, to download it. The paths of its entries are relative to the folder."""


@attrs.frozen(kw_only=True, slots=False)  # two base classes with slots cannot be combined, and providers have them
class OutputTarget(SourceProvider):
    """A source that also accepts uploads. List it before `ModelProvider` among the base classes."""

    @abstractmethod
    def store(self) -> Store:
        """Connect to the service. Called in the container, once per process.

        Raises:
            FetchError: the service cannot be used. UNAVAILABLE and TRY_AGAIN are retried; other codes, such as NOT_FOUND
                and NO_PERMISSION, are final.
        """
