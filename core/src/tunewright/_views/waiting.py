"""What the client is doing while it prepares and submits a job, once that takes longer than a moment."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator

from tunewright._doing import doing_logger
from tunewright.events import Phase, emit

_PATIENCE = 2.0  # seconds
_TICK = 0.1


class _Latest(logging.Handler):
    """Keeps what one thread said last."""

    def __init__(self, first: str) -> None:
        super().__init__()
        self.text = first
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.text = record.getMessage()


@contextlib.contextmanager
def told(show: Callable[[str], None], *, patience: float = _PATIENCE) -> Iterator[None]:
    """Show what the body is doing, as `tunewright._doing.doing` is told, once the body has taken some time.

    Args:
        show: receives what is done, once each, from a thread of its own.
        patience: seconds that the body may take before anything is shown.
    """
    latest, ended = _Latest("reading what to do"), threading.Event()
    thread = threading.Thread(target=_watch, args=(latest, show, time.monotonic() + patience, ended), daemon=True)
    logger = doing_logger()
    logger.addHandler(latest)
    thread.start()
    try:
        yield
    finally:
        logger.removeHandler(latest)
        ended.set()
        thread.join()


def _watch(latest: _Latest, show: Callable[[str], None], begins: float, ended: threading.Event) -> None:
    shown = ""
    while not ended.wait(_TICK):
        if time.monotonic() > begins and (text := latest.text) != shown:
            shown = text
            with contextlib.suppress(OSError):  # nobody reads it any more
                show(text)


def told_in_notebook(*, patience: float = _PATIENCE) -> contextlib.AbstractContextManager[None]:
    """Print below a notebook's cell what the body is doing, as `told`; do nothing elsewhere, where a library prints nothing unasked."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if getattr(shell, "kernel", None) is None:
        return contextlib.nullcontext()
    return told(lambda text: print(f"{text} …", flush=True), patience=patience)  # noqa: T201 - for people


def shown_as_text(text: str) -> None:
    """Print what the client is doing to standard error, where it disturbs no output."""
    sys.stderr.write(f"{text} …\n")
    sys.stderr.flush()


def shown_as_event(text: str) -> None:
    """Print what the client is doing as an event, `phase`."""
    emit(Phase(name="submit", text=text))
