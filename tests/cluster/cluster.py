"""Starting and stopping the cluster: etcd, the control plane, one node, and the training-operator."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import attrs
from tests.cluster import images, programs, settings
from tests.cluster.settings import API, GANG_SCHEDULER, HOST_IP, NETNS, NODE_IP, PODS

_CGROUPS = Path("/sys/fs/cgroup")
_GROUP = "tunewright-test"
_STARTED = (
    "kubelet",
    "coredns",
    "kube-proxy",
    GANG_SCHEDULER,
    "kube-scheduler",
    "kube-controller-manager",
    "kube-apiserver",
    "containerd",
    "etcd",
)
_TICK = 0.3


class Broken(Exception):  # noqa: N818 - it says what did not start
    """The cluster did not come up."""


@attrs.frozen
class Cluster:
    """A running cluster.

    Attributes:
        kubeconfig: of its administrator.
        state: the folder with everything that belongs to it; None for a cluster that others run.
        bin: the folder of its programs.
    """

    kubeconfig: Path
    state: Path | None = None
    bin: Path | None = None

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """What kubectl prints."""
        program = self.bin / "kubectl" if self.bin else "kubectl"
        command = [str(program), "--kubeconfig", str(self.kubeconfig), *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def json(self, *arguments: str) -> dict:
        """What `kubectl get … -o json` prints."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *documents: dict) -> None:
        """Apply manifests."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}))

    def import_image(self, archive: Path) -> None:
        """Have the node know an image."""
        assert self.state is not None
        _Node(self.state, self.bin).import_image(archive)

    def start(self, name: str) -> None:
        """Start one of the cluster's processes."""
        assert self.state is not None
        _Node(self.state, self.bin).start(name)

    def restart(self, name: str) -> None:
        """Stop one of the cluster's processes and start it again."""
        assert self.state is not None
        _Node(self.state, self.bin).restart(name)

    def stop(self, name: str) -> None:
        """Stop one of the cluster's processes."""
        assert self.state is not None
        _Node(self.state, self.bin).stop(name)


def up() -> Cluster:
    """Start the cluster, after what is left of an earlier one is gone.

    Raises:
        programs.CannotRun: this machine cannot have one.
        Broken: it does not come up; its logs are in the message.
    """
    programs.check_machine()
    folder = programs.build()
    archives = images.build(folder)
    down()
    state = programs.cache() / "state"
    state.mkdir()
    node = _Node(state, folder)
    cluster = Cluster(state / "kubeconfig", state, folder)
    try:
        node.up(archives, cluster)
        _install_operator(cluster)
    except BaseException:
        node.down()
        raise
    return cluster


def down() -> None:
    """Stop what an earlier `up` started, whoever did it, and remove what it left."""
    state = programs.cache() / "state"
    _Node(state, None).down()
    shutil.rmtree(state, ignore_errors=True)


class _Node:
    """The processes of the cluster."""

    def __init__(self, state: Path, folder: Path | None) -> None:
        self._state, self._bin = state, folder

    def up(self, archives: list[Path], cluster: Cluster) -> None:
        for name in ("logs", "volumes"):
            (self._state / name).mkdir()
        _add_network()
        _add_cgroups()
        settings.write(self._state)
        for name in ("etcd", "kube-apiserver"):
            self.start(name)
        self._until("kube-apiserver", lambda: cluster.kubectl("get", "--raw", "/readyz", check=False) == "ok")
        for name in ("kube-controller-manager", "kube-scheduler", "containerd"):
            self.start(name)
        self._until("containerd", lambda: _quiet(*self._ctr("version")))
        for archive in archives:
            self.import_image(archive)
        for name in ("kubelet", "kube-proxy", "coredns"):
            self.start(name)
        self._until("kubelet", lambda: " Ready" in cluster.kubectl("get", "nodes", check=False))
        cluster.apply(settings.STORAGE_CLASS)

    def import_image(self, archive: Path) -> None:
        subprocess.run([*self._ctr("images", "import"), str(archive)], check=True, capture_output=True)

    def start(self, name: str) -> None:
        command = settings.commands(self._state, self._bin)[name]
        with (self._state / "logs" / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{NETNS}", "--", *command],
                cwd=self._state,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "NO_PROXY": "*", "no_proxy": "*"},
            )
        (self._state / f"{name}.pid").write_text(str(process.pid), "utf-8")

    def restart(self, name: str) -> None:
        self.stop(name)
        self.start(name)

    def stop(self, name: str) -> None:
        """By the number that was written down, if it is still that program's."""
        file = self._state / f"{name}.pid"
        pid = int(file.read_text("utf-8")) if file.exists() else 0
        for signum, patience in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0)):
            if not _is_running(pid, name):
                break
            os.kill(pid, signum)
            _wait(lambda: not _is_running(pid, name), patience)
        file.unlink(missing_ok=True)

    def down(self) -> None:
        if not self._state.exists():
            return _remove_network()
        self.stop("kubelet")
        self._end_containers()
        for name in _STARTED:
            self.stop(name)
        _unmount(self._state)
        _remove_cgroups()
        return _remove_network()

    def _end_containers(self) -> None:
        for shim in _shims(self._state):
            with contextlib.suppress(OSError):
                os.kill(shim, signal.SIGKILL)
        for process in _members(_GROUP):
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)

    def _ctr(self, *arguments: str) -> list[str]:
        return ["ctr", "-a", str(self._state / "containerd.sock"), "-n", "k8s.io", *arguments]

    def _until(self, name: str, ready: Callable[[], bool], seconds: float = 120) -> None:
        if not _wait(ready, seconds):
            log = (self._state / "logs" / f"{name}.log").read_text("utf-8", errors="replace")
            raise Broken(f"{name} is not ready after {seconds:.0f} seconds. Its log ends so:\n{log[-3000:]}")


