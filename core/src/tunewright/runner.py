"""`run`: process 1 of the main container. It starts the training command, passes signals on and counts attempts.

The operator's restart policy `ExitCode` takes 1 to 127 as final and starts everything else again without end, so the
exit code of this process decides what happens to the job:

| exit code           | when                                                                         | then          |
|---------------------|------------------------------------------------------------------------------|---------------|
| 0                   | the command succeeded                                                        | succeeded     |
| the verdict's       | `fetch`, `check` or a rank left a verdict                                    | failed        |
| 1                   | no attempts are left, or the deadline has passed                             | failed        |
| 64                  | the command cannot be started                                                | failed        |
| 129                 | the command crashed, and attempts are left                                   | started again |
| 143 (Ctrl-C: 130)   | `run` itself was terminated; the attempt is not counted                      | started again |

`--install NAME -- python3 -m pip install … -- REQUIREMENT …` is the init container that brings packages. One that fails
would be started again for ever, so it leaves a verdict and exits 0, and `run` ends with the verdict.

This file is also shipped as text and run by the Python (3.9 or later) of images that hold nothing of Tunewright, so it
needs the standard library alone and imports nothing of its own package.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, NamedTuple

FAILURE = 1
USAGE = 64
NOT_FOUND = 66
UNAVAILABLE = 69
SOFTWARE = 70
START_AGAIN = 129
INTERRUPTED = 130
TERMINATED = 143

VERDICT_FILE = "verdict.json"
ERROR_FILE = "error.txt"
MARKER = "complete.json"

_LAST_FINAL_CODE = 127
_TICK = 0.1  # seconds between two looks at signals, parent and deadline
_MESSAGE_BYTES = 4096  # Kubernetes cuts a termination message here
_ERROR_LENGTH = 1000
_TAIL_BYTES = 16 << 10  # of a command's standard error, in which its error is looked for
_LINE_BYTES = 64 << 10  # a longer line is passed on in pieces
_DRAIN = 2.0  # seconds for the rest of a standard error that somebody holds open
_RETRY_FOR = 600.0  # seconds
_LONGEST_PAUSE = 30.0
_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")
# torchrun's --tee, and torch.distributed itself, put this before each line of a rank.
_RANK_PREFIX = re.compile(r"(\[[A-Za-z_]+[0-9]+\]:\s?)+")
# What pip says of an index that may be there again in a minute; it has tried a few times itself by then.
_INDEX_IS_AWAY = re.compile(
    r"after connection broken by|\b(429|5[0-9][0-9]) (Client|Server) Error|HTTP error (429|5[0-9][0-9])"
    r"|[Rr]ead timed out|Connection (reset|aborted|refused)|IncompleteRead|Temporary failure in name resolution"
)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


class Verdict(NamedTuple):
    """A final end.

    Attributes:
        code: exit code, 1 to 127.
        cause: what happened, to what.
        remedy: what to do about it; may be empty.
    """

    code: int
    cause: str
    remedy: str


class Settings(NamedTuple):
    """What the environment says.

    Attributes:
        output: the output folder, where the attempts and the first start are kept; None: nowhere.
        run: the pod's own scratch folder, in which a verdict is left; None: nowhere.
        termination_log: file for the cause of the end; None: nowhere.
        max_restarts: how often a crashed command is started again without a new checkpoint.
        deadline: seconds from the job's first start.
        grace: seconds that a terminated command has to end.
        parent: end when this process is no longer the parent.
        worker: name of this worker among those that share the output folder.
    """

    output: Path | None
    run: Path | None
    termination_log: Path | None
    max_restarts: int
    deadline: float | None
    grace: float
    parent: int | None
    worker: str

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Settings:
        """From the environment.

        Raises:
            ValueError: a variable that should be a number is none.
        """
        workspace, run = env.get("TUNEWRIGHT_WORKSPACE"), env.get("TUNEWRIGHT_RUN")
        log = Path(env.get("TUNEWRIGHT_TERMINATION_LOG") or "/dev/termination-log")
        deadline = _number(env, "TUNEWRIGHT_DEADLINE", math.inf)
        return cls(
            output=Path(workspace, "output") if workspace else None,
            run=Path(run) if run else None,
            termination_log=log if env.get("TUNEWRIGHT_TERMINATION_LOG") or log.exists() else None,
            max_restarts=int(_number(env, "TUNEWRIGHT_MAX_RESTARTS", 3)),
            deadline=deadline if math.isfinite(deadline) else None,
            grace=_number(env, "TUNEWRIGHT_GRACE", 25),
            parent=parent_in(env),
            worker=worker_in(env),
        )


def main(argv: Sequence[str]) -> int:
    """Run a command to its end.

    Args:
        argv: the command and its arguments, after an optional `--`.

    Returns:
        The exit code of the process: see the table above.
    """
    try:
        settings = Settings.read(os.environ)
        if list(argv[:1]) == ["--install"]:
            return install(argv[1], list(argv[3:]), settings, _number(os.environ, "TUNEWRIGHT_RETRY_FOR", _RETRY_FOR))
    except ValueError as error:
        _log(str(error))
        return USAGE
    command = list(argv[1:] if argv[:1] == ["--"] else argv)
    watch = _Watch(settings)
    attempts = _Attempts(settings)
    outcome = _refusal(command, settings, watch, attempts) or _run(command, settings, watch, attempts)
    if isinstance(outcome, Verdict):
        report(outcome, settings.termination_log, _emit)
        outcome = outcome.code
    if outcome <= _LAST_FINAL_CODE:
        # The end is final: a job that is submitted again starts to count anew.
        attempts.forget()
        watch.forget()
    return outcome


def _refusal(command: list[str], settings: Settings, watch: _Watch, attempts: _Attempts) -> Verdict | None:
    """Why the command is not started at all."""
    if settings.run and (verdict := read_verdict(settings.run)):
        return verdict
    if not command:
        return Verdict(USAGE, "There is no command to run.", "Give one: run -- torchrun …")
    if watch.late():
        return _too_late(settings)
    attempts.begin()
    if attempts.number > attempts.limit:
        cause = f"The training command was started {attempts.limit} times and never got to a new checkpoint."
        return Verdict(FAILURE, cause, "Its processes were killed, often for lack of memory: see the pods' events.")
    return None


def _run(command: list[str], settings: Settings, watch: _Watch, attempts: _Attempts) -> int | Verdict:
    if settings.run:
        with contextlib.suppress(OSError):
            (settings.run / ERROR_FILE).unlink()
    end = _execute(command, watch, settings.grace, attempts.uncount)
    if isinstance(end, Verdict):
        return end
    if end.stop is not None:
        return _too_late(settings) if end.stop.late else end.stop.code
    return _judge(end, settings, attempts) if end.code else 0


def _judge(end: _End, settings: Settings, attempts: _Attempts) -> int | Verdict:
    """What a crash of the command means."""
    if settings.run and (verdict := read_verdict(settings.run)):
        return verdict
    error = (_read(settings.run / ERROR_FILE) if settings.run else None) or "; ".join(errors_in(end.stderr)[-3:])
    how = f"The training command ended with {_ending(end.code)}"
    if attempts.left():
        _log(f"{how}; it is to be started again (attempt {attempts.number} of {attempts.limit})")
        return START_AGAIN
    since = f"{attempts.number} of {attempts.limit} attempts since the last checkpoint" if attempts.number else ""
    shown = f" Its error: {without_secrets(error, os.environ)[:_ERROR_LENGTH]}." if error else ""
    cause = f"{how}{f'; {since}' if since else ''}.{shown}"
    return Verdict(FAILURE, cause, "Look for the first error in the log; max_restarts= allows more attempts.")


def _ending(returncode: int) -> str:
    if returncode > 0:
        return f"exit code {returncode}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-returncode).name}"
    return f"signal {-returncode}"


def errors_in(log: str) -> list[str]:
    """The exceptions at the end of a log, as Python shows them (`ValueError: …`), the oldest first.

    torchrun's own, which only says that a rank has failed, is not among them.
    """
    found, inside = [], False
    for line in (_RANK_PREFIX.sub("", line, count=1) for line in log.splitlines()):
        if line.startswith(("Traceback (most recent call last)", '  File "')):  # a SyntaxError has no head
            inside = True
        elif inside and line and not line[0].isspace():
            inside = False
            if "ChildFailedError" not in line and line not in found:
                found.append(line)
    return found


def without_secrets(text: str, env: Mapping[str, str]) -> str:
    """The text without the values of the variables that TUNEWRIGHT_SECRETS names: a message is seen by more than a log."""
    values = {env[name] for name in env.get("TUNEWRIGHT_SECRETS", "").split(",") if env.get(name)}
    for value in values:
        values = values | {repr(value)[1:-1], urllib.parse.quote(value, safe="")}  # as libraries show them
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "<redacted>")
    return text


def install(name: str, command: list[str], settings: Settings, retry_for: float) -> int:
    """The init container `name`: run pip, again for `retry_for` seconds while its index is away.

    Returns:
        The exit code of the process: 0, also after a failure of which a verdict was left; 143 when it was terminated.
    """
    if settings.run and read_verdict(settings.run):
        _log(f"{name} does nothing: an earlier step has failed")
        return 0
    watch = _Watch(settings._replace(output=None))
    give_up, pause = time.monotonic() + retry_for, 1.0
    while True:
        end = _execute(command, watch, settings.grace, lambda: None)
        if not isinstance(end, Verdict):
            if end.stop is not None:
                return end.stop.code
            if not end.code:
                return 0
            if _INDEX_IS_AWAY.search(end.stderr) and time.monotonic() + pause < give_up:
                _log(f"{name}: the package index is away; trying again in {pause:.0f} s")
                if stop := _sleep(pause, watch):
                    return stop.code
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            end = _pip_verdict(name, command, end)
        return _leave(end, settings)


def _leave(verdict: Verdict, settings: Settings) -> int:
    report(verdict, settings.termination_log, _emit)
    if settings.run is None:
        return verdict.code
    try:
        write_verdict(settings.run, *verdict)
    except OSError as error:
        _log(f"the verdict could not be left in {settings.run}: {error}")
        return verdict.code
    return 0


def _pip_verdict(name: str, command: list[str], end: _End) -> Verdict:
    lines = [line for line in end.stderr.splitlines() if line.strip() and not line.startswith(("[notice]", "WARNING"))]
    said = without_secrets(" ".join(lines[-3:]), os.environ)[-_ERROR_LENGTH:]
    index = command[command.index("--index-url") + 1] if "--index-url" in command else "the package index"
    if _INDEX_IS_AWAY.search(end.stderr):
        remedy = f"Check that containers reach {index}; init_env= takes PIP_INDEX_URL and HTTPS_PROXY."
        return Verdict(UNAVAILABLE, f"Step {name} could not reach {index}: {said}", remedy)
    wanted = ", ".join(command[command.index("--") + 1 :]) if "--" in command else "them"
    code = NOT_FOUND if "No matching distribution" in end.stderr else FAILURE
    remedy = f"Check that {index} has {wanted} for the image's Python; init_env= takes PIP_INDEX_URL for another index."
    return Verdict(code, f"Step {name} ended with {_ending(end.code)}: {said}", remedy)


def _sleep(seconds: float, watch: _Watch) -> _Stop | None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if stop := watch.stop():
            return stop
        time.sleep(_TICK)
    return None


def _too_late(settings: Settings) -> Verdict:
    cause = f"The job did not end within its deadline of {settings.deadline:.0f} seconds."
    return Verdict(FAILURE, cause, "Give it more time with deadline=; its checkpoints are kept.")


class _Stop(NamedTuple):
    """Why the command has to end: by `signum`, and `run` with `code`, unless it is late, which is a failure."""

    signum: int
    code: int = TERMINATED
    late: bool = False


class _Watch:
    """Knows when the command has to end: a signal came, the parent is gone, or the deadline has passed."""

    def __init__(self, settings: Settings) -> None:
        self._received: int | None = None
        self._parent = settings.parent
        self._file = settings.output / ".started" if settings.output else None
        self._ends_at = self._first_start() + settings.deadline if settings.deadline is not None else math.inf
        names = ("SIGTERM", "SIGINT", "SIGBREAK")  # the last is Windows' own
        for signum in (getattr(signal, name) for name in names if hasattr(signal, name)):
            signal.signal(signum, self._receive)

    def stop(self) -> _Stop | None:
        """The reason to end now, if there is one."""
        if self._received is not None:
            return _Stop(self._received, INTERRUPTED if self._received == signal.SIGINT else TERMINATED)
        if self._parent is not None and os.getppid() != self._parent:
            return _Stop(signal.SIGTERM)
        return _Stop(signal.SIGTERM, late=True) if self.late() else None

    def late(self) -> bool:
        """Whether the deadline has passed."""
        return time.time() > self._ends_at

    def forget(self) -> None:
        """Remove the record of the first start."""
        if self._file:
            with contextlib.suppress(OSError):
                self._file.unlink()

    def _receive(self, signum: int, _: FrameType | None) -> None:
        self._received = self._received or signum

    def _first_start(self) -> float:
        """Seconds since the epoch; of several workers, the first one's clock counts."""
        now = time.time()
        if self._file:
            with contextlib.suppress(OSError, ValueError):
                _create(self._file, repr(now))
                return float(self._file.read_text("utf-8"))
        return now


