"""Images from Dockerfiles, without a daemon and without a registry: buildah, with a store of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.programs import cache

_CERTIFICATES = "/run/certificates.crt"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Broken(Exception):  # noqa: N818 - it says which image does not build
    """An image does not build."""


def build(
    tag: str, dockerfile: Path, context: Path, *, target: str | None = None, arguments: Mapping[str, str] | None = None
) -> str:
    """Build an image, from cached layers where nothing has changed; returns its id.

    Raises:
        Broken: it does not build.
    """
    before = image_id(tag)
    given = {**(arguments or {}), **_package_index()}
    words = [f"--build-arg={name}={value}" for name, value in given.items()]
    words += [f"--target={target}"] if target else []
    # In a chroot: what is built needs no network of its own, and no container runtime.
    _buildah(
        "build", "--layers", "--isolation=chroot", *_trust(), *words, f"--tag={tag}", f"--file={dockerfile}", context
    )
    after = image_id(tag)
    assert after is not None
    if before not in (None, after):
        _buildah("rmi", "--force", before)  # also if a run that was broken off has left a container of it
    return after


def import_root(tag: str, layer: Path) -> None:
    """Make an image of one layer, unless it is there."""
    if image_id(tag) is None:
        container = _buildah("from", "scratch")
        _buildah("add", "--quiet", container, layer, "/")
        _buildah("config", f"--env=PATH={PATH}", container)
        _buildah("commit", "--rm", "--quiet", container, tag)


def archive(tag: str, file: Path) -> Path:
    """Write the image in the format of `docker save`, unless the file has this very one."""
    stamp, wanted = file.with_suffix(".id"), image_id(tag) or ""
    if not file.exists() or not stamp.exists() or stamp.read_text("utf-8") != wanted:
        file.unlink(missing_ok=True)  # an archive is not written over
        _buildah("push", "--quiet", tag, f"docker-archive:{file}:{tag}")
        stamp.write_text(wanted, "utf-8")
    return file


def image_id(tag: str) -> str | None:
    """The id of the image with this name; None if there is none."""
    for image in json.loads(_buildah("images", "--json")):
        if tag in (image["names"] or ()):
            return str(image["id"])
    return None


def inspect(tag: str) -> str:
    """What is known of an image, as JSON."""
    return _buildah("inspect", "--type=image", tag)


@contextmanager
def mounted(tag: str) -> Iterator[Path]:
    """The image's files."""
    container = _buildah("from", "--pull-never", tag)
    try:
        yield Path(_buildah("mount", container))
    finally:
        _buildah("rm", container)


def _buildah(*arguments: str | Path) -> str:
    store = cache() / "images" / "store"
    command = ["buildah", "--root", store, "--runroot", store.with_name("run"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Broken(f"buildah {arguments[0]} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout.strip()


def _package_index() -> dict[str, str]:
    index = os.environ.get("PIP_INDEX_URL")
    return {"PIP_INDEX_URL": index} if index else {}


def _trust() -> list[str]:
    """Let pip trust whom it trusts on this machine, while images are built: nothing of it is in them afterwards."""
    certificates = os.environ.get("PIP_CERT")
    if not certificates:
        return []
    config = cache() / "images" / "pip.conf"
    config.write_text(f"[global]\ncert = {_CERTIFICATES}\n", "utf-8")
    return [f"--volume={config}:/etc/pip.conf:ro", f"--volume={certificates}:{_CERTIFICATES}:ro"]
