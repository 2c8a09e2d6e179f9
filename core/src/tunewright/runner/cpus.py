"""The number of CPUs that a container may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

from tunewright.runner.files import read


def threads_for_each(processes: str) -> int:
    """Return OMP_NUM_THREADS for each of that many processes. torchrun would set 1."""
    return max(1, usable_cpus() // int(processes)) if processes.isdecimal() and int(processes) else 1


def usable_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the CPUs that this container may use, at least 1: its affinity, and its cgroup's quota rounded down."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(cpus, _cpu_quota(cgroup))))


def _cpu_quota(cgroup: Path) -> float:
    """Return the quota in CPUs, infinite without a limit. cgroup v2 has both numbers in one file, v1 in two."""
    version_1 = (read(cgroup / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    fields = (read(cgroup / "cpu.max") or " ".join(text or "" for text in version_1)).split()
    try:
        quota, period = (float(field) for field in fields)
    except ValueError:  # "max", or no such files
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf
