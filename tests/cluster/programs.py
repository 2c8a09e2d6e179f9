"""The cluster's programs, built once from their Go modules and kept between runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import attrs

KUBERNETES = "1.34.4"
OPERATOR = "1.9.4"
COREDNS = "1.12.4"

_STAMP = "k8s.io/component-base/version"
_KUBE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
_DEBIAN = {
    "etcd": "etcd-server",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "debootstrap": "debootstrap",
    "buildah": "buildah",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "openssl": "openssl",
}
CNI = Path("/usr/lib/cni")
_RIGHTS = """
mount -t tmpfs none /mnt
ip link add name tw0 type veth peer name tw1
ip link add name tw2 type bridge
"""


class CannotRun(Exception):  # noqa: N818 - a reason to skip
    """This machine cannot have a cluster; the message says why, in one line."""


@attrs.frozen
class Module:
    """A Go module, and the programs that are built from it.

    Attributes:
        path: the module's.
        version: without the v.
        programs: name → package.
        flags: for the linker.
    """

    path: str
    version: str
    programs: dict[str, str]
    flags: str = "-s -w"


MODULES = (
    Module(
        "k8s.io/kubernetes",
        KUBERNETES,
        {name: f"k8s.io/kubernetes/cmd/{name}" for name in _KUBE},
        f"-s -w -X {_STAMP}.gitVersion=v{KUBERNETES} -X {_STAMP}.gitMajor=1 -X {_STAMP}.gitMinor=34",
    ),
    Module(
        "github.com/kubeflow/training-operator",
        OPERATOR,
        {"training-operator": "github.com/kubeflow/training-operator/cmd/training-operator.v1"},
    ),
    Module("github.com/coredns/coredns", COREDNS, {"coredns": "github.com/coredns/coredns"}),
)
_PAUSE = """
package main

import (
	"os"
	"os/signal"
	"syscall"
)

// Holds a pod's namespaces; reaps what the pod's processes leave behind where they share them.
func main() {
	signal.Ignore(syscall.SIGCHLD)
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	<-ended
}
"""


def cache() -> Path:
    """Where everything that is built is kept between runs."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home, "tunewright-tests", "cluster")


def missing_packages() -> list[str]:
    """Those of Debian's packages that a cluster needs and that this machine lacks."""
    missing = {package for program, package in _DEBIAN.items() if not shutil.which(program)}
    return sorted(missing | (set() if (CNI / "bridge").exists() else {"containernetworking-plugins"}))


def check_machine() -> None:
    """See whether a cluster can be built and run here.

    Raises:
        CannotRun: it cannot.
    """
    if os.geteuid() != 0:
        raise CannotRun("a cluster needs root")
    if missing := missing_packages():
        raise CannotRun(f"a cluster needs these packages: {', '.join(missing)}")
    if shutil.which("go") is None and not all((cache() / "bin" / n).exists() for m in MODULES for n in m.programs):
        raise CannotRun("a cluster needs Go, to build its programs")
    # A root without these rights, as in most containers, may do little of what a node does.
    tried = subprocess.run(["unshare", "--net", "--mount", "sh", "-ec", _RIGHTS], capture_output=True, check=False)
    if tried.returncode:
        said = tried.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason was given"]
        raise CannotRun(f"a cluster needs the right to make networks and mounts: {said[0]}")
    if not any(os.access(path, os.W_OK) for path in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory"))):
        raise CannotRun("a cluster needs the right to make cgroups")


def build(modules: Sequence[Module] = MODULES) -> Path:
    """Build what is not there yet; returns the folder of the programs.

    Raises:
        CannotRun: a module cannot be had, or does not build.
    """
    folder = cache() / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    for module in modules:
        if not all(_is_built(folder, module, name) for name in module.programs):
            _build(folder, module)
    source = cache() / "pause.go"
    if not (folder / "pause").exists() or source.read_text("utf-8") != _PAUSE:
        source.write_text(_PAUSE, "utf-8")
        _go("build", "-ldflags", "-s -w", "-o", str(folder / "pause"), str(source), folder=cache())
    return folder


def module_folder(module: Module) -> Path:
    """Where the module's source is: its manifests are part of it."""
    return Path(_download(module)["Dir"])


def _is_built(folder: Path, module: Module, name: str) -> bool:
    stamp = folder / f".{name}.version"
    return (folder / name).exists() and stamp.exists() and stamp.read_text("utf-8") == module.version


def _build(folder: Path, module: Module) -> None:
    work = cache() / "build" / module.path.rpartition("/")[2]
    work.mkdir(parents=True, exist_ok=True)
    # A module of our own that requires it: `go install module@version` refuses modules with replacements.
    lines = [
        "module cluster.test/build",
        "go 1.24.0",
        f"require {module.path} v{module.version}",
        *_replacements(module),
    ]
    (work / "go.mod").write_text("\n".join(lines) + "\n", "utf-8")
    imports = "".join(f'import _ "{package}"\n' for package in module.programs.values())
    (work / "tools.go").write_text(f"//go:build tools\n\npackage tools\n\n{imports}", "utf-8")
    _go("mod", "tidy", folder=work)
    _go("build", "-o", f"{folder}/", "-ldflags", module.flags, *module.programs.values(), folder=work)
    for name, package in module.programs.items():
        built = folder / package.rpartition("/")[2]
        if built.name != name:
            built.rename(folder / name)
        (folder / f".{name}.version").write_text(module.version, "utf-8")


def _replacements(module: Module) -> list[str]:
    """Kubernetes' own libraries, for all that say which they want: Go reads that in the main module's go.mod alone.

    Kubernetes points them at folders beside it; they are published under versions of their own.
    """
    text = Path(_download(module)["GoMod"]).read_text("utf-8")
    names = re.findall(r"^(?:replace)?\s+(\S+) => (?:\./staging|k8s\.io/)", text, re.MULTILINE)
    library = "0." + KUBERNETES.partition(".")[2]
    return [f"replace {n} => {n} v{KUBERNETES if n == 'k8s.io/kubernetes' else library}" for n in names]


def _download(module: Module) -> dict[str, str]:
    found: dict[str, str] = json.loads(
        _go("mod", "download", "-json", f"{module.path}@v{module.version}", folder=cache())
    )
    return found


def _go(*arguments: str, folder: Path) -> str:
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}
    done = subprocess.run(["go", *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotRun(f"go {' '.join(arguments[:3])} failed: {done.stderr.strip()[-300:]}")
    return done.stdout
