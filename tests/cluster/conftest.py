"""Fixtures: the cluster, a namespace for each test, and clients of it."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest
from tests.cluster import cluster as clusters
from tests.cluster import images, programs
from tests.cluster.cluster import Cluster
from tests.cluster.helpers import ReachableS3, client_in, fresh_namespace, overrides_on_node, volumes_in
from tests.cluster.scheduling import QUEUES, queue
from tests.cluster.settings import HOST_IP
from tests.servers.faulty import FaultyServer
from tests.servers.s3 import Gateway, S3Proxy

from tunewright import TrainingClient

WANTED = "TUNEWRIGHT_CLUSTER_TESTS"
SECONDS = "TUNEWRIGHT_CLUSTER_SECONDS"
"""After these, no further test begins. A file is not always the last one: each day begins with another."""

_began = time.monotonic()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One line for each file, and not one for each test, says why they are skipped."""
    if os.environ.get(SECONDS):
        ours = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
        items[:] = [item for item in items if item not in ours] + _in_turn(ours, date.today().toordinal())
    if os.environ.get(WANTED):
        return
    skip = pytest.mark.skip(reason=f"cluster tests run with {WANTED}=1 (as root), or =KUBECONFIG of a cluster")
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(skip)


def _in_turn(items: list[pytest.Item], day: int) -> list[pytest.Item]:
    """The tests, beginning with another file each day."""
    files = sorted({item.path for item in items})
    order = [*files[day % len(files) :], *files[: day % len(files)]] if files else []
    return sorted(items, key=lambda item: order.index(item.path))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """No test begins that could not end in time."""
    if (seconds := os.environ.get(SECONDS)) and time.monotonic() - _began > float(seconds):
        pytest.skip(f"the {seconds} seconds for cluster tests are over; another day begins with these")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster of our own, taken down at the end; or the one of the KUBECONFIG that the variable names."""
    wanted = os.environ[WANTED]
    if wanted != "1":
        yield _existing(Path(wanted))
        return
    programs.cache().mkdir(parents=True, exist_ok=True)
    with (programs.cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one at a time on a machine
        try:
            running = clusters.up()
        except programs.CannotRun as reason:
            pytest.skip(f"cluster tests cannot run here: {reason}")
        yield running
        clusters.down()


def _existing(kubeconfig: Path) -> Cluster:
    state = programs.cache() / "state"
    ours = kubeconfig == state / "kubeconfig"
    return Cluster(kubeconfig, state, programs.cache() / "bin") if ours else Cluster(kubeconfig)


@pytest.fixture(scope="session")
def own_cluster(cluster: Cluster) -> Cluster:
    """A cluster whose processes the test may stop, and whose node is this machine."""
    if cluster.state is None:
        pytest.skip(f"needs a cluster of its own: {WANTED}=1")
    return cluster


@pytest.fixture(scope="session")
def image() -> str:
    """An image with Python 3."""
    return os.environ.get("TUNEWRIGHT_CLUSTER_IMAGE") or images.BASE


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A fresh namespace."""
    with fresh_namespace(cluster) as name:
        yield name


@pytest.fixture
def client(cluster: Cluster, namespace: str) -> TrainingClient:
    """The client of a user who has the rights that are needed, and no others."""
    return client_in(cluster, namespace)


@pytest.fixture
def volumes(cluster: Cluster, namespace: str) -> Iterator[Callable[..., Path | None]]:
    """Makes a volume that the next claim may bind to; returns its folder. A cluster of others makes its own."""
    with volumes_in(cluster, namespace) as volume:
        yield volume


@pytest.fixture
def team(cluster: Cluster, namespace: str) -> Iterator[None]:
    """A queue `team` in the test's namespace, into whose quota one cheap job fits."""
    if not cluster.kubectl("get", "crd", "localqueues.kueue.x-k8s.io", "--ignore-not-found"):
        pytest.skip("needs Kueue: python -m tests.cluster up --with kueue, and TUNEWRIGHT_CLUSTER_TESTS=its KUBECONFIG")
    labels = (f"{name}={value}" for name, value in QUEUES.items())
    cluster.kubectl("label", "namespace", namespace, *labels)
    cluster.apply(*queue(namespace, cpu="15m", memory="1Gi"))
    yield
    cluster.kubectl("delete", "clusterqueue", namespace, "--wait=false")


@pytest.fixture(scope="session")
def on_node(own_cluster: Cluster, image: str) -> Callable[..., dict]:
    """Pod overrides that give steps this machine's Python environment."""
    return overrides_on_node(image)


@pytest.fixture
def _reachable(own_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers that a test starts listen where pods find them."""
    monkeypatch.setattr(FaultyServer, "address", HOST_IP)


@pytest.fixture
def s3(own_cluster: Cluster, gateway: Gateway) -> Iterator[S3Proxy]:
    """The way to the S3 server from pods; it keeps a log."""
    with ReachableS3(gateway) as proxy:
        yield proxy
