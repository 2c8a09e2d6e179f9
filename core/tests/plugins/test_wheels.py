"""Wheels of installed plugins: made of real installations, and installed elsewhere."""

import base64
import importlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tunewright import PluginError
from tunewright.cli.new_plugin import new_plugin
from tunewright.plugins.wheels import installed_wheel

DIST = "tunewright-kitwheel"


def install(target: Path, what: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Install as users do, into a folder, with what is here and no network."""
    uv = shutil.which("uv")
    pip = [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
    command = [
        *pip,
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        *options,
        "--target",
        str(target),
        what,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plugin that is installed from a folder."""
    done = install(tmp_path / "site", str(new_plugin("kitwheel", tmp_path)))
    assert done.returncode == 0, done.stderr
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    importlib.invalidate_caches()
    return tmp_path / "site"


def info(site: Path) -> Path:
    return next(site.glob("*.dist-info"))


def direct(site: Path, **fields: object) -> None:
    """Let it seem that the plugin was installed from somewhere else."""
    (info(site) / "direct_url.json").write_text(json.dumps({"url": "file:///work/kitwheel", **fields}))


@pytest.mark.slow
def test_what_is_installed_from_a_folder_is_installed_elsewhere_as_it_is(installed: Path, tmp_path: Path) -> None:
    package = installed / "tunewright_kitwheel"
    (package / "container.py").write_text("SAME = True\n")
    wheel = installed_wheel(DIST)
    assert wheel is not None
    assert wheel.name == "tunewright_kitwheel-0.1.0-py3-none-any.whl"
    assert installed_wheel(DIST) == wheel, "equal files give equal wheels, and equal manifests"
    file = tmp_path / wheel.name
    file.write_bytes(base64.b64decode(wheel.text))
    url = f"{DIST}[container] @ {file.as_uri()}#sha256="
    assert install(tmp_path / "wrong", f"{url}{'0' * 64}").returncode != 0
    done = install(tmp_path / "there", f"{url}{wheel.sha256}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "there" / "tunewright_kitwheel" / "container.py").read_text() == "SAME = True\n"
    assert (info(tmp_path / "there") / "entry_points.txt").read_text() == (
        info(installed) / "entry_points.txt"
    ).read_text()
    with zipfile.ZipFile(file) as archive:
        assert not [name for name in archive.namelist() if "direct_url" in name or "__pycache__" in name]


@pytest.mark.slow
@pytest.mark.parametrize("where", [{}, {"vcs_info": {"vcs": "git", "commit_id": "1"}}, {"archive_info": {}}])
def test_it_does_not_matter_where_it_came_from(installed: Path, where: dict[str, object]) -> None:
    direct(installed, **where)
    assert installed_wheel(DIST) is not None
    (info(installed) / "direct_url.json").unlink()  # from an index, which may be a company's
    assert installed_wheel(DIST) is not None


@pytest.mark.slow
def test_an_editable_installation_is_refused_with_the_remedy(installed: Path) -> None:
    direct(installed, dir_info={"editable": True})
    says = r"which comes from file:///work/kitwheel: it is installed in editable mode\. .*pip install /work/kitwheel \(without -e\)"
    with pytest.raises(PluginError, match=says):
        installed_wheel(DIST)


@pytest.mark.slow
def test_what_is_compiled_or_large_is_refused_unless_an_index_has_it(installed: Path) -> None:
    wheel = info(installed) / "WHEEL"
    text = wheel.read_text()
    wheel.write_text(text.replace("py3-none-any", "cp311-cp311-linux_x86_64"))
    with pytest.raises(PluginError, match=r"is compiled for this machine.*Publish it to an index"):
        installed_wheel(DIST)
    wheel.write_text(text)
    noise = b"".join(str(n * n).encode() for n in range(300_000))
    (installed / "tunewright_kitwheel" / "container.py").write_bytes(noise)
    with pytest.raises(PluginError, match="bytes, and a job carries 524,288"):
        installed_wheel(DIST)
    (info(installed) / "direct_url.json").unlink()
    assert installed_wheel(DIST) is None


def test_a_distribution_without_a_record_comes_from_the_index(site) -> None:
    site.providers("acme")
    assert installed_wheel("tunewright-acme") is None
    assert installed_wheel("tunewright-nowhere") is None
