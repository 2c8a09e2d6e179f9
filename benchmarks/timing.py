"""What the benchmarks share: repeated measurements, and how they are told."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple


class Timing(NamedTuple):
    """Seconds of a repeated measurement.

    Attributes:
        median: the middle one.
        low: the 10th percentile.
        high: the 90th percentile.
        repeats: how often it was measured.
    """

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, seconds: list[float]) -> Timing:
        """From the single measurements, at least two."""
        deciles = statistics.quantiles(seconds, n=10, method="inclusive")
        return cls(statistics.median(seconds), deciles[0], deciles[-1], len(seconds))


def interleaved(functions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Timing]:
    """Time functions in turn, so that a busy moment of the machine meets all of them; each has one run to warm up.

    Args:
        functions: name → what to time.
        repeats: measurements of each.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: Timing.of(values) for name, values in seconds.items()}


def show(timings: Mapping[str, Timing], ratios: Mapping[str, float], *, limits: Mapping[str, float]) -> None:
    """Print a table: milliseconds, and the limit where there is one."""
    for name, timing in timings.items():
        limit = f"   at most {limits[name] * 1e3:g} ms" if name in limits else ""
        spread = f"{timing.low * 1e3:.2f} to {timing.high * 1e3:.2f}"
        print(f"{name:40} {timing.median * 1e3:9.2f} ms   ({spread}, {timing.repeats} runs){limit}")
    for name, ratio in ratios.items():
        print(f"{name:40} {ratio:9.2f} times")


def machine() -> dict[str, object]:
    """What the figures depend on."""
    return {"python": platform.python_version(), "system": platform.platform(), "cpus": os.cpu_count()}


def as_json(settings: Mapping[str, object], timings: Mapping[str, Timing], ratios: Mapping[str, float]) -> str:
    """One line: settings, medians and spreads in seconds, ratios."""
    return json.dumps(
        {
            "settings": {**machine(), **settings},
            "medians": {name: timing.median for name, timing in timings.items()},
            "spreads": {name: [timing.low, timing.high] for name, timing in timings.items()},
            "ratios": dict(ratios),
        }
    )