class _Attempts:
    """How often this worker started since its newest complete checkpoint, kept where checkpoints are.

    Attributes:
        limit: starts that are allowed.
        number: of this start, from 1; 0 if it could not be counted.
    """

    def __init__(self, settings: Settings) -> None:
        self.limit = settings.max_restarts + 1
        self.number = 0
        self._step = -1
        self._output = settings.output
        self._name = f".attempts-{settings.worker}.json"

    def begin(self) -> None:
        """Count this start."""
        try:
            if self._output is None or not self._output.is_dir():
                raise FileNotFoundError("there is no output folder")
            number, step = _read_attempts(self._output / self._name)
            self._step = _newest_step(self._output)
            number = 1 if self._advanced(step) else number + 1
            self._write(number)
        except OSError as error:
            _log(f"attempts cannot be counted, so a crash will be final: {error}")
            return
        self.number = number
        _emit({"event": "attempt", "attempt": number, "limit": self.limit})

    def left(self) -> bool:
        """Whether the command may be started again after a crash."""
        if not self.number or self._output is None:
            return False
        return self.number < self.limit or (self.limit > 1 and _newest_step(self._output) > self._step)

    def uncount(self) -> None:
        """This start was ended from outside."""
        if self.number:
            with contextlib.suppress(OSError):
                self._write(self.number - 1)

    def forget(self) -> None:
        """Remove the record."""
        if self._output:
            with contextlib.suppress(OSError):
                (self._output / self._name).unlink()

    def _advanced(self, step: int) -> bool:
        # With max_restarts=0 the first crash is final, whatever the checkpoints.
        return self.limit > 1 and self._step > step

    def _write(self, number: int) -> None:
        assert self._output is not None  # noqa: S101 - for the type checker: begin() has looked
        write_atomically(self._output / self._name, json.dumps({"attempts": number, "step": self._step}))


