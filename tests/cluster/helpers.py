"""What several files of cluster tests need."""

import contextlib
import json
import secrets
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import yaml
from tests.cluster.buildah import PATH
from tests.cluster.cluster import Cluster
from tests.cluster.settings import HOST_IP, NODE
from tests.servers.faulty import Answer, FaultyServer, Request
from tests.servers.s3 import ACCESS_KEY, BUCKET, REGION, SECRET_KEY, S3Proxy

from tunewright import TrainingClient

STEPS = ("fetch-model", "fetch-dataset", "check")
CHEAP = {"requests": {"cpu": "10m", "memory": "32Mi"}}
"""Resources of workers: many of them fit on a small machine."""

RUN = ["python", "-m", "tunewright_launcher", "run", "--"]

WAITS = """
import os, pathlib, time
output = pathlib.Path(os.environ["TUNEWRIGHT_WORKSPACE"], "output")
print("lives:", len(list(output.glob("life-*"))) + 1, flush=True)
(output / f"life-{time.time_ns()}").touch()
while not (output / "go").exists():
    time.sleep(0.2)
print("the end", flush=True)
"""
"""Says how often it was started, and comes to its end once `go` is in the output folder."""

SEES = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
workspace = pathlib.Path(os.environ["TUNEWRIGHT_WORKSPACE"])
slots = {s: pathlib.Path(os.environ.get(f"TUNEWRIGHT_SLOT_{s.upper()}", workspace / s)) for s in ("model", "dataset")}
for file, slot in sorted((p, slot) for slot in slots.values() for p in slot.rglob("*") if p.is_file()):
    print("sees", file.relative_to(slot.parent).as_posix(), file.stat().st_size, flush=True)
try:
    (slots["model"] / "mine").touch()
except OSError as error:
    print("writes refused:", error.strerror, flush=True)
print("has seen", flush=True)
while not (workspace / "output" / "go").exists():
    time.sleep(0.2)
"""
"""In place of a training: says what the slots hold, and comes to its end once `go` is in the output folder."""


RBAC = Path(__file__).parents[2] / "deploy" / "rbac"
ROLES = {
    "kubernetes": RBAC / "user.yaml",
    "pytorchjob": RBAC / "user.yaml",
    "job": RBAC / "user-job.yaml",
    "trainjob": RBAC / "user-trainjob.yaml",
}
"""The published roles by backend: all that a user needs in a namespace."""


class ReachableS3(S3Proxy):
    """The way to an S3 server from pods."""

    address = HOST_IP


class PackageIndex(FaultyServer):
    """A package index that pods reach and that has these wheels."""

    address = HOST_IP

    def __init__(self, *wheels: Path) -> None:
        super().__init__()
        self._wheels = {wheel.name: wheel for wheel in wheels}

    @property
    def env(self) -> dict[str, str]:
        """What pip reads."""
        return {"PIP_INDEX_URL": f"{self.url}/simple", "PIP_TRUSTED_HOST": self.address}

    def answer(self, request: Request) -> Answer:
        """PEP 503: https://peps.python.org/pep-0503/"""
        if wheel := self._wheels.get(request.path.removeprefix("/")):
            return Answer(body=wheel.read_bytes())
        project = request.path.removeprefix("/simple/").strip("/").replace("-", "_")
        links = [f'<a href="/{name}">{name}</a>' for name in self._wheels if name.startswith(f"{project}-")]
        if not links:
            return Answer(status=404)
        return Answer(headers={"Content-Type": "text/html"}, body="\n".join(links).encode())


def build_wheel(folder: Path, pyproject: str, **modules: str) -> Path:
    """A wheel of modules, name → text."""
    folder.mkdir()
    (folder / "pyproject.toml").write_text(pyproject)
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel"], cwd=folder, check=True)
    return next((folder / "dist").glob("*.whl"))


@contextlib.contextmanager
def fresh_namespace(cluster: Cluster) -> Iterator[str]:
    name = f"test-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def client_in(cluster: Cluster, namespace: str, backend: str = "kubernetes", role: str | None = None) -> TrainingClient:
    """The client of a user who has the published role; on a cluster of others, of whoever its kubeconfig names.

    Args:
        cluster: where.
        namespace: the user's.
        backend: what the user asks for.
        role: the backend whose role the user has, if it is another one.
    """
    if cluster.state is None:
        return TrainingClient(backend, namespace=namespace, config_file=str(cluster.kubeconfig))
    cluster.apply(*_role(namespace, "alice", role or backend))
    return TrainingClient(backend, namespace=namespace, config_file=str(cluster.state / "kubeconfig-alice"))


def _role(namespace: str, user: str, backend: str) -> tuple[dict, dict]:
    role = yaml.safe_load(ROLES[backend].read_text("utf-8"))
    role["metadata"]["namespace"] = namespace
    group = "rbac.authorization.k8s.io"
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": user, "namespace": namespace},
        "subjects": [{"kind": "User", "name": user, "apiGroup": group}],
        "roleRef": {"kind": role["kind"], "name": role["metadata"]["name"], "apiGroup": group},
    }
    return role, binding


