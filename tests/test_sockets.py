"""What docs/how-to/restricted-clusters.md says of ports: workers talk to each other, over TCP, and to nobody else."""

import pytest
from tests.sockets import PROCESSES, WORKERS, sockets_of_a_job

pytestmark = pytest.mark.slow


def _port(end: str) -> int:
    return int(end.rpartition(":")[2])


def test_the_sockets_of_a_job_end_within_it() -> None:
    store, found = sockets_of_a_job()
    assert {one.process for one in found} >= {"torchrun", *(f"rank {rank}" for rank in range(WORKERS * PROCESSES))}
    assert {one.kind for one in found} == {"TCP"}
    listening = {_port(one.local): one.process for one in found if not one.remote}
    assert listening[store] == "rank 0"
    assert set(listening.values()) <= {one.process for one in found}
    assert len(listening) == 2 + WORKERS * PROCESSES, "torchrun's store, that of the ranks, and a port of each rank"
    for one in found:
        if one.remote:
            assert {_port(one.local), _port(one.remote)} & set(listening), f"{one} leaves the job"
