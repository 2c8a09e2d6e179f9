"""Programs that tests and benchmarks run beside ours: found on PATH, or built or installed once into a cache.

python -m tests.servers.tools      builds all that are not here, which the first tests would have to wait for
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import attrs

MODULES = {
    "versitygw": ("github.com/versity/versitygw", "v1.8.0", "cmd/versitygw"),
    "s5cmd": ("github.com/peak/s5cmd/v2", "v2.3.0", ""),
    "git-lfs": ("github.com/git-lfs/git-lfs/v3", "v3.8.1", ""),
    "fake-gcs-server": ("github.com/fsouza/fake-gcs-server", "v1.52.3", ""),
    "helm": ("helm.sh/helm/v3", "v3.19.0", "cmd/helm"),
    "kustomize": ("sigs.k8s.io/kustomize/kustomize/v5", "v5.7.1", ""),
    "actionlint": ("github.com/rhysd/actionlint", "v1.7.12", "cmd/actionlint"),
}

PACKAGES = {"azurite-blob": "azurite@3.35.0"}
"""Programs for Node.js → the package of npm that has them."""

_PATIENCE = 240.0  # seconds that a test may wait for a build: Go keeps what is done, and the next run goes on with it


@attrs.frozen
class Missing(Exception):  # noqa: N818 - a reason to skip
    """A program is neither here nor can it be built."""

    reason: str

    def __str__(self) -> str:
        return self.reason


def cache() -> Path:
    """Where built programs are kept between runs."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home, "tunewright-tests", "bin")


def tool(name: str, patience: float | None = _PATIENCE) -> Path:
    """The program's path.

    Args:
        name: the program.
        patience: seconds that its build may take; None for as long as it takes.

    Raises:
        Missing: it is not here, and there is no Go to build it with, or the build fails.
    """
    if found := shutil.which(name, path=f"{cache()}{os.pathsep}{os.environ.get('PATH', '')}"):
        return Path(found)
    module, version, package = MODULES[name]
    _require_go(name)
    with tempfile.TemporaryDirectory() as folder:
        # A module of our own that requires it: `go install module@version` asks for more than every proxy serves.
        path = f"{module}/{package}".rstrip("/")
        Path(folder, "go.mod").write_text(f"module tools\ngo 1.24\nrequire {module} {version}\n", "utf-8")
        Path(folder, "tools.go").write_text(f'//go:build tools\n\npackage tools\n\nimport _ "{path}"\n', "utf-8")
        _go(name, "mod", "tidy", folder=folder, patience=patience)
        built = str(Path(folder, name))
        _go(name, "build", "-ldflags", "-s -w", "-o", built, path, folder=folder, patience=patience)
        shutil.move(built, _target(name))
        return _target(name)


def node_tool(name: str) -> Path:
    """The path of a program for Node.js.

    Raises:
        Missing: it is not here, and there is no npm to install it with, or that fails.
    """
    folder = cache().parent / name
    program = folder / "node_modules" / ".bin" / name
    if found := shutil.which(name, path=f"{program.parent}{os.pathsep}{os.environ.get('PATH', '')}"):
        return Path(found)
    if shutil.which("npm") is None:
        raise Missing(f"{name} is not on PATH, and there is no npm to install it with")
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), PACKAGES[name]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not program.exists():
        raise Missing(f"{name} could not be installed: {done.stderr.strip()[-500:]}")
    return program


def build(name: str, source: Path) -> Path:
    """A program of one Go file of ours, built when the file is newer than what the cache has.

    Raises:
        Missing: as `tool`.
    """
    target = _target(name)
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        _require_go(name)
        _go(name, "build", "-o", str(target), str(source), folder=source.parent)
    return target


def _target(name: str) -> Path:
    cache().mkdir(parents=True, exist_ok=True)
    return cache() / name


def _require_go(name: str) -> None:
    if shutil.which("go") is None:
        raise Missing(f"{name} is not on PATH, and there is no Go to build it with")


def _go(name: str, *arguments: str, folder: str | Path, patience: float | None = _PATIENCE) -> Path:
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}
    command = ["go", *arguments]
    try:
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=patience
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"{name} was not built within {patience:.0f} s") from None
    if done.returncode != 0:
        raise Missing(f"{name} could not be built: {done.stderr.strip()[-500:]}")
    return _target(name)


def main() -> None:
    """Build all programs of Go that are not here."""
    for name in MODULES:
        try:
            print(tool(name, patience=None), flush=True)
        except Missing as missing:
            print(missing, flush=True)


if __name__ == "__main__":
    main()
