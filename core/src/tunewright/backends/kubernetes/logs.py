"""A job's log: of each container of each pod, read from the API; followed across restarts of pods and of the API server."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus

import attrs

from tunewright.backends.kubernetes.api import Api
from tunewright.backends.kubernetes.failures import ApiFailure
from tunewright.backends.kubernetes.informer import Informer, JobCache
from tunewright.backends.kubernetes.live import Container, LiveJob, Pod, in_order
from tunewright.events import Event, parse_event
from tunewright.status.status import JobStatus, LogLine

_TAIL = "100"  # lines

_TAIL_BYTES = str(1 << 17)

_TICK = 1.0

# How often a log is asked for, while it is refused for reasons that may pass, before it matters whether its writer lives.
_TRIES = 5


@attrs.frozen
class Wanted:
    """Which containers' logs are asked for.

    Attributes:
        step: the step's name; None for all.
        worker: index; None for all.
    """

    step: str | None
    worker: int | None

    def of(self, pods: Sequence[Pod]) -> list[tuple[Pod, Container]]:
        """The containers that have begun to write, in order."""
        return [
            (pod, container)
            for pod in in_order(pods)
            if self.worker in {None, pod.worker}
            for container in pod.containers
            if container.phase != "waiting" and self.step in {None, container.step}
        ]


def read(api: Api, pods: Sequence[Pod], wanted: Wanted) -> Iterator[LogLine]:
    """All lines, one container after another.

    Raises:
        ApiFailure: a log cannot be read.
    """
    for pod, container in wanted.of(pods):
        with contextlib.suppress(_Gone), _gone_is_the_end():
            for line in api.log(pod.name, container.name).lines():
                yield _line(pod, container, line)


def newest_events(api: Api, pod: Pod, container: Container) -> Iterator[Event]:
    """The events among a container's last lines, newest first; none if they cannot be read."""
    try:
        stream = api.log(pod.name, container.name, tailLines=_TAIL, limitBytes=_TAIL_BYTES)
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
        status: what is known of the job, of which the follower tells where it changes.
        pods: asks for the pods as they are now.
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
        """The lines as they are written, and the status as it changes, until the job is at rest and everything is read.

        Raises:
            ApiFailure: the cluster refuses for good.
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
                    # The watch of the pods may be behind the job's.
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
        """Read one container's log to its end, in a thread of its own."""
        reader = _Reader(self._api, informer, pod, container)
        try:
            reader.run()
        finally:
            informer.put(_Ended())


class _Ended:
    """A container's log has been read to its end."""


class _Gone(Exception):  # noqa: N818 - not an error
    """The pod is gone, and its log with it."""


class _Reader:
    """Reads one container's log; goes on after the last line that it has read when the connection breaks off."""

    def __init__(self, api: Api, informer: Informer, pod: Pod, container: Container) -> None:
        self._api, self._feed, self._pod, self._container = api, informer, pod, container
        self._last = b""  # the newest line's time, to the nanosecond, as the kubelet writes it
        self._of_last = 0  # lines with that time: CRI-O gives one to all lines that it reads at once

    def run(self) -> None:
        with contextlib.suppress(_Gone):
            for turn in self._feed.pauses():
                try:
                    with _gone_is_the_end():
                        self._lines(follow="true")
                        if self._feed.left:  # which cut the connection: the log goes on, and nobody asks for it
                            return
                        # A follow may end because the API server does; what is missing then is in the plain log.
                        if self._has_ended():
                            self._lines()
                            return
                except ApiFailure as failure:
                    if self._feed.believes(failure):
                        raise
                    if turn >= _TRIES and self._cannot_be_had():
                        return

    def _cannot_be_had(self) -> bool:
        """Whether the container has ended, so that a log that is still refused will not come any more."""
        try:
            return self._has_ended()
        except ApiFailure:
            return False

    def _lines(self, **query: str) -> None:
        if self._last:
            query["sinceTime"] = self._last.decode()  # of which only the seconds count
        log = functools.partial(self._api.log, self._pod.name, self._container.name, timestamps="true", **query)
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
        # The kubelet answers 400 for a container whose log has been removed already, and for a pod that it has not any more
        # a 404 that reads like that for a kind which a cluster does not know.
        if failure.status in (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST):
            raise _Gone from failure
        raise


def _line(pod: Pod, container: Container, text: bytes) -> LogLine:
    return LogLine(step=container.step, worker=pod.worker, text=text.decode("utf-8", errors="replace").rstrip("\r"))