def _read_attempts(file: Path) -> tuple[int, int]:
    """Starts so far, and the newest checkpoint's step at the last one (-1: none)."""
    try:
        record = json.loads(_read(file) or "{}")
        return int(record["attempts"]), int(record["step"])
    except (ValueError, KeyError, TypeError):
        return 0, -1


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


def _newest_step(output: Path) -> int:
    newest = newest_checkpoint(output / "checkpoints")
    return -1 if newest is None else _step_of(newest)


def write_verdict(folder: Path, code: int, cause: str, remedy: str) -> None:
    """Leave a verdict in the pod's scratch folder; the first one stays.

    Raises:
        OSError: the folder cannot be written.
    """
    _create(folder / VERDICT_FILE, json.dumps(Verdict(code, cause, remedy)._asdict()))


def read_verdict(folder: Path) -> Verdict | None:
    """The verdict that was left in the pod's scratch folder, if there is one. Its code is final: 1 to 127."""
    text = _read(folder / VERDICT_FILE)
    if text is None:
        return None
    try:
        record = json.loads(text)
        verdict = Verdict(int(record["code"]), str(record["cause"]), str(record["remedy"]))
    except (ValueError, KeyError, TypeError):
        return Verdict(SOFTWARE, f"The verdict of an earlier step is damaged: {text[:200]!r}.", "See that step's log.")
    return verdict if FAILURE <= verdict.code <= _LAST_FINAL_CODE else verdict._replace(code=SOFTWARE)


