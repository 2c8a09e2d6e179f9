"""A job's log, read from each container of each pod; following it survives restarts of pods and of the API server."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from http import HTTPStatus

import attrs

from tunewright.backends.kubernetes.api import Api
from tunewright.backends.kubernetes.failures import ApiFailure
from tunewright.backends.kubernetes.informer import Informer, JobCache
from tunewright.backends.kubernetes.live import Container, LiveJob, Pod, in_order
from tunewright.errors import JobError
from tunewright.events import Event, parse_event
from tunewright.status.status import JobStatus, LogLine

_TAIL = "100"  # lines
_TAIL_BYTES = str(1 << 17)
_NEWEST = 3.0  # seconds to wait for newest lines, which only make a status richer
_TICK = 1.0

# Attempts to read a log that is refused for transient reasons, before the state of its container decides.
_TRIES = 5


@attrs.frozen
class Wanted:
    """Which containers' logs to read.

    Attributes:
        container: its name in logs; None for all.
        worker: index; None for all.
    """

    container: str | None
    worker: int | None

    def of(self, pods: Sequence[Pod]) -> list[tuple[Pod, Container]]:
        """Return the selected containers that have started, in order."""
        return [
            (pod, container)
            for pod in in_order(pods)
            if self.worker in {None, pod.worker}
            for container in pod.containers
            if container.phase != "waiting" and self.container in {None, container.step}
        ]


def wanted_of(job: LiveJob, added: Collection[str], container: str | None, worker: int | None) -> Wanted:
    """Return what a user selects of a job's logs.

    Args:
        job: the job.
        added: containers that its controller adds by itself.
        container: its name in logs; None for all.
        worker: index; None for all.

    Raises:
        JobError: there is no such container or worker.
    """
    if container is not None and container not in {*job.steps, *added}:
        raise JobError(
            f"Job {job.name!r} has no container {container!r}. It has: {', '.join(job.steps)}.", name=job.name
        )
    if worker is not None and not 0 <= worker < job.workers:
        raise JobError(
            f"Job {job.name!r} has no worker {worker}. Its workers are 0 to {job.workers - 1}.", name=job.name
        )
    return Wanted(container, worker)


def read(api: Api, pods: Sequence[Pod], wanted: Wanted) -> Iterator[LogLine]:
    """Yield all lines, one container after another.

    Raises:
        ApiFailure: a log cannot be read.
    """
    for pod, container in wanted.of(pods):
        with contextlib.suppress(_Gone), _gone_is_the_end():
            for line in api.log(pod.name, container.name, {}).lines():
                yield _line(pod, container, line)


def newest_events(api: Api, pod: Pod, container: Container) -> Iterator[Event]:
    """Yield the events among a container's last lines, newest first; none if the log cannot be read."""
    try:
        stream = api.log(pod.name, container.name, {"tailLines": _TAIL, "limitBytes": _TAIL_BYTES}, _NEWEST)
        lines = [line.decode("utf-8", errors="replace") for line in stream.lines()]
    except ApiFailure:
        return
    yield from (event for line in reversed(lines) if (event := parse_event(line)))


