"""A second process for small files.

Small files cost interpreter time, and one interpreter uses one CPU at a time. The worker is forked, so it knows everything that
the snapshot knows, and needs almost no memory of its own. It ends when the other end of its socket is closed, which the kernel
does when the parent process is killed.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from io import BufferedRWPair
from queue import SimpleQueue
from typing import Self

import attrs

from tunewright.providers.snapshots import Entry
from tunewright_launcher.progress import Progress
from tunewright_launcher.tasks import Queue, Task
from tunewright_launcher.threads import Threads

_AHEAD = 8  # entries queued in the worker; at the end, everybody waits for them
_TOGETHER = 4  # entries in one message, which wakes the parent; more would leave the worker without
_LATEST = 0.1  # seconds for which the parent may be left without a message

Fetch = Callable[[Entry], None]
Answer = tuple[str, BaseException | None]
"""Path of an entry that is done, and the error if there was one."""


class ForkedWorker:
    """The worker process, as its parent sees it; a context manager that ends it.

    Create it while no other thread holds a lock that `fetch` needs.

    Args:
        fetch: fetches an entry; called in the worker, from several threads.
        threads: the worker's threads.
    """

    def __init__(self, fetch: Fetch, threads: Threads) -> None:
        self.threads = threads
        ours, theirs = socket.socketpair()
        with warnings.catch_warnings():  # newer Pythons warn about what the docstring says
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if not self._pid:
            _run_child(ours, theirs, fetch, threads)
        theirs.close()
        self._socket = ours
        self._stream = ours.makefile("rwb")

    def send(self, entries: Sequence[Entry]) -> None:
        """Send entries to fetch.

        Raises:
            OSError: the worker has died.
        """
        pickle.dump(entries, self._stream)
        self._stream.flush()

    def receive(self) -> list[Answer]:
        """Wait until an entry is done; return it, and others that are done.

        Raises:
            EOFError, OSError: the worker has died.
        """
        try:
            answers: list[Answer] = pickle.load(self._stream)  # noqa: S301 - from our own child
        except pickle.UnpicklingError as error:  # it died in the middle of its message
            raise EOFError("the worker's message is cut off") from error
        return answers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Kill the worker; entries in progress stay unfinished."""
        self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._stream.close()
        self._socket.close()
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


@contextlib.contextmanager
def forked_worker(fetch: Fetch, threads: Threads, queue: Queue, progress: Progress) -> Iterator[None]:
    """Let a second process fetch some of a queue's small files.

    Args:
        fetch: see `ForkedWorker`.
        threads: see `ForkedWorker`.
        queue: the tasks.
        progress: counts the bytes.
    """
    worker = ForkedWorker(fetch, threads)
    feeder = threading.Thread(target=_feed, args=(worker, queue, progress), name="fetch-feeder", daemon=True)
    feeder.start()
    try:
        with worker:
            yield
    finally:
        # Only now: the worker knows nothing of an error in this process, and would keep retrying.
        feeder.join()


def _feed(worker: ForkedWorker, queue: Queue, progress: Progress) -> None:
    """Keep the worker busy. If it dies, its entries go back to the queue."""
    given: dict[str, Task] = {}
    try:
        while queue.error is None:
            tasks = queue.take_small(worker.threads.most + _AHEAD - len(given), wait=not given)
            given |= {task.entry.path: task for task in tasks}
            if not given:
                return
            if tasks:
                worker.send([task.entry for task in tasks])
            for path, error in worker.receive():
                if error is not None:
                    queue.fail(error)
                    return
                progress.add(given.pop(path).entry.size)
                queue.done()
    except (OSError, EOFError):
        for task in given.values():
            queue.put_back(task)
    except BaseException as error:  # the fetch raises it; otherwise its tasks would stay open forever
        queue.fail(error)


def _run_child(ours: socket.socket, theirs: socket.socket, fetch: Fetch, threads: Threads) -> None:
    """Run the worker. It never returns: the stack above belongs to the parent process."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        ours.close()
        _serve(theirs, fetch, threads)
    finally:
        os._exit(0)


def _serve(theirs: socket.socket, fetch: Fetch, threads: Threads) -> None:
    stream = theirs.makefile("rwb")
    waiting: SimpleQueue[Entry] = SimpleQueue()
    answers = _Answers(stream)

    def work() -> None:
        while True:
            answers.add(_attempt(fetch, waiting.get()), at_once=waiting.empty())

    threads.start(work)
    with contextlib.suppress(EOFError, OSError):
        while True:
            for entry in pickle.load(stream):  # noqa: S301 - from our own parent
                waiting.put(entry)


@attrs.define(eq=False)
class _Answers:
    """Send what is done to the parent: some together, as long as there is more to do and they follow each other quickly."""

    _stream: BufferedRWPair
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _kept: list[Answer] = attrs.field(factory=list, init=False)
    _sent: float = attrs.field(default=0.0, init=False)

    def add(self, answer: Answer, *, at_once: bool) -> None:
        """Send an answer, or keep it for the next message."""
        with self._lock:
            self._kept.append(answer)
            late = time.monotonic() - self._sent > _LATEST
            if at_once or late or answer[1] is not None or len(self._kept) >= _TOGETHER:
                pickle.dump(self._kept, self._stream)
                self._stream.flush()
                self._kept, self._sent = [], time.monotonic()


def _attempt(fetch: Fetch, entry: Entry) -> Answer:
    try:
        fetch(entry)
    except BaseException as error:  # the parent process raises it
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - some errors can be packed, and not unpacked
        except Exception:
            return entry.path, RuntimeError("".join(traceback.format_exception(error)))
        return entry.path, error
    return entry.path, None