def write_error(folder: Path, text: str) -> None:
    """Leave a crashed rank's error for the message that `run` may end with; the first one stays.

    Raises:
        OSError: the folder cannot be written.
    """
    _create(folder / ERROR_FILE, text)


def report(verdict: Verdict, termination_log: Path | None, emit: Callable[[Mapping[str, int | str]], None]) -> None:
    """Tell the client (event `failed`) and Kubernetes (termination message) why the container's work failed."""
    emit({"event": "failed", **verdict._asdict()})
    if termination_log is None:
        return
    remedy = f" {verdict.remedy}".encode(errors="replace")
    cause = verdict.cause.encode(errors="replace")[: max(0, _MESSAGE_BYTES - len(remedy))]
    try:
        # In place: in a pod it is a mounted file, which cannot be replaced.
        termination_log.write_bytes((cause + remedy).strip()[:_MESSAGE_BYTES])
    except OSError as error:
        _log(f"the termination message could not be written: {error}")


class _End(NamedTuple):
    """How a command ended: why it had to, if it had to; its exit code; and the end of its standard error."""

    stop: _Stop | None
    code: int
    stderr: str


def _execute(command: list[str], watch: _Watch, grace: float, uncount: Callable[[], None]) -> _End | Verdict:
    """Run a command and everything that it starts to the end; a verdict if it cannot be started."""
    adopting = _adopt_orphans()
    try:
        process = _start(command)
    except OSError as error:
        cause = f"The command {command[0]!r} could not be started: {error.strerror or error}."
        return Verdict(USAGE, cause, "Check that the image holds it, and that it is on PATH and executable.")
    assert process.stderr  # noqa: S101 - for the type checker: it is a pipe
    tail = _Tail(process.stderr)
    stop = _supervise(process, watch, grace, adopting, uncount)
    return _End(stop, process.returncode, tail.text())


