"""The numbers of a running training, as Prometheus asks for them, on a port that the user chooses.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from tunewright import environment
from tunewright.events import Checkpoint, Eval, Event, Step
from tunewright_launcher.step import log

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Gauge

Emit = Callable[[Event], None]


class Metrics:
    """Keeps the newest value of each number that events carry, as a gauge `tunewright_NAME`."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry

        self.registry: CollectorRegistry = CollectorRegistry()
        self._gauges: dict[str, Gauge] = {}

    def take(self, event: Event) -> None:
        """Set the gauges of a step or an evaluation, and of a mixture's datasets by the label `source`."""
        if isinstance(event, Checkpoint):
            self._set("checkpoint_step", event.step)
        if not isinstance(event, Step | Eval):
            return
        evaluated = isinstance(event, Eval)
        for name, value in event.numbers.items():
            if not (evaluated and name == "step"):  # it is that of the training, which is known
                self._set(name, value)
        for source, numbers in (event.sources or {}).items():
            for name, value in numbers.items():
                self._set(f"{'eval_' if evaluated else ''}source_{name}", value, source)

    def _set(self, name: str, value: float, source: str | None = None) -> None:
        from prometheus_client import Gauge

        name = re.sub(r"[^a-zA-Z0-9_]", "_", f"tunewright_{name}")
        if name not in self._gauges:
            labels = () if source is None else ("source",)
            about = f"{name.removeprefix('tunewright_')} of the training, as in its newest event"
            self._gauges[name] = Gauge(name, about, labels, registry=self.registry)
        (self._gauges[name] if source is None else self._gauges[name].labels(source)).set(value)


@contextlib.contextmanager
def served(env: Mapping[str, str], emit: Emit, name: str) -> Iterator[Emit]:
    """Serve what is emitted in the block, if the environment names a port; the training goes on if it cannot be served.

    Args:
        env: the environment.
        emit: receives the events.
        name: of this process, for the log.

    Yields:
        What receives the events instead.
    """
    port = env.get(environment.METRICS_PORT)
    if not port:
        yield emit
        return
    try:
        from prometheus_client import start_http_server

        metrics = Metrics()
        server, thread = start_http_server(int(port), registry=metrics.registry)
    except (ImportError, OSError, ValueError, OverflowError) as error:
        log(name, f"No metrics are served: {environment.METRICS_PORT}={port}: {error}")
        yield emit
        return

    def both(event: Event) -> None:
        metrics.take(event)
        emit(event)

    try:
        yield both
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
