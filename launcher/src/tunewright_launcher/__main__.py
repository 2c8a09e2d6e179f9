"""`python -m tunewright_launcher`."""

import atexit
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence

# Number of new objects that triggers garbage collection: more than the imports of a provider create. Each collection takes
# longer than the one before, and finds nothing: with the default of 700, they took 0.1 s of a fetch. A trainer makes garbage.
_GARBAGE, _USUAL = 200_000, gc.get_threshold()
gc.set_threshold(_GARBAGE)

from tunewright.environment import fetch_container  # noqa: E402 - imports are what it saves time of
from tunewright_launcher.cli import main  # noqa: E402
from tunewright_launcher.supervised import Ended, slots_of, supervise  # noqa: E402

# Seconds after the end of a command in which threads of a plugin may end, too; those of a trainer may be saving something.
_PATIENCE = {"fetch": 10.0, "check": 10.0, "upload": 10.0, "train": 60.0}
_STEPS = ("fetch", "check", "upload")


def _log_to_stderr() -> None:
    """Log our own and plugins' messages on one rank, and other libraries' warnings on all."""
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or record.name.startswith("tunewright"))
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING
    logging.basicConfig(level=level, format="%(name)s: %(message)s", handlers=[handler])


def _run(arguments: Sequence[str]) -> int:
    """Run a command. A fetch and a check exit without interpreter teardown: 0.1 s with a cloud provider's library, seconds with torch."""
    status: int | None = None
    if arguments[:1] != ["fetch"]:
        gc.set_threshold(*_USUAL)
    ended = _supervised(arguments)
    if arguments[:1] in (["fetch"], ["check"]):
        # Registered first, so called last: after threads have ended, and after what libraries have registered.
        atexit.register(lambda: _leave(status))
    try:
        status = main(arguments)
    except BaseException as error:  # Python itself ends the process
        ended(_code_of(error))
        raise
    ended(status)
    if arguments[:1] and (patience := _PATIENCE.get(arguments[0])):
        _leave_at_last(status, patience)
    return status


def _leave_at_last(status: int, patience: float) -> None:
    """Exit though a thread that a plugin has started never ends: the interpreter would wait for it, and the job with it."""

    def leave() -> None:
        waiting = [thread.name for thread in threading.enumerate() if not thread.daemon and thread is not main_thread]
        sys.stderr.write(f"tunewright: exiting without waiting for what a plugin left running: {', '.join(waiting)}\n")
        _leave(status)

    main_thread = threading.main_thread()
    timer = threading.Timer(patience, leave)
    timer.daemon = True
    timer.start()


def _supervised(arguments: Sequence[str]) -> Ended:
    command, *rest = arguments or ("",)
    if command not in _STEPS:
        return lambda _: None
    slot = rest[0] if command == "fetch" and rest else None
    return supervise(fetch_container(slot) if slot else command, slots_of(command, slot), os.environ)


def _code_of(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return -signal.SIGINT
    return error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1


def _leave(status: int | None) -> None:
    if status is None:  # an exception ended it, which Python still has to turn into an exit code
        return
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    _log_to_stderr()
    sys.exit(_run(sys.argv[1:]))
