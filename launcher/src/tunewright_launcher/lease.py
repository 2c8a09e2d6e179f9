"""The lease on a slot: of the workers that share a volume, one fetches and the others wait for its marker.

File locks (flock) silently do nothing on some network file systems, so the lease is a file that its holder changes every
few seconds. Whoever sees it unchanged for long takes it over. That is an optimisation, which saves a second download, and no
more: a holder may only have been asleep. Staging folders have their holder's name in theirs, and a successor renames the
folder: so the former holder's commit finds it gone. What it has open it may still write to, under the folder's new name:
ranges of the same request, which are what the successor fetches unless the source has changed in between.
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

BEAT_EVERY = 2.0
STALE_AFTER = 20.0
_LOOK_EVERY = 0.5


@attrs.frozen(kw_only=True)
class Owner:
    """A process that holds a lease.

    Attributes:
        host: its host's or pod's name.
        namespace: of its process ids: only within it they can be compared.
        pid: its process id.
        started: when it was started, as the kernel counts: ids are used again. "" where the system does not tell it.
        nonce: tells two leases of one process apart.
    """

    host: str
    namespace: str
    pid: int
    started: str
    nonce: str

    @classmethod
    def this_process(cls) -> Owner:
        """This process, with a new nonce."""
        pid = os.getpid()
        return cls(
            host=os.uname().nodename,
            namespace=_namespace(),
            pid=pid,
            started=_started(pid) or "",
            nonce=os.urandom(4).hex(),
        )

    def is_dead(self) -> bool:
        """Whether the process has certainly ended. False where that cannot be known from here."""
        if not self.started or self.host != os.uname().nodename or self.namespace != _namespace():
            return False
        return _started(self.pid) != self.started


class Lease:
    """One worker's lease, or its wait for one. Entered, it is kept until it is left.

    Args:
        file: the lease's file, the same for all workers.
        stop_waiting: is asked while another worker holds the lease: True ends the wait.
        stale_after: seconds without a sign of life after which a holder is taken for dead.
        beat_every: seconds between two signs of life.

    Attributes:
        owner: this process.
        stop_waiting: as given.
        held: False if the wait was ended by `stop_waiting`.
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
                time.sleep(_LOOK_EVERY)
        self.held = True
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back."""
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
        except (FileExistsError, FileNotFoundError):  # another worker's, or one has just removed the empty folder
            return False
        return True

    def _remove(self, stale: str) -> None:
        """Take a dead holder's file away, and never a living one's that has just taken its place."""
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
            with contextlib.suppress(OSError):  # a full disk, say: the fetch itself will say so
                if self._is_ours(_read(self._file)):
                    write_atomically(self._file, self._text(beat))

    def _is_ours(self, text: str) -> bool:
        return f'"nonce": "{self.owner.nonce}"' in text


def _is_dead(text: str) -> bool:
    try:
        return Owner(**json.loads(text)["owner"]).is_dead()
    except (ValueError, KeyError, TypeError):
        return False  # half written: a moment later it is whole, or stays so and is stale


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
    """The start time of a process, as proc(5) has it in field 22 of stat; None if there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
