"""How long the same job takes as each kind of job object, on the cluster of the tests.

    python -m tests.cluster up --with trainer
    python -m benchmarks.kinds [--repeats 5]

Two workers of two processes each reduce a number together: the time from the submission until the job has succeeded. And one worker
asks once to be started again, with exit code 129: the time from that exit until the command runs again. The kinds take turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from tests.cluster import images, programs
from tests.cluster.cluster import Cluster
from tests.cluster.helpers import CHEAP, client_in, command, fresh_namespace, overrides_on_node, volumes_in

from tunewright import JobState, TrainingClient

MAIN = {"pytorchjob": "pytorch", "trainjob": "node", "job": "train"}
REDUCE = """
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
ranks = torch.tensor([dist.get_rank() + 1])
dist.all_reduce(ranks)
assert int(ranks) == 10
dist.destroy_process_group()
"""
AGAIN = """
import os, pathlib, time
output = pathlib.Path(os.environ["TUNEWRIGHT_WORKSPACE"], "output")
if not list(output.glob("ended-*")):
    (output / f"ended-{time.time_ns()}").touch()
    raise SystemExit(129)
(output / f"again-{time.time_ns()}").touch()
"""


class Kind:
    """One kind's jobs."""

    def __init__(self, cluster: Cluster, backend: str, script: Path) -> None:
        self.cluster, self.backend, self.script = cluster, backend, script

    def reduce(self) -> float:
        """Return the seconds from the submission to the success of a job of two workers."""
        return self._timed(
            lambda client, _: client.create_job(
                "reduce",
                script=self.script,
                base_image=images.BASE,
                num_workers=2,
                num_procs_per_worker=2,
                storage={"access_modes": ["ReadWriteMany"]},
                resources_per_worker=CHEAP,
                pod_overrides=overrides_on_node(images.BASE)(main=MAIN[self.backend]),
            )
        )[0]

    def again(self) -> float:
        """Return the seconds from an exit with code 129 until the command runs again."""
        folder = self._timed(
            lambda client, _: client.create_job(
                "again", base_image=images.BASE, command=command(AGAIN), resources_per_worker=CHEAP, max_restarts=2
            )
        )[1]
        ended, again = (
            int(next(name for name in folder if name.startswith(word)).partition("-")[2]) for word in ("ended", "again")
        )
        return (again - ended) / 1e9

    def _timed(self, submit: Callable[[TrainingClient, str], Any]) -> tuple[float, list[str]]:
        with fresh_namespace(self.cluster) as namespace, volumes_in(self.cluster, namespace) as volumes:
            folder = volumes("ReadWriteMany", "ReadWriteOnce")
            client = client_in(self.cluster, namespace, self.backend)
            began = monotonic()
            job = submit(client, namespace)
            state = job.wait(timeout=300).state
            seconds = monotonic() - began
            assert state is JobState.SUCCEEDED, list(job.logs())
            written = [path.name for path in (folder / "output").iterdir()] if folder else []
            job.delete()
            return seconds, written


def main() -> None:
    """Measure, and print medians, extremes and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    state = programs.cache() / "state"
    cluster = Cluster(state / "kubeconfig", state, programs.cache() / "bin")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "reduce.py")
        script.write_text(REDUCE, "utf-8")
        kinds = {backend: Kind(cluster, backend, script) for backend in MAIN}
        for what, limit in (("reduce", "at most 1.2 of PyTorchJob's"), ("again", "at most 5 s as a TrainJob")):
            seconds: dict[str, list[float]] = {backend: [] for backend in kinds}
            for _ in range(repeats):
                for backend, kind in kinds.items():
                    seconds[backend].append(getattr(kind, what)())
            first = statistics.median(seconds["pytorchjob"])
            print(f"{what}: {limit}")
            for backend, found in seconds.items():
                median = statistics.median(found)
                print(
                    f"  {backend:12} {median:6.2f} s ({min(found):.2f} to {max(found):.2f}), {median / first:.2f} of PyTorchJob's"
                )


if __name__ == "__main__":
    main()
