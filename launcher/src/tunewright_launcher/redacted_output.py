"""What a step prints, without secrets: also what a plugin prints by itself, its libraries and its child processes.

Standard output and error become pipes, which a thread empties. The pipes are made once there is a secret to look for, so that a
step without secrets prints directly, and a crash of the interpreter loses none of its last words.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from types import TracebackType
from typing import Self

from tunewright_launcher.failure import Secrets

_PAUSE = 0.2  # seconds after which the beginning of a line is shown, such as that of a progress bar
_LONGEST_LINE = 64 << 10
_PIPE_BYTES = 1 << 20  # room for code that prints while it holds the interpreter's lock, which the thread needs
_DRAIN = 5.0  # seconds to read the rest, if another process keeps a pipe open
_F_SETPIPE_SZ = 1031  # linux/fcntl.h


class RedactedOutput:
    """A context in which standard output and error are redacted.

    Args:
        secrets: what must not be shown.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._pumps: list[_Pump] = []

    def __enter__(self) -> Self:
        """Redact as soon as the first secret is known."""
        self._secrets.when_learnt(self._start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Print what is left, and print directly again."""
        _flush()
        for pump in self._pumps:
            pump.stop()

    def _start(self) -> None:
        _flush()
        self._pumps = [_Pump(descriptor, self._secrets) for descriptor in (1, 2)]


class _Pump:
    """A pipe in the place of a descriptor, and the thread that passes on what is written to it."""

    def __init__(self, descriptor: int, secrets: Secrets) -> None:
        self._descriptor, self._secrets = descriptor, secrets
        self._out = os.dup(descriptor)
        self._read, write = os.pipe()
        _enlarge(write)
        os.dup2(write, descriptor)
        os.close(write)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Give the descriptor back, and wait for what is left in the pipe."""
        os.dup2(self._out, self._descriptor)
        self._thread.join(_DRAIN)

    def _run(self) -> None:
        held = b""
        while True:
            if held and not _readable(self._read):
                held = self._pass_on(held, len(held) - self._secrets.begun(held))
            data = os.read(self._read, _LONGEST_LINE)
            held += data
            whole = max(held.rfind(b"\n"), held.rfind(b"\r")) + 1
            if not data:
                self._pass_on(held, len(held))
                return
            if not whole and len(held) > _LONGEST_LINE:
                whole = len(held) - self._secrets.begun(held)
            held = self._pass_on(held, whole)

    def _pass_on(self, held: bytes, count: int) -> bytes:
        """Print the first `count` bytes; return the others."""
        data = self._secrets.redact_output(held[:count])
        with contextlib.suppress(OSError):  # nobody reads it any more
            while data:
                data = data[os.write(self._out, data) :]
        return held[count:]


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()


def _readable(descriptor: int) -> bool:
    """Return whether there is more to read soon; Windows cannot say."""
    return sys.platform == "win32" or bool(select.select([descriptor], [], [], _PAUSE)[0])


def _enlarge(descriptor: int) -> None:
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _PIPE_BYTES)
