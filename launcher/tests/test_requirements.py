"""What the images are made of is pinned, in step with the workspace's own pins, and names no host."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "launcher" / "images"
AGAIN = "Make it anew, as docs/how-to/images.md says."
PACKAGES = sorted(
    path for pattern in ("core", "launcher", "plugins/*") for path in ROOT.glob(f"{pattern}/pyproject.toml")
)


def versions() -> dict[str, set[str]]:
    """Name → versions, of which a marker chooses one."""
    found: dict[str, set[str]] = {}
    for line in (IMAGES / "constraints.txt").read_text("utf-8").splitlines():
        name, version = line.partition(";")[0].strip().split("==")
        found.setdefault(name, set()).add(version)
    return found


def required(extra: str) -> list[str]:
    """What the Dockerfile installs of others."""
    command = [sys.executable, str(IMAGES / "requirements.py"), extra, *map(str, PACKAGES)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_every_line_is_a_name_and_a_version() -> None:
    assert re.search(r"[@/]|--", (IMAGES / "constraints.txt").read_text("utf-8")) is None
    assert len(versions()) > 50


def test_the_pins_are_those_of_the_workspace() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    pins = [pin.split("==") for pin in settings["tool"]["uv"]["constraint-dependencies"]]
    other = {name: version for name, version in pins if version not in versions().get(name, {version})}
    assert other == {}, AGAIN


@pytest.mark.parametrize("extra", ["fetch", "train"])
def test_all_that_the_images_install_is_pinned(extra: str) -> None:
    needed = {re.split(r"[<>=\[ ]", line)[0].replace("_", "-").lower() for line in required(extra)}
    assert "attrs" in needed
    assert needed - set(versions()) == set(), AGAIN


def test_torch_is_for_training_alone() -> None:
    fetch, train = (" ".join(required(extra)) for extra in ("fetch", "train"))
    assert [name for name in ("torch", "transformers", "tunewright") if name in fetch] == []
    assert all(name in train for name in ("torch", "transformers", "botocore", "gitpython"))
