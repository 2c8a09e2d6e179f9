"""What an upload has put into a store: afterwards it finds out whether another job has replaced some of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from tunewright.providers.snapshots import Entry
from tunewright_launcher.digests import is_there


@attrs.frozen(kw_only=True)
class Sent:
    """A file of an upload.

    Attributes:
        content: the file, or what it holds.
        size: bytes.
        sha256: its digest.
        version: of the file in the store, as the `validator` of its entry; None if the store did not say.
    """

    content: Path | bytes
    size: int
    sha256: str
    version: str | None

    def is_in(self, entry: Entry | None) -> bool:
        """Return whether an entry of the store is still this file, as far as the store tells."""
        if entry is None or entry.size != self.size:
            return False
        for digest in entry.digests:
            if digest.algorithm == "sha256" and digest.part_size is None:
                return digest.value.lower() == self.sha256
        if self.version is None or entry.validator is None:
            return True
        # Some stores list another tag than they answered with: the contents decide.
        return entry.validator.strip('"') == self.version.strip('"') or is_there(entry, self.content)


def lost(sent: Mapping[str, Sent], there: Mapping[str, Entry]) -> list[str]:
    """Return the paths of the files that are not in the store any more, or are another job's now."""
    return sorted(path for path, file in sent.items() if not file.is_in(there.get(path)))
