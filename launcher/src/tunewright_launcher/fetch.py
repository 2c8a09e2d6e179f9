"""`fetch`: bring a model or dataset into its slot, once."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tunewright.errors import FetchError
from tunewright.events import Event, emit
from tunewright.providers import DatasetProvider, ModelProvider
from tunewright.wire import WireDocument
from tunewright_launcher.provider import load_source, read_document
from tunewright_launcher.slots import Marker, Slot, request_digest, take_stock
from tunewright_launcher.step import Step, log

RETRY_FOR = "TUNEWRIGHT_RETRY_FOR"

_LONGEST_PAUSE = 60.0
_PROGRESS_EVERY = 1.0

Emit = Callable[[Event], None]


def fetch(step: Step, slot: str) -> None:
    """The command: fetch what the slot's document asks for, and have patience with what may pass.

    A slot that holds it already needs no plugin, no network and no writable volume.

    Raises:
        FetchError, PluginError, RequestError, OSError: it cannot be fetched.
    """
    document = read_document(step, slot)
    place = Slot(step.paths.workspace, slot)
    if marker := place.find(request_digest(document)):
        emit(_fetched(slot, marker, cached=True))
        return
    provider = load_source(step, document)

    def work() -> None:
        fetch_into(provider, document, step.paths.workspace, slot, emit)

    def say(error: FetchError, pause: float) -> None:
        log(f"fetch {slot}", step.secrets.redact(f"{error.cause} Trying again in {pause:.0f} s."))

    patiently(work, float(step.env.get(RETRY_FOR) or 600), say)


def fetch_into(
    provider: ModelProvider | DatasetProvider, document: WireDocument, workspace: Path, slot: str, emit: Emit
) -> Marker:
    """Fetch once: stage, download, take stock, commit. A slot that holds what is requested stays as it is.

    Args:
        provider: what downloads.
        document: the request; the slot is compared with it.
        workspace: the volume's folder, in which the slot is.
        slot: the slot's name.
        emit: gets `progress` and `fetched`.

    Raises:
        FetchError: or whatever else the provider raises.
    """
    place, request = Slot(workspace, slot), request_digest(document)
    if marker := place.find(request) or place.recover(request):
        emit(_fetched(slot, marker, cached=True))
        return marker
    with place.staged() as target:
        with _progress(slot, target, emit):
            _download(provider, target)
        marker = Marker(
            provider=document.provider,
            uri=provider.uri,
            request=request,
            revision=None,
            files=take_stock(target),
            fetched_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        )
        marker = place.commit(target, marker)
    emit(_fetched(slot, marker, cached=False))
    return marker


def patiently(work: Callable[[], None], retry_for: float, say: Callable[[FetchError, float], None]) -> None:
    """Work; try again after errors that may pass, with growing pauses, until `retry_for` seconds are over.

    Args:
        work: what to do.
        retry_for: seconds.
        say: is told of an error and of the pause in seconds.

    Raises:
        FetchError: the last one; or whatever else `work` raises, at once.
    """
    end, pause = time.monotonic() + retry_for, 1.0
    while True:
        try:
            return work()
        except FetchError as error:
            # Jitter: the workers of a job fail together, and should not come back together.
            wait = pause * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
            if not error.code.may_pass or time.monotonic() + wait > end:
                raise
            say(error, wait)
        time.sleep(wait)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _download(provider: ModelProvider | DatasetProvider, target: Path) -> None:
    if isinstance(provider, ModelProvider):
        provider.download_model(target)
    else:
        provider.download_dataset(target)


def _fetched(slot: str, marker: Marker, *, cached: bool) -> Event:
    return {
        "event": "fetched",
        "item": slot,
        "files": len(marker.files),
        "bytes": marker.size,
        "revision": marker.revision,
        "cached": cached,
    }


@contextlib.contextmanager
def _progress(slot: str, folder: Path, emit: Emit) -> Iterator[None]:
    """Tell how much is on the disk, while a provider downloads."""
    done = threading.Event()
    thread = threading.Thread(target=_tell, args=(slot, folder, emit, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _tell(slot: str, folder: Path, emit: Emit, done: threading.Event) -> None:
    last = -1
    while not done.is_set():
        began = time.monotonic()
        size = _size(folder)
        if size != last:
            with contextlib.suppress(OSError):  # nobody listens any more
                emit({"event": "progress", "phase": "fetch", "item": slot, "done": size, "total": None})
        last = size
        # A folder of very many files takes long to look at: do little else than download.
        done.wait(max(_PROGRESS_EVERY, 10 * (time.monotonic() - began)))


def _size(folder: Path) -> int:
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(base, name)).st_size  # noqa: PTH118 - many files
    return total
