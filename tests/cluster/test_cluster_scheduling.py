"""Queues of a real Kueue: jobs wait for their turn, which they say, and get it. Gangs of scheduler-plugins: all pods or none."""

import time
from collections.abc import Callable, Iterator

import pytest
from tests.cluster.cluster import Cluster
from tests.cluster.helpers import CHEAP, WAITS, command, devices_of, eventually

from tunewright import JobError, JobState, TrainingClient

pytestmark = pytest.mark.timeout(600)

SLOT = "tunewright.test/slot"
"""A resource of the node, of which a test says how much there is."""


def submit(client: TrainingClient, name: str, image: str, queue: str = "team"):
    return client.create_job(name, base_image=image, command=command(WAITS), queue=queue, resources_per_worker=CHEAP)


@pytest.mark.usefixtures("team")
def test_a_job_in_a_queue_that_is_not_there_is_moved_to_one_that_is(
    cluster: Cluster, client: TrainingClient, namespace: str, image: str, volumes
) -> None:
    folder = volumes()
    job = submit(client, "lost", image, queue="no-such-queue")
    assert "queue 'no-such-queue'" in job.wait([JobState.QUEUED], timeout=180).detail
    job.update(queue="team")
    job.wait([JobState.RUNNING], timeout=180)
    with pytest.raises(JobError, match="Kueue decides when it runs"):
        job.update(max_restarts=7)
    if folder is not None:
        (folder / "output" / "go").touch()
        job.wait(timeout=180)
        eventually(lambda: usage(cluster, namespace), "0", seconds=60)


def usage(cluster: Cluster, namespace: str) -> str:
    """CPUs of the queue that jobs hold."""
    status = cluster.json("clusterqueue", namespace)["status"]
    resources = status["flavorsUsage"][0]["resources"]
    return next(str(resource["total"]) for resource in resources if resource["name"] == "cpu")


@pytest.fixture
def slots(own_cluster: Cluster) -> Iterator[Callable[[int | None], None]]:
    """Says how many slots the node has, where pods are scheduled by gangs."""
    if not own_cluster.kubectl("get", "crd", "podgroups.scheduling.x-k8s.io", "--ignore-not-found"):
        how = "python -m tests.cluster up --with gang, and TUNEWRIGHT_CLUSTER_TESTS=its KUBECONFIG"
        pytest.skip(f"needs scheduler-plugins: {how}")

    with devices_of(own_cluster, SLOT) as slots:
        yield slots


def test_a_gang_starts_as_a_whole_or_not_at_all(
    own_cluster: Cluster, client: TrainingClient, namespace: str, image: str, volumes, slots
) -> None:
    slots(2)
    folder = volumes("ReadWriteMany")
    job = client.create_job(
        "gang",
        base_image=image,
        command=command(WAITS),
        num_workers=3,
        storage={"access_modes": ["ReadWriteMany"]},
        resources_per_worker={**CHEAP, SLOT: 1},
        scheduling_policy={"scheduleTimeoutSeconds": 30},
    )

    def nodes() -> list[str]:
        pods = own_cluster.json("pods", "-n", namespace)["items"]
        return [pod["spec"].get("nodeName", "") for pod in pods]

    eventually(lambda: "cannot be scheduled" in job.status().detail, True, 180)
    eventually(nodes, ["", "", ""])
    group = own_cluster.json("podgroup", "gang", "-n", namespace)["spec"]
    assert (group["minMember"], group["scheduleTimeoutSeconds"]) == (3, 30)
    assert group["minResources"][SLOT] == "3"
    for _ in range(6):  # two of the three would fit
        assert nodes() == ["", "", ""]
        time.sleep(2)
    slots(3)
    eventually(lambda: job.status().pods, {"train": 3}, 180)
    (folder / "output" / "go").touch()
    assert job.wait(timeout=180).state is JobState.SUCCEEDED
    eventually(lambda: own_cluster.json("podgroups", "-n", namespace)["items"], [], 180)
