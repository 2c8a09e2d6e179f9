"""The example plugins, one of each kind: they are what `new-plugin` writes, install as users install them, and pass their tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tunewright.cli.new_plugin import KINDS, new_plugin

EXAMPLES = Path(__file__).parent.parent / "examples"
WRITTEN = {"depot": "source", "shelf": "output", "wordcount": "trainer", "gitops": "backend", "policy": "plan"}
BY_HAND = ("web",)


def files_of(folder: Path) -> dict[str, str]:
    """The text of each file, without what Python and its tools leave."""
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in found if "." not in path.parts[0]}


def passes_its_tests(folder: Path, site: Path) -> None:
    """Install a plugin into a folder, with what is here and no network, and run its tests as its author does."""
    uv = shutil.which("uv")
    pip = [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
    command = [*pip, "--quiet", "--no-deps", "--no-build-isolation", "--target", str(site), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    tests = ["-q", "-p", "no:cacheprovider", "--rootdir", str(folder), "-c", os.devnull, str(folder / "tests")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *tests],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.parametrize(("name", "kind"), WRITTEN.items())
def test_the_examples_are_what_new_plugin_writes(name: str, kind: str, tmp_path: Path) -> None:
    written = files_of(new_plugin(name, tmp_path, kind))
    found = files_of(EXAMPLES / f"tunewright-{name}")
    assert found == written, "Write them anew: python -m tests.test_examples"


def test_each_kind_has_an_example() -> None:
    assert {"download", *WRITTEN.values()} == {*KINDS}  # tunewright-web downloads by itself
    folders = {path.name.removeprefix("tunewright-") for path in EXAMPLES.glob("tunewright-*")}
    assert folders == {*WRITTEN, *BY_HAND}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(WRITTEN))
def test_an_example_installs_and_passes_its_tests(name: str, tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLES / f"tunewright-{name}", tmp_path / f"tunewright-{name}")
    passes_its_tests(folder, tmp_path / "site")


@pytest.mark.slow
def test_what_new_plugin_writes_for_a_download_passes_its_tests(tmp_path: Path) -> None:
    passes_its_tests(new_plugin("acme", tmp_path, "download"), tmp_path / "site")


@pytest.mark.slow
def test_the_example_that_was_written_by_hand_passes_its_tests(tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLES / "tunewright-web", tmp_path / "tunewright-web")
    passes_its_tests(folder, tmp_path / "site")


if __name__ == "__main__":
    for name, kind in WRITTEN.items():
        shutil.rmtree(EXAMPLES / f"tunewright-{name}", ignore_errors=True)
        new_plugin(name, EXAMPLES, kind)
