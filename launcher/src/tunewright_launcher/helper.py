"""A second process for small files.

What they cost is the interpreter's time, and one interpreter uses one processor at a time. The helper is forked, so it knows
all that the snapshot knows, and takes next to no memory of its own. It ends when the other end of its socket is closed, as
the kernel does it when the first process is killed.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Self

from tunewright.providers.snapshots import Entry
from tunewright_launcher.pace import Progress
from tunewright_launcher.threads import Threads
from tunewright_launcher.work import Queue, Task

_AHEAD = 4  # entries that the helper has besides those that it is at; at the end, all wait for them

Fetch = Callable[[Entry], None]


class ForkedWorker:
    """The process, seen from the first one. Entered, it lives.

    To be made while no other thread runs that has locks which `fetch` needs.

    Args:
        fetch: what it does with an entry, from several threads.
        threads: that do it there.
    """

    def __init__(self, fetch: Fetch, threads: Threads) -> None:
        self.threads = threads
        ours, theirs = socket.socketpair()
        with warnings.catch_warnings():  # newer Pythons warn of what the docstring says
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if not self._pid:
            _live(ours, theirs, fetch, threads)
        theirs.close()
        self._socket = ours
        self._stream = ours.makefile("rwb")

    def send(self, entries: Sequence[Entry]) -> None:
        """Give it entries to fetch.

        Raises:
            OSError: it has died.
        """
        pickle.dump(entries, self._stream)
        self._stream.flush()

    def receive(self) -> tuple[str, BaseException | None]:
        """Wait for the end of one: its path, and the error, if there was one.

        Raises:
            EOFError, OSError: it has died.
        """
        try:
            answer: tuple[str, BaseException | None] = pickle.load(self._stream)  # noqa: S301 - from our own child
        except pickle.UnpicklingError as error:  # it died in the middle of its answer
            raise EOFError("the helper's answer is cut off") from error
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it at once, whatever it does; what it was at is not finished."""
        self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._stream.close()
        self._socket.close()
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


@contextlib.contextmanager
def helped(fetch: Fetch, threads: Threads, queue: Queue, progress: Progress) -> Iterator[None]:
    """A second process does some of the small files of a queue, while this is entered.

    Args:
        fetch: as of `ForkedWorker`.
        threads: as of `ForkedWorker`.
        queue: what is to be done.
        progress: is told of the bytes that are there.
    """
    helper = ForkedWorker(fetch, threads)
    feeder = threading.Thread(target=_feed, args=(helper, queue, progress), name="fetch-helper", daemon=True)
    feeder.start()
    try:
        with helper:
            yield
    finally:
        # Only now: of an error in this process the other one knows nothing, and would try on and on.
        feeder.join()


def _feed(helper: ForkedWorker, queue: Queue, progress: Progress) -> None:
    """Keep the helper busy. If it dies, what it had is done here."""
    given: dict[str, Task] = {}
    try:
        while queue.error is None:
            works = queue.take_small(helper.threads.most + _AHEAD - len(given), wait=not given)
            given |= {work.entry.path: work for work in works}
            if not given:
                return
            if works:
                helper.send([work.entry for work in works])
            path, error = helper.receive()
            if error is not None:
                queue.fail(error)
                return
            progress.add(given.pop(path).entry.size)
            queue.done()
    except (OSError, EOFError):
        for work in given.values():
            queue.put_back(work)
    except BaseException as error:  # whatever it is, the fetch raises it; else nobody would ever be done
        queue.fail(error)


def _live(ours: socket.socket, theirs: socket.socket, fetch: Fetch, threads: Threads) -> None:
    """The helper's whole life. It never returns: what is above it on the stack is the first process's."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        ours.close()
        _serve(theirs, fetch, threads)
    finally:
        os._exit(0)


def _serve(theirs: socket.socket, fetch: Fetch, threads: Threads) -> None:
    stream, lock = theirs.makefile("rwb"), threading.Lock()
    waiting: SimpleQueue[Entry] = SimpleQueue()

    def work() -> None:
        while True:
            entry = waiting.get()
            data = _attempt(fetch, entry)
            with lock:
                stream.write(data)
                stream.flush()

    threads.start(work)
    with contextlib.suppress(EOFError, OSError):
        while True:
            for entry in pickle.load(stream):  # noqa: S301 - from our own parent
                waiting.put(entry)


def _attempt(fetch: Fetch, entry: Entry) -> bytes:
    try:
        fetch(entry)
    except BaseException as error:  # whatever it is, the first process raises it
        try:
            data = pickle.dumps((entry.path, error))
            pickle.loads(data)  # noqa: S301 - some errors can be packed, and not unpacked
        except Exception:
            data = pickle.dumps((entry.path, RuntimeError("".join(traceback.format_exception(error)))))
        return data
    return pickle.dumps((entry.path, None))