@contextlib.contextmanager
def volumes_in(cluster: Cluster, namespace: str) -> Iterator[Callable[..., Path | None]]:
    """Makes volumes that the next claims may bind to, and removes them in the end."""
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


def command(text: str) -> list[str]:
    return ["python3", "-u", "-c", text]


def overrides_on_node(image: str) -> Callable[..., dict]:
    """Pod overrides that give steps this machine's Python environment, and with it torch and our own packages.

    A step that `commands` names runs that command in place of its own; "train" is the main container's, whose name is `main`.
    """
    folders = sorted({str(Path(__file__).parents[2]), sys.prefix, sys.base_prefix})
    folders = [f for f in folders if not any(f != g and Path(f).is_relative_to(g) for g in folders)]
    names = {folder: f"node-{i}" for i, folder in enumerate(folders)}
    mounts = [{"name": names[f], "mountPath": f, "readOnly": True} for f in folders]

    def container(name: str, command: list[str] | None) -> dict:
        # Not a part of the image: each checkout has an environment of its own, and the image is kept between them.
        env = [{"name": "PATH", "value": f"{sys.prefix}/bin:{PATH}"}, {"name": "OMP_NUM_THREADS", "value": "1"}]
        own = {"command": command} if command else {}
        return {"name": name, "image": image, "volumeMounts": mounts, "env": env, **own}

    def overrides(*init_steps: str, commands: Mapping[str, list[str]] | None = None, main: str = "pytorch") -> dict:
        own = commands or {}
        spec = {
            "volumes": [{"name": names[f], "hostPath": {"path": f, "type": "Directory"}} for f in folders],
            "containers": [container(main, own.get("train"))],
            "initContainers": [container(step, own.get(step)) for step in init_steps],
        }
        return {"spec": {k: v for k, v in spec.items() if v}}

    return overrides


def sees_in_place_of_training(on_node: Callable[..., dict]) -> dict:
    """Pod overrides with which a job fetches, and neither checks nor trains: torch takes long to start."""
    return on_node(*STEPS, commands={"check": ["true"], "train": [*RUN, *command(SEES)]}, main="train")


@contextlib.contextmanager
def devices_of(cluster: Cluster, name: str) -> Iterator[Callable[[int], None]]:
    """Says how many devices of a made-up resource the node has; none in the end."""

    def devices(number: int | None) -> None:
        amount = {name: None if number is None else str(number)}
        change = json.dumps({"status": {"capacity": amount, "allocatable": amount}})
        cluster.kubectl("patch", "node", NODE, "--subresource=status", "--type=merge", "-p", change)

    yield devices
    devices(None)


def eventually(look: Callable[[], object], wanted: object, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while (found := look()) != wanted:
        assert time.monotonic() < end, f"{found!r} and not {wanted!r}"
        time.sleep(0.3)


def left(cluster: Cluster, namespace: str, job: str, kinds: str = "") -> list[str]:
    """What there is of a job: everything that carries its name."""
    found = cluster.json(kinds or "pytorchjobs,pods,services,secrets,configmaps", "-n", namespace)["items"]
    return [f"{o['kind']}/{o['metadata']['name']}" for o in found if o["metadata"]["name"].startswith(job)]


def nothing_left(cluster: Cluster, namespace: str) -> None:
    """A service account's own objects aside, the namespace is empty."""

    def names() -> list[str]:
        found = cluster.json("pytorchjobs,pods,services,secrets,configmaps,pvc", "-n", namespace)["items"]
        return [o["metadata"]["name"] for o in found if o["metadata"]["name"] != "kube-root-ca.crt"]

    eventually(names, [])


def requests(cluster: Cluster, namespace: str, user: str = "alice") -> Mapping[str, int]:
    """How often the user asked the API server for what in the namespace, as its audit log has it: "list pods" → number."""
    assert cluster.state is not None
    found: dict[str, str] = {}  # a watch, or a log that is followed, is there twice
    for line in (cluster.state / "logs" / "audit.json").read_text().splitlines():
        event = json.loads(line)
        about = event.get("objectRef", {})
        if about.get("namespace") == namespace and event["user"]["username"] == user:
            resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
            found[event["auditID"]] = f"{event['verb']} {resource}"
    return Counter(found.values())


def make_claim(cluster: Cluster, namespace: str, name: str, *modes: str) -> None:
    """A claim of the user's own."""
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"accessModes": list(modes), "resources": {"requests": {"storage": "1Gi"}}},
        }
    )


def at_s3(proxy: S3Proxy, key: str) -> dict[str, str]:
    """The provider of what lies at a key."""
    about = {"endpoint_url": proxy.url, "region": REGION, "addressing_style": "path"}
    keys = {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY}
    return {"provider": "s3", "uri": f"s3://{BUCKET}/{key}", **about, **keys}


def downloads(proxy: S3Proxy) -> Mapping[str, int]:
    """Key → how often it was asked for."""
    objects = (r.path.removeprefix(f"/{BUCKET}/") for r in proxy.log if r.method == "GET" and r.path.count("/") > 2)
    return Counter(objects)
