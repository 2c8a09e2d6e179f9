"""Images without a registry: the project's own from its Dockerfile, on a Debian that debootstrap makes; others from a program.

They are packed into archives, which containerd imports.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

from tests.cluster import buildah
from tests.cluster.programs import cache

from tunewright.plan import images as published

HOST = "cluster.test"
PAUSE, OPERATOR, BASE = f"{HOST}/pause:1", f"{HOST}/training-operator:1", f"{HOST}/base:1"
STORAGE = published.storage()
REPOSITORY = Path(__file__).parents[2]
DOCKERFILE = REPOSITORY / "launcher" / "images" / "Dockerfile"

_RELEASE = "bookworm"
# As debian:bookworm-slim, which the Dockerfile begins with where there is a registry: without what only people read.
_UNREAD = ("usr/share/doc", "usr/share/locale", "usr/share/man")
_CACHES = ("var/cache/apt", "var/lib/apt/lists")


def build(programs: Path) -> list[Path]:
    """The archives of the images that the cluster needs, of `STORAGE`, and of `BASE`, in which the tests' jobs run."""
    folder = _folder()
    storage()
    context = Path(__file__).parent
    buildah.build(BASE, context / "Dockerfile", context, arguments={"STORAGE_IMAGE": STORAGE})
    return [
        _archive(folder, PAUSE, _program(folder, programs / "pause", "pause"), "/pause"),
        _archive(folder, OPERATOR, _program(folder, programs / "training-operator", "manager"), "/manager"),
        *(buildah.archive(tag, folder / f"{_file_name(tag)}.tar") for tag in (STORAGE, BASE)),
    ]


def storage() -> str:
    """The storage image, as it is published but for what it begins with."""
    return own("storage", STORAGE)


def own(target: str, tag: str, **arguments: str) -> str:
    """One of the project's own images, from its Dockerfile."""
    buildah.build(tag, DOCKERFILE, REPOSITORY, target=target, arguments={"BASE_IMAGE": _debian(), **arguments})
    return tag


def of_program(tag: str, program: Path) -> Path:
    """The archive of an image that holds a program, which it starts."""
    return _archive(_folder(), tag, _program(_folder(), program, program.name), f"/{program.name}")


def _folder() -> Path:
    folder = cache() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _program(folder: Path, program: Path, name: str) -> Path:
    layer = folder / f"{name}.layer.tar"
    if not layer.exists() or layer.stat().st_mtime < program.stat().st_mtime:
        with tarfile.open(layer, "w") as tar:
            tar.add(program, name)
    return layer


def _debian() -> str:
    """What debian:bookworm-slim is where there is a registry."""
    tag, folder = f"{HOST}/debian:{_RELEASE}", _folder()
    if buildah.image_id(tag) is not None:
        return tag
    root, layer = folder / "debian", folder / "debian.layer.tar"
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run(["debootstrap", "--variant=minbase", _RELEASE, str(root)], check=True)
    excluded = "".join(f"path-exclude /{path}/*\n" for path in _UNREAD)
    (root / "etc/dpkg/dpkg.cfg.d/docker").write_text(excluded, "utf-8")
    for path in (*_UNREAD, *_CACHES):
        shutil.rmtree(root / path, ignore_errors=True)
    devices = [f"--exclude=./{name}/*" for name in ("proc", "sys", "dev")]
    subprocess.run(["tar", "-C", str(root), "--numeric-owner", *devices, "-cf", str(layer), "."], check=True)
    shutil.rmtree(root)
    buildah.import_root(tag, layer)
    layer.unlink()
    return tag


def _archive(folder: Path, reference: str, layer: Path, entrypoint: str) -> Path:
    """An image of one layer in the format of `docker save`: https://github.com/moby/docker-image-spec/blob/main/spec.md"""
    digest = _sha256(layer)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": [f"PATH={buildah.PATH}"], "Entrypoint": [entrypoint]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    raw = json.dumps(config).encode()
    name = f"{hashlib.sha256(raw).hexdigest()}.json"
    file = f"{digest}/layer.tar"
    manifest = [{"Config": name, "RepoTags": [reference], "Layers": [file]}]
    archive = folder / f"{_file_name(reference)}.tar"
    with tarfile.open(archive, "w") as tar:
        for member, content in ((name, raw), ("manifest.json", json.dumps(manifest).encode())):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        tar.add(layer, file)
    return archive


def _file_name(reference: str) -> str:
    return reference.rpartition("/")[2].replace(":", "-")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
