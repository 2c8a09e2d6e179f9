"""Wheels of installed plugins: pods get the very build that the client has, wherever it came from.

`NAME==VERSION` from an index is the same build only if the client's came from that index too. A plugin from a folder, a repository
or a company's index may be there under another's name, or not at all. So its installed files become a wheel in the job.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution
from typing import Any

import attrs

from tunewright.errors import PluginError

_MOST_BYTES = 512 << 10  # of a wheel in a ConfigMap, which holds 1 MiB of Base64 and everything else
_OF_THE_INSTALLER = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json", "uv_build.json"}
_SCRIPTS = re.compile(r"(\.\./)+(bin|Scripts)/[^/]+")  # made anew of the entry points
_TIME = (1980, 1, 1, 0, 0, 0)  # equal files must give equal wheels
_IMAGE = "Or build an image that contains it, and name it in the provider's class: image = …"


@attrs.frozen(kw_only=True)
class Wheel:
    """A distribution as it is installed here.

    Attributes:
        name: file name of the wheel.
        data: its contents.
    """

    name: str
    data: bytes = attrs.field(repr=False)

    @property
    def sha256(self) -> str:
        """Its digest, in hexadecimal digits."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def text(self) -> str:
        """Its contents as Base64."""
        return base64.b64encode(self.data).decode()


def installed_wheel(dist: str) -> Wheel | None:
    """Return a wheel of a distribution as it is installed here; None if pods may take it from an index.

    Raises:
        PluginError: no wheel can be made of it, and an index need not have it.
    """
    try:
        found = importlib.metadata.distribution(dist)
    except importlib.metadata.PackageNotFoundError:
        return None
    direct = _direct_url(found)
    problem, wheel = _problem(found, direct), None
    if not problem:
        wheel = Wheel(name=_file_name(found), data=_packed(found))
        if len(wheel.data) > _MOST_BYTES:
            problem = f"has {len(wheel.data):,} bytes, and a job carries {_MOST_BYTES:,}"
    if not problem:
        return wheel
    if direct is None:
        return None
    message = f"Pods cannot install {dist} {found.version}, which comes from {direct.get('url')}: it {problem}."
    raise PluginError(f"{message} {_remedy(direct)} {_IMAGE}", name=dist, dist=dist)


def _direct_url(dist: Distribution) -> dict[str, Any] | None:
    """Return where a distribution was installed from, if not from an index; see PEP 610."""
    text = dist.read_text("direct_url.json")
    try:
        found = json.loads(text) if text else None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else None


def _is_editable(direct: Mapping[str, Any] | None) -> bool:
    return bool(direct and isinstance(direct.get("dir_info"), dict) and direct["dir_info"].get("editable"))


def _remedy(direct: Mapping[str, Any]) -> str:
    if not _is_editable(direct):
        return "Publish it to an index that pods reach, and install it from there."
    folder = str(direct.get("url")).removeprefix("file://")
    return f"Install a build of it: pip install {folder} (without -e), again after each change."


def _problem(dist: Distribution, direct: Mapping[str, Any] | None) -> str:
    """Return why no wheel can be made of the installed files, as a clause; "" if one can."""
    if _is_editable(direct):
        return "is installed in editable mode"
    described = dist.read_text("WHEEL")
    if dist.files is None or described is None:
        return "has no record of its files"
    if "Root-Is-Purelib: true" not in described or not _tags(dist):
        return "is compiled for this machine"
    outside = [
        str(path)
        for path in dist.files
        if str(path).startswith(("..", "/")) and not _SCRIPTS.fullmatch(path.as_posix())
    ]
    return f"has files outside of its packages ({outside[0]})" if outside else ""


def _tags(dist: Distribution) -> list[str]:
    tags = re.findall(r"^Tag: (\S+)$", dist.read_text("WHEEL") or "", re.MULTILINE)
    return tags if all(tag.endswith("-none-any") for tag in tags) else []


def _file_name(dist: Distribution) -> str:
    name = re.sub(r"[-_.]+", "_", dist.name)
    pythons = ".".join(sorted({tag.partition("-")[0] for tag in _tags(dist)}))
    return f"{name}-{dist.version}-{pythons}-none-any.whl"


def _packed(dist: Distribution) -> bytes:
    files = dict(sorted(_contents(dist)))
    info = next(path.rpartition("/")[0] for path in files if path.endswith(".dist-info/METADATA"))
    record = f"{info}/RECORD"
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in {**files, record: _record(files, record)}.items():
            archive.writestr(zipfile.ZipInfo(path, _TIME), data, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def _contents(dist: Distribution) -> Iterator[tuple[str, bytes]]:
    for path in dist.files or ():
        name = path.as_posix()
        if name.startswith("..") or name.endswith(".pyc") or "__pycache__/" in name:
            continue
        if ".dist-info/" in name and path.name in _OF_THE_INSTALLER:
            continue
        yield name, path.read_binary()


def _record(files: Mapping[str, bytes], record: str) -> bytes:
    """Return the wheel's list of its files: https://packaging.python.org/en/latest/specifications/recording-installed-packages/."""
    stream = io.StringIO()
    rows = csv.writer(stream, lineterminator="\n")
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.writerow([path, f"sha256={digest}", len(data)])
    rows.writerow([record, "", ""])
    return stream.getvalue().encode()