def _install_operator(cluster: Cluster) -> None:
    """From its own manifests, which are part of its module."""
    assert cluster.state is not None
    module = next(m for m in programs.MODULES if "training-operator" in m.programs)
    source = programs.module_folder(module) / "manifests" / "overlays" / "standalone"
    folder = cluster.state / "operator"
    folder.mkdir()
    document = settings.operator(os.path.relpath(source, folder))
    (folder / "kustomization.yaml").write_text(json.dumps(document), "utf-8")
    cluster.kubectl("apply", "--server-side", "-k", str(folder))
    cluster.kubectl("-n", "kubeflow", "rollout", "status", "deploy/training-operator", "--timeout=180s")


def _add_network() -> None:
    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    ip("netns", "add", NETNS)
    ip("link", "add", "tw-test-host", "type", "veth", "peer", "name", "tw-test-node", "netns", NETNS)
    ip("addr", "add", f"{HOST_IP}/30", "dev", "tw-test-host")
    ip("link", "set", "tw-test-host", "up")
    inside = ("-n", NETNS)
    ip(*inside, "link", "set", "lo", "up")
    ip(*inside, "addr", "add", f"{API}/30", "dev", "tw-test-node")
    ip(*inside, "link", "set", "tw-test-node", "up")
    ip(*inside, "route", "add", "default", "via", HOST_IP)
    ip(*inside, "link", "add", "pods", "type", "bridge")
    ip(*inside, "addr", "add", f"{NODE_IP}/{PODS.rpartition('/')[2]}", "dev", "pods")
    ip(*inside, "link", "set", "pods", "up")
    subprocess.run(["nsenter", f"--net=/run/netns/{NETNS}", "sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True)


def _remove_network() -> None:
    for name in _pod_networks():
        _quiet("ip", "netns", "del", name)
    _quiet("ip", "link", "del", "tw-test-host")
    _quiet("ip", "netns", "del", NETNS)


def _pod_networks() -> list[str]:
    """The network namespaces of this cluster's pods, which are named by chance: their way out is our node."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    found = []
    for name in (line.split()[0] for line in listed.splitlines() if line.startswith("cni-")):
        route = subprocess.run(["ip", "-n", name, "route"], capture_output=True, text=True, check=False).stdout
        if f"via {NODE_IP} " in route:
            found.append(name)
    return found


def _groups() -> list[Path]:
    """Our group in each hierarchy: one in version 2 of cgroups, one for each controller in version 1."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS / _GROUP]
    return [path / _GROUP for path in _CGROUPS.iterdir() if path.is_dir() and (path / "tasks").exists()]


def _add_cgroups() -> None:
    for group in _groups():
        group.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):  # in version 1 a new group has none
            if (group / name).exists() and not (group / name).read_text().strip():
                (group / name).write_text((group.parent / name).read_text())


def _remove_cgroups() -> None:
    # Also in hierarchies without controllers, where a container runtime keeps groups of its own.
    for group in (_CGROUPS / _GROUP, *_CGROUPS.glob(f"*/{_GROUP}")):
        for folder, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()


def _members(name: str) -> set[int]:
    return {
        int(line) for group in _groups() for file in group.rglob("cgroup.procs") for line in file.read_text().split()
    }


def _shims(state: Path) -> list[int]:
    """The processes that hold this cluster's containers: containerd leaves them when it ends."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = file.read_bytes().split(b"\0")
            if words[0].endswith(b"containerd-shim-runc-v2") and str(state).encode() in b" ".join(words):
                found.append(int(file.parent.name))
    return found


def _unmount(state: Path) -> None:
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for path in sorted((p for p in mounted if p.startswith(f"{state}/")), reverse=True):
        _quiet("umount", "-l", path)


def _is_running(pid: int, name: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    if state == "Z":
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        return False
    return any(word.endswith(name.encode()) for word in words)


def _wait(ready: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            return False
        time.sleep(_TICK)
    return True


def _quiet(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