class _Tail:
    """Passes a command's standard error on, whole lines at once as they come, and remembers the end of it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._end = stream, b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def text(self) -> str:
        """The end of what was written, once the command has ended."""
        self._thread.join(_DRAIN)
        return self._end.decode("utf-8", errors="replace")

    def _read(self) -> None:
        with self._stream:
            line = b""
            while data := os.read(self._stream.fileno(), _LINE_BYTES):
                line += data
                # Two processes write into one log: a part of a line would mix with what is no part of it.
                whole = max(line.rfind(b"\n"), line.rfind(b"\r")) + 1 or (len(line) if len(line) > _LINE_BYTES else 0)
                self._pass_on(line[:whole])
                line = line[whole:]
            self._pass_on(line)

    def _pass_on(self, data: bytes) -> None:
        self._end = (self._end + data)[-_TAIL_BYTES:]
        with contextlib.suppress(OSError):  # nobody listens any more
            while data:
                data = data[os.write(2, data) :]


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    env = {k: v for k, v in os.environ.items() if k != "TUNEWRIGHT_PARENT"}
    env.setdefault("OMP_NUM_THREADS", str(threads_for_each(env.get("PET_NPROC_PER_NODE", "1"))))
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP
        return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, creationflags=flags)
    # A session of its own: a terminal's Ctrl-C comes to `run` alone, which passes it on once.
    return subprocess.Popen(
        command,
        env=env,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - one thread
    )


def _supervise(
    process: subprocess.Popen[bytes], watch: _Watch, grace: float, adopting: bool, uncount: Callable[[], None]
) -> _Stop | None:
    """Wait for the command and everything that it started; returns why it had to end, if it had to."""
    stop, kill_at = None, math.inf
    while not _has_ended(process):
        if stop is None and (stop := watch.stop()) is not None:
            _interrupt(process, stop.signum)
            kill_at = time.monotonic() + grace
            if not stop.late:
                uncount()
        if time.monotonic() > kill_at:
            _kill(process)
        if adopting:
            _reap_orphans(process.pid)
    _kill(process)
    if adopting:
        _end_orphans(process.pid)
    if stop is None and process.returncode and (stop := watch.stop()) is not None and not stop.late:
        uncount()  # what ended `run` has ended the command, too
    return stop


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_TICK)
    except subprocess.TimeoutExpired:
        return False
    return True


def _interrupt(process: subprocess.Popen[bytes], signum: int) -> None:
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            os.killpg(process.pid, signum)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the command's group, or what is left of it."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)


def _prctl(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
        return bool(prctl(option, *(ctypes.c_ulong(v) for v in (value, 0, 0, 0))) == 0)
    except (ImportError, OSError, AttributeError):
        return False


def die_with_parent() -> None:
    """Have this process terminated with its parent, where the system can: for `preexec_fn`, in a process of one thread."""
    # If `run` is killed, the command must not go on beside the next attempt. Process 1 takes everything with it anyway.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _adopt_orphans() -> bool:
    # torchrun starts each rank in a session of its own: if torchrun is killed, its group is empty and its ranks go on.
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1) or os.getpid() == 1


def _reap_orphans(own: int) -> None:
    """Take the exit status of adopted processes, so that they do not stay as zombies; the command's is Popen's."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid != own:
            os.waitpid(ended.si_pid, 0)


