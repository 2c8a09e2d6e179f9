"""Fixtures: the cluster, a namespace for each test, and clients of it."""

import fcntl
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.cluster import cluster as clusters
from tests.cluster import images, programs
from tests.cluster.cluster import Cluster
from tests.cluster.settings import HOST_IP, NODE
from tests.servers.faulty import FaultyServer

from tunewright import TrainingClient

REPOSITORY = Path(__file__).parents[2]


WANTED = "TUNEWRIGHT_CLUSTER_TESTS"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One line for each file, and not one for each test, says why they are skipped."""
    if os.environ.get(WANTED):
        return
    skip = pytest.mark.skip(reason=f"cluster tests run with {WANTED}=1 (as root), or =KUBECONFIG of a cluster")
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(skip)


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
    name = f"test-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


RIGHTS = (
    ("pytorchjobs.kubeflow.org", "create,get,list,watch,patch,delete"),
    ("pods", "get,list,watch"),
    ("pods/log", "get"),
    ("events", "list"),
    ("secrets", "create"),
    ("configmaps", "create,get"),
    ("persistentvolumeclaims", "create,get"),
)
"""All that a user needs in a namespace."""


@pytest.fixture
def client(cluster: Cluster, namespace: str) -> TrainingClient:
    """The client of a user who has those rights; on a cluster of others, of whoever its kubeconfig names."""
    if cluster.state is None:
        return TrainingClient("kubernetes", namespace=namespace, config_file=str(cluster.kubeconfig))
    cluster.apply(*_role(namespace, "alice"))
    return TrainingClient("kubernetes", namespace=namespace, config_file=str(cluster.state / "kubeconfig-alice"))


def _role(namespace: str, user: str) -> tuple[dict, dict]:
    about = {"name": user, "namespace": namespace}
    rules = [
        {
            "apiGroups": [resource.partition(".")[2]],
            "resources": [resource.partition(".")[0]],
            "verbs": verbs.split(","),
        }
        for resource, verbs in RIGHTS
    ]
    group = "rbac.authorization.k8s.io"
    subject = {"kind": "User", "name": user, "apiGroup": group}
    reference = {"kind": "Role", "name": user, "apiGroup": group}
    return (
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": about, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": about,
            "subjects": [subject],
            "roleRef": reference,
        },
    )


@pytest.fixture
def volumes(cluster: Cluster, namespace: str) -> Iterator[Callable[..., Path]]:
    """Makes a volume that the next claim may bind to; returns its folder. A cluster of others makes its own."""
    made: list[str] = []

    def volume(*modes: str) -> Path | None:
        if cluster.state is None:
            return None
        name = f"{namespace}-{len(made)}"
        folder = cluster.state / "volumes" / name
        folder.mkdir()
        cluster.apply(_volume(name, folder, modes or ("ReadWriteOnce",)))
        made.append(name)
        return folder

    yield volume
    for name in made:
        cluster.kubectl("delete", "pv", name, "--wait=false")
        shutil.rmtree(cluster.state / "volumes" / name, ignore_errors=True)


def _volume(name: str, folder: Path, modes: tuple[str, ...]) -> dict:
    # Of type local: of hostPath volumes a kubelet does not change the group.
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Ti"},
            "accessModes": list(modes),
            "storageClassName": "local",
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }


@pytest.fixture
def on_node(own_cluster: Cluster) -> Callable[..., dict]:
    """Pod overrides that give steps this machine's Python environment, and with it torch and our own packages."""
    folders = sorted({str(REPOSITORY), sys.prefix, sys.base_prefix})
    folders = [f for f in folders if not any(f != g and Path(f).is_relative_to(g) for g in folders)]
    names = {folder: f"node-{i}" for i, folder in enumerate(folders)}
    mounts = [{"name": names[f], "mountPath": f, "readOnly": True} for f in folders]

    def overrides(*init_steps: str, **template: object) -> dict:
        one_thread = [{"name": "OMP_NUM_THREADS", "value": "1"}]
        spec = {
            "volumes": [{"name": names[f], "hostPath": {"path": f, "type": "Directory"}} for f in folders],
            "containers": [{"name": "pytorch", "volumeMounts": mounts, "env": one_thread}],
            "initContainers": [{"name": step, "volumeMounts": mounts, "env": one_thread} for step in init_steps],
        }
        return {"spec": {k: v for k, v in spec.items() if v}, **template}

    return overrides


@pytest.fixture
def _reachable(own_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers that a test starts listen where pods find them."""
    monkeypatch.setattr(FaultyServer, "address", HOST_IP)
