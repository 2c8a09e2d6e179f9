"""Images without a registry: folders that are packed into archives, which containerd imports."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.programs import cache

HOST = "cluster.test"
PAUSE, OPERATOR, BASE = f"{HOST}/pause:1", f"{HOST}/training-operator:1", f"{HOST}/base:1"

_RELEASE = "bookworm"
_PACKAGES = "python3,python3-pip,ca-certificates,git,git-lfs"
# The operator's own init container calls nslookup, of which the C library does all that is asked for.
_NSLOOKUP = '#!/bin/sh\nexec getent ahosts "$1"\n'
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def build(programs: Path) -> list[Path]:
    """The archives of the images that the cluster needs, and of `BASE`, in which the tests' jobs run.

    Its PATH begins with the Python environment of whoever runs the tests, which jobs may mount from the node.
    """
    folder = cache() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    path = f"PATH={sys.prefix}/bin:{_PATH}"
    made = {
        PAUSE: ([_program(folder, programs / "pause", "pause")], ["/pause"], [f"PATH={_PATH}"]),
        OPERATOR: ([_program(folder, programs / "training-operator", "manager")], ["/manager"], [f"PATH={_PATH}"]),
        BASE: ([_debian(folder)], [], [path]),
    }
    return [_archive(folder, reference, *parts) for reference, parts in made.items()]


def _program(folder: Path, program: Path, name: str) -> Path:
    layer = folder / f"{name}.layer.tar"
    if not layer.exists() or layer.stat().st_mtime < program.stat().st_mtime:
        with tarfile.open(layer, "w") as tar:
            tar.add(program, name)
    return layer


def _debian(folder: Path) -> Path:
    """A layer with Debian, Python, pip and git: what images of the project's own begin with."""
    layer = folder / f"debian-{hashlib.sha256(_PACKAGES.encode()).hexdigest()[:8]}.layer.tar"
    if layer.exists():
        return layer
    root = folder / "debian"
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run(["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _RELEASE, str(root)], check=True)
    for path in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
        shutil.rmtree(root / path, ignore_errors=True)
    (root / "usr/bin/nslookup").write_text(_NSLOOKUP, "utf-8")
    (root / "usr/bin/nslookup").chmod(0o755)
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    (root / "root").chmod(0o755)  # the node's Python environment may lie below it
    excluded = [f"--exclude=./{name}/*" for name in ("proc", "sys", "dev")]
    partial = layer.with_suffix(".partial")
    subprocess.run(["tar", "-C", str(root), "--numeric-owner", *excluded, "-cf", str(partial), "."], check=True)
    partial.rename(layer)
    shutil.rmtree(root)
    return layer


def _archive(folder: Path, reference: str, layers: Sequence[Path], entrypoint: list[str], env: list[str]) -> Path:
    """In the format of `docker save`: https://github.com/moby/docker-image-spec/blob/main/spec.md"""
    digests = [_sha256(layer) for layer in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": env, "Entrypoint": entrypoint},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }
    raw = json.dumps(config).encode()
    name = f"{hashlib.sha256(raw).hexdigest()}.json"
    files = [f"{digest}/layer.tar" for digest in digests]
    manifest = [{"Config": name, "RepoTags": [reference], "Layers": files}]
    archive = folder / f"{reference.rpartition('/')[2].replace(':', '-')}.tar"
    with tarfile.open(archive, "w") as tar:
        for member, content in ((name, raw), ("manifest.json", json.dumps(manifest).encode())):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for layer, member in zip(layers, files, strict=True):
            tar.add(layer, member)
    return archive


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