def _end_orphans(own: int) -> None:
    for _ in range(100):  # a killed process's own children are adopted in turn
        _reap_orphans(own)
        children = _children()
        if not children:
            return
        for pid in children:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _children() -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):  # proc(5): pid (name) state parent …
        fields = (_read(file) or "").rpartition(")")[2].split()
        if fields[1:2] == [str(os.getpid())] and fields[0] not in "ZX":
            found.append(int(file.parent.name))
    return found


def parent_in(env: Mapping[str, str]) -> int | None:
    """The process that a step must not outlive, if the environment names one."""
    return int(_number(env, "TUNEWRIGHT_PARENT", 0)) or None


def worker_in(env: Mapping[str, str]) -> str:
    """The name of this worker among those that share a volume, as a part of a file's name."""
    return re.sub(r"[^\w.-]", "_", env.get("TUNEWRIGHT_WORKER") or env.get("HOSTNAME") or "0")


def threads_for_each(processes: str) -> int:
    """OMP_NUM_THREADS for each of so many processes. torchrun would set 1."""
    return max(1, usable_cpus() // int(processes)) if processes.isdecimal() and int(processes) else 1


def usable_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs that this container may use, at least 1: its affinity, and its cgroup's quota rounded down."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(cpus, _cpu_quota(cgroup))))


def _cpu_quota(cgroup: Path) -> float:
    """CPUs; infinite where there is no limit. Version 2 has both numbers in one file, version 1 in two."""
    version_1 = (_read(cgroup / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    fields = (_read(cgroup / "cpu.max") or " ".join(text or "" for text in version_1)).split()
    try:
        quota, period = (float(field) for field in fields)
    except ValueError:  # "max", or no such files
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf


def write_atomically(path: Path, text: str) -> None:
    """Replace a file: whoever reads it, also after a crash, finds the old text or the new one."""
    temporary = _temporary(path, text)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink()
        raise
    sync(path.parent)


def _create(path: Path, text: str) -> None:
    """Write a file whole, unless it is there already."""
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
    """Flush a file, or a folder's list of names, to the disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _read(file: Path) -> str | None:
    try:
        return file.read_text("utf-8", errors="replace")
    except OSError:
        return None


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    try:
        return float(env.get(name) or default)
    except ValueError:
        raise ValueError(f"{name}={env[name]!r} is not a number") from None


def _emit(event: Mapping[str, int | str]) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()


def _log(text: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(f"tunewright run: {text}\n")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
