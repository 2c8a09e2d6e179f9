"""What an upload has put into a store: its marker names it, and afterwards it is seen whether another job has replaced some of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import attrs

from tunewright.errors import ExitCode, FetchError
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

    @classmethod
    def of(cls, content: Path | bytes, version: str | None, sha256: str) -> Sent:
        """Describe what was uploaded, what the store called it, and its digest."""
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        return cls(content=content, size=size, sha256=sha256, version=version)

    def record(self) -> dict[str, int | str]:
        """Return what the marker says of it. The version tells a store without digests whether it is still that file."""
        version = {} if self.version is None else {"version": self.version}
        return {"size": self.size, "sha256": self.sha256, **version}

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


def not_kept(uri: str, paths: str, times: int) -> FetchError:
    """Return the error for a store that accepts files, and does not have them afterwards, so many times."""
    cause = f"{uri} accepts all files, but {times} times in a row {paths} was not what was sent afterwards."
    remedy = "Give each job an output of its own if another one uploads there at the same time; if none does, ask the store's operator."
    return FetchError(cause, remedy=remedy, code=ExitCode.TRY_AGAIN)


def marker_of(sent: Mapping[str, Sent], prefix: str) -> bytes:
    """Return the marker of an upload below a prefix."""
    records = {path.removeprefix(prefix): file.record() for path, file in sent.items()}
    return json.dumps({"api": 1, "files": records}, indent=1, sort_keys=True).encode()


def named_in(marker: bytes) -> set[str]:
    """Return the paths that a marker names; none if it is not one of ours."""
    try:
        return set(json.loads(marker)["files"])
    except (ValueError, TypeError, KeyError):
        return set()