class Follower:
    """Follows a job's log: one watch of its pods, and one connection for each container that writes.

    Args:
        api: the cluster.
        name: the job.
        wanted: which containers.
        status: computes the job's status, which the follower yields when it changes.
        pods: fetches the pods as they are now.
    """

    def __init__(
        self,
        api: Api,
        name: str,
        wanted: Wanted,
        *,
        status: Callable[[LiveJob, Sequence[Pod]], JobStatus],
        pods: Callable[[], list[Pod]],
    ) -> None:
        self._api, self._name, self._wanted = api, name, wanted
        self._status_of, self._ask_pods = status, pods
        self._status: JobStatus | None = None
        self._seen: set[tuple[str, str, int]] = set()
        self._reading = 0

    def updates(self) -> Iterator[LogLine | JobStatus]:
        """Yield lines as they are written and the status as it changes, until the job is at rest and every log has been read.

        Raises:
            ApiFailure: the cluster refuses permanently.
        """
        with Informer(self._api) as informer:
            informer.watch(self._name)
            cache, ended = JobCache(), False
            while not (ended and not self._reading):
                item = informer.get(_TICK)
                if isinstance(item, LogLine):
                    yield item
                    continue
                if isinstance(item, _Ended):
                    self._reading -= 1
                    continue
                cache.take(item)
                if item is None or ended or not cache.whole:
                    continue
                self._start(informer, cache.pods)
                yield from self._change(cache)
                if ended := self._is_over(cache):
                    # The watch of the pods may lag behind the job's.
                    with contextlib.suppress(ApiFailure):
                        self._start(informer, self._ask_pods())

    def _is_over(self, cache: JobCache) -> bool:
        return cache.gone or (self._status is not None and self._status.state.at_rest)

    def _change(self, cache: JobCache) -> Iterator[JobStatus]:
        if cache.job is None:
            return
        before, self._status = self._status, self._status_of(cache.job, cache.pods)
        if self._status != before:
            yield self._status

    def _start(self, informer: Informer, pods: Sequence[Pod]) -> None:
        for pod, container in self._wanted.of(pods):
            key = (pod.uid, container.name, container.restarts)
            if key not in self._seen:
                self._seen.add(key)
                self._reading += 1
                informer.start(functools.partial(self._read, informer, pod, container))

    def _read(self, informer: Informer, pod: Pod, container: Container) -> None:
        """Read one container's log to its end; runs in its own thread."""
        reader = _Reader(self._api, informer, pod, container)
        try:
            reader.run()
        finally:
            informer.put(_Ended())


class _Ended:
    """A container's log has been read to its end."""


class _Gone(Exception):  # noqa: N818 - not an error
    """The pod no longer exists, nor does its log."""


class _Reader:
    """Reads one container's log; after a broken connection it continues behind the last line that it read."""

    def __init__(self, api: Api, informer: Informer, pod: Pod, container: Container) -> None:
        self._api, self._feed, self._pod, self._container = api, informer, pod, container
        self._last = b""  # timestamp of the newest line, in nanoseconds, as the kubelet writes it
        self._of_last = 0  # lines with that timestamp: CRI-O gives the same one to all lines that it reads at once

    def run(self) -> None:
        with contextlib.suppress(_Gone):
            for turn in self._feed.pauses():
                try:
                    with _gone_is_the_end():
                        self._lines(follow="true")
                        if self._feed.left:  # leaving cut the connection; nobody needs the rest of the log
                            return
                        # A follow also ends with the API server; a plain read then returns the missing lines.
                        if self._has_ended():
                            self._lines()
                            return
                except ApiFailure as failure:
                    if self._feed.believes(failure):
                        raise
                    if turn >= _TRIES and self._cannot_be_had():
                        return

    def _cannot_be_had(self) -> bool:
        """Return whether the container has terminated, so that a log that is still refused will never be readable."""
        try:
            return self._has_ended()
        except ApiFailure:
            return False

    def _lines(self, **query: str) -> None:
        # The API only honours whole seconds.
        since = {"sinceTime": self._last.decode()} if self._last else {}
        asked = {"timestamps": "true", **since, **query}
        log = functools.partial(self._api.log, self._pod.name, self._container.name, asked)
        at, read = self._last, self._of_last
        for line in self._feed.lines(log):
            time, _, text = line.partition(b" ")
            if time < at:
                continue
            if time == at and read:
                read -= 1
                continue
            if time >= self._last:
                self._last, self._of_last = time, self._of_last + 1 if time == self._last else 1
            self._feed.put(_line(self._pod, self._container, text))

    def _has_ended(self) -> bool:
        pod = self._api.find("Pod", self._pod.name)
        if pod is None or pod["metadata"]["uid"] != self._pod.uid:
            raise _Gone
        found = [c for c in self._api.kind.read_pod(pod).containers if c.name == self._container.name]
        return not found or found[0].phase == "terminated" or found[0].restarts != self._container.restarts


@contextlib.contextmanager
def _gone_is_the_end() -> Iterator[None]:
    try:
        yield
    except ApiFailure as failure:
        # The kubelet answers 400 for a container whose log has been removed, and for a pod that it no longer has a 404 that
        # reads like the one for a kind that the cluster does not know.
        if failure.status in (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST):
            raise _Gone from failure
        raise


def _line(pod: Pod, container: Container, text: bytes) -> LogLine:
    return LogLine(
        container=container.step, worker=pod.worker, text=text.decode("utf-8", errors="replace").rstrip("\r")
    )
