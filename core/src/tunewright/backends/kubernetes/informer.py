"""Changes of one job and its pods, from two watches whatever the number of pods. Threads put them into one queue."""

from __future__ import annotations

import functools
import json
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

import attrs

from tunewright.backends.kubernetes.api import Api, Page, Stream
from tunewright.backends.kubernetes.failures import ApiFailure
from tunewright.backends.kubernetes.kind import Object
from tunewright.backends.kubernetes.live import LiveJob, Pod

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0  # seconds between attempts to reach the API server
_LONGEST_QUEUE = 2000  # items: a slow reader slows the threads down, so that memory stays small
_TICK = 0.5

# Seconds after a broken connection during which a refusal does not count: an API server that has just started knows no
# roles yet, and refuses what it allows a moment later.
_SETTLING = 30.0


@attrs.frozen
class Listed:
    """All objects of a kind as they are now; everything known before is out of date."""

    kind: str
    items: list[Pod | LiveJob]


@attrs.frozen
class Changed:
    """One object was created, changed or deleted."""

    item: Pod | LiveJob
    gone: bool


class Informer:
    """Passes what threads observe to one reader, until it leaves the `with` block."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._queue: queue.Queue[object] = queue.Queue(_LONGEST_QUEUE)
        self._stopped = threading.Event()
        self._streams: set[Stream] = set()
        self._lock = threading.Lock()
        self._disturbed = -math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Tell the threads to end, without waiting for them: they hold nothing but a connection."""
        self._stopped.set()
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream.close()

    @property
    def left(self) -> bool:
        """Whether the reader has left."""
        return self._stopped.is_set()

    def watch(self, name: str) -> None:
        """Start watching a job and its pods; the reader gets `Listed`, then `Changed` items."""
        selectors = {
            self._api.kind.kind: {"fieldSelector": f"metadata.name={name}"},
            "Pod": {"labelSelector": f"{self._api.kind.job_label}={name}"},
        }
        for kind, selector in selectors.items():
            self.start(functools.partial(self._watch, kind, selector))

    def start(self, work: Callable[[], None]) -> None:
        """Run some work in a thread; an exception is raised where the informer is read."""

        def guarded() -> None:
            try:
                work()
            except Exception as error:
                self.put(error)

        threading.Thread(target=guarded, daemon=True).start()

    def put(self, item: object) -> None:
        """Pass an item to the reader; block while the reader is far behind."""
        while not self.left:
            try:
                return self._queue.put(item, timeout=_TICK)
            except queue.Full:
                continue
        return None

    def get(self, timeout: float | None = None) -> object | None:
        """Return the next item, or None if there is none in time.

        Raises:
            ApiFailure: the server refused a watch permanently.
            Exception: whatever else ended a thread.
        """
        try:
            item = self._queue.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(item, Exception):
            raise item
        return item

    def lines(self, open_stream: Callable[[], Stream]) -> Iterator[bytes]:
        """Yield the lines of a stream; it ends when the reader leaves.

        Raises:
            ApiFailure: the stream cannot be opened, or the connection broke.
        """
        stream = open_stream()
        with self._lock:
            self._streams.add(stream)
        try:
            if self.left:
                return
            yield from stream.lines()
        finally:
            with self._lock:
                self._streams.discard(stream)

    def believes(self, failure: ApiFailure) -> bool:
        """Return whether a failure is final; if not, the request should be repeated after a pause."""
        if failure.may_pass:
            self._disturbed = time.monotonic()
            return False
        return time.monotonic() > self._disturbed + _SETTLING

    def pauses(self) -> Iterator[int]:
        """Yield the turns of a loop, with growing pauses in between, until the reader leaves."""
        pause, turn = _FIRST_PAUSE, 0
        while not self.left:
            yield turn
            turn += 1
            self._stopped.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _watch(self, kind: str, selector: dict[str, str]) -> None:
        """List and watch repeatedly: the API server forgets old versions, and may itself be restarted."""
        while not self.left:
            page = self._list(kind, selector)
            if page is None:
                return
            self.put(Listed(kind, [self._read(kind, item) for item in page.items]))
            self._follow(kind, selector, page.version)
            self._stopped.wait(_FIRST_PAUSE)

    def _list(self, kind: str, selector: dict[str, str]) -> Page | None:
        for _ in self.pauses():
            try:
                return self._api.list(kind, selector)
            except ApiFailure as failure:
                if self.believes(failure):
                    raise
        return None

    def _follow(self, kind: str, selector: dict[str, str], version: str) -> None:
        """Pass on changes after a version, until the list has to be read again."""
        while not self.left:
            try:
                for line in self.lines(functools.partial(self._api.watch, kind, selector, version)):
                    event = json.loads(line)
                    if event["type"] == "ERROR":  # the version is too old
                        return
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        self.put(Changed(self._read(kind, event["object"]), gone=event["type"] == "DELETED"))
            except ApiFailure as failure:
                if self.believes(failure):
                    raise
                return

    def _read(self, kind: str, document: Object) -> Pod | LiveJob:
        """Keep only what is needed of an object: queued documents of many pods would fill the memory."""
        return self._api.kind.read_pod(document) if kind == "Pod" else self._api.kind.read(document)


class JobCache:
    """The current state of a job and its pods, updated from an informer's items."""

    def __init__(self) -> None:
        self.job: LiveJob | None = None
        self.gone = False
        self._pods: dict[str, Pod] = {}
        self._listed: set[str] = set()

    @property
    def whole(self) -> bool:
        """Whether the job and its pods have been listed."""
        return len(self._listed) == 2  # noqa: PLR2004 - the job and its pods

    @property
    def pods(self) -> list[Pod]:
        """The job's pods."""
        return list(self._pods.values())

    def take(self, item: object) -> None:
        """Apply an item of the informer."""
        match item:
            case Listed(kind="Pod", items=items):
                self._pods = {pod.uid: pod for pod in items if isinstance(pod, Pod)}
            case Changed(item=Pod() as pod, gone=gone):
                self._pods[pod.uid] = pod
                if gone:
                    del self._pods[pod.uid]
            case Listed(items=items):
                self._see(next((job for job in items if isinstance(job, LiveJob)), None))
            case Changed(item=LiveJob() as job, gone=gone):
                self._see(None if gone else job)
        if isinstance(item, Listed):
            self._listed.add(item.kind)

    def _see(self, job: LiveJob | None) -> None:
        self.gone = job is None
        self.job = job or self.job
