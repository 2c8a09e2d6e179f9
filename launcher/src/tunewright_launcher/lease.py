"""The lease on a slot: of the workers that share a volume, one downloads and the others wait for its marker.

File locks (flock) silently do nothing on some network file systems, so the lease is a file that its holder updates every few
seconds. Another worker takes it over once it has not changed for long. This is only an optimization that avoids a second
download, as the holder may merely have been suspended. Correctness comes from the staging folder: it is named after its holder,
and a successor renames it, so the former holder's commit fails. Files that the former holder has open it may still write to,
under the new name: ranges of the same request, which are what the successor downloads unless the source has changed in between.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs

from tunewright.runner.files import write_atomically
from tunewright.runner.leases import BEAT_EVERY, STALE_AFTER

_POLL = 0.5


@attrs.frozen(kw_only=True)
class Owner:
    """A process that holds a lease.

    Attributes:
        host: name of its host or pod.
        namespace: of its process id; ids are comparable only within it.
        pid: its process id.
        started: its start time, as process ids are reused; "" if the system does not tell it.
        nonce: distinguishes the leases of one process.
    """

    host: str
    namespace: str
    pid: int
    started: str
    nonce: str

    @classmethod
    def this_process(cls) -> Owner:
        """Return this process, with a new nonce."""
        pid = os.getpid()
        return cls(
            host=os.uname().nodename,
            namespace=_namespace(),
            pid=pid,
            started=_started(pid) or "",
            nonce=os.urandom(4).hex(),
        )

    def is_dead(self) -> bool:
        """Return whether the process has certainly ended; False if that is unknown."""
        if not self.started or self.host != os.uname().nodename or self.namespace != _namespace():
            return False
        return _started(self.pid) != self.started


class Lease:
    """One worker's lease: a context manager that waits for it and keeps it.

    Args:
        file: the file of the lease, the same for all workers.
        stop_waiting: called while another worker holds the lease; True ends the wait.
        stale_after: seconds without a heartbeat after which a holder counts as dead.
        beat_every: seconds between heartbeats.

    Attributes:
        owner: this process.
        stop_waiting: as given.
        held: whether the lease is held; False if `stop_waiting` ended the wait.
    """

    def __init__(
        self,
        file: Path,
        stop_waiting: Callable[[], bool],
        *,
        stale_after: float = STALE_AFTER,
        beat_every: float = BEAT_EVERY,
    ) -> None:
        self.owner = Owner.this_process()
        self.held = False
        self._file = file
        self.stop_waiting = stop_waiting
        self._stale_after = stale_after
        self._beat_every = beat_every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        """Wait for the lease."""
        seen: str | None = None
        since = time.monotonic()
        while not self._create():
            text = _read(self._file)
            if text != seen:
                seen, since = text, time.monotonic()
            if self.stop_waiting():
                return self
            if _is_dead(text) or time.monotonic() - since > self._stale_after:
                self._remove(text)
            else:
                time.sleep(_POLL)
        self.held = True
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lease."""
        if self.held:
            self._ended.set()
            self._thread.join()
            if self._is_ours(_read(self._file)):
                self._file.unlink(missing_ok=True)

    def _text(self, beat: int) -> str:
        return json.dumps({"owner": attrs.asdict(self.owner), "beat": beat})

    def _create(self) -> bool:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("x", encoding="utf-8") as stream:
                stream.write(self._text(0))
        except (FileExistsError, FileNotFoundError):  # another worker holds it, or has just removed the empty folder
            return False
        return True

    def _remove(self, stale: str) -> None:
        """Remove the file of a dead holder, but never that of a live one that has just taken its place."""
        grave = self._file.with_name(f"{self._file.name}.{self.owner.nonce}")
        with contextlib.suppress(FileNotFoundError):
            self._file.rename(grave)
            if _read(grave) != stale:
                with contextlib.suppress(OSError):
                    os.link(grave, self._file)
            grave.unlink()

    def _beat(self) -> None:
        beat = 0
        while not self._ended.wait(self._beat_every):
            beat += 1
            with contextlib.suppress(OSError):  # such as a full disk, which the download itself will report
                if self._is_ours(_read(self._file)):
                    write_atomically(self._file, self._text(beat))

    def _is_ours(self, text: str) -> bool:
        return f'"nonce": "{self.owner.nonce}"' in text


def _is_dead(text: str) -> bool:
    try:
        return Owner(**json.loads(text)["owner"]).is_dead()
    except (ValueError, KeyError, TypeError):
        return False  # half written: soon it is complete, or becomes stale


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _namespace() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """Return the start time of a process, field 22 of /proc/PID/stat in proc(5); None if there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
