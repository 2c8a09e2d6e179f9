"""`python -m tunewright_launcher`."""

import atexit
import contextlib
import logging
import os
import sys
from collections.abc import Sequence

from tunewright_launcher.cli import main


def _log_to_stderr() -> None:
    """Log our own and plugins' messages on one rank, and other libraries' warnings on all."""
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or record.name.startswith("tunewright"))
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING
    logging.basicConfig(level=level, format="%(name)s: %(message)s", handlers=[handler])


def _run(arguments: Sequence[str]) -> int:
    """Run a command. A fetch and a check exit without interpreter teardown: 0.1 s with a cloud provider's library, seconds with torch."""
    status: int | None = None
    if arguments[:1] in (["fetch"], ["check"]):
        # Registered first, so called last: after threads have ended, and after what libraries have registered.
        atexit.register(lambda: _leave(status))
    status = main(arguments)
    return status


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
