"""The published images, built from their Dockerfile: small, without root, on a read-only file system, pinned, extensible."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from tests.cluster import buildah, images, programs
from tests.cluster.helpers import PackageIndex, build_wheel

from tunewright.plan.images import BUNDLED, VERSION

pytestmark = pytest.mark.timeout(900)

CONSTRAINTS = images.REPOSITORY / "launcher" / "images" / "constraints.txt"
WEB = images.REPOSITORY / "examples" / "tunewright-web"
PLUGINS = """
import importlib, importlib.util
from tunewright.plugins.registry import Registry
registry = Registry()
for name in registry.names(of_any_api=True):
    registry.get(name).check()
print(*registry.names())
for library in {libraries}:
    importlib.import_module(library)
print("torch", importlib.util.find_spec("torch") is not None)
"""
LIBRARIES = [
    "anycrc",
    "botocore.session",
    "git",
    "huggingface_hub",
    "kagglesdk",
    "tunewright_launcher.engine",
]

Run = Callable[..., str]


@pytest.fixture(scope="module")
def storage() -> str:
    """The storage image."""
    try:
        programs.check_machine()
    except programs.CannotRun as reason:
        pytest.skip(f"images cannot be built here: {reason}")
    return images.storage()


@pytest.fixture(scope="module")
def run(storage: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs a command in the storage image, as a pod does."""
    with buildah.mounted(storage) as root:
        yield runner(root, tmp_path_factory.mktemp("bundle"))


def runner(root: Path, bundle: Path) -> Run:
    """Runs commands as user 1000 with a read-only root, without capabilities and without a network."""

    def run(*command: str, check: bool = True) -> str:
        (bundle / "config.json").unlink(missing_ok=True)
        subprocess.run(["runc", "spec"], cwd=bundle, check=True)
        config = json.loads((bundle / "config.json").read_text())
        config["root"] = {"path": str(root), "readonly": True}
        config["process"] |= {"terminal": False, "user": {"uid": 1000, "gid": 1000}, "args": list(command)}
        config["process"] |= {"noNewPrivileges": True, "capabilities": {}, "cwd": "/tmp"}
        config["process"]["env"] = ["PATH=/opt/tunewright/bin:/usr/bin:/bin", "HOME=/tmp", "USER=tunewright"]
        scratch = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]}
        config["mounts"].append(scratch)
        (bundle / "config.json").write_text(json.dumps(config))
        name = f"tunewright-test-{bundle.name}"
        words = ["runc", "--root", str(bundle / "runc"), "run", "--bundle", str(bundle), name]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run


def settings(tag: str) -> dict:
    """What the image says of the processes in it."""
    return json.loads(buildah.inspect(tag))["OCIv1"]["config"]


def size(root: Path) -> int:
    """Bytes of all files of an image; those with several names count once."""
    files = {(s.st_dev, s.st_ino): s.st_size for path in root.rglob("*") if (s := path.lstat())}
    return sum(files.values())


def pins() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", CONSTRAINTS.read_text("utf-8"), re.MULTILINE):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def test_the_storage_image_has_less_than_400_mb(storage: str) -> None:
    with buildah.mounted(storage) as root:
        assert 100e6 < size(root) < 400e6


def test_it_is_not_root_and_says_so_by_number(storage: str, run: Run) -> None:
    # By a number: a kubelet that is told runAsNonRoot cannot look a name up.
    assert settings(storage)["User"] == "1000:1000"
    assert run("id", "-un").strip() == "tunewright"
    assert run("getent", "passwd", "1000").split(":")[5] == "/tmp"  # where ssh looks for keys; writable
    assert "Read-only file system" in run("touch", "/usr/mine", check=False)
    assert run("sh", "-c", "touch /tmp/mine && echo written").strip() == "written"


def test_what_a_plan_calls_is_there(run: Run) -> None:
    assert "usage: python -m tunewright_launcher" in run("python", "-m", "tunewright_launcher", "--help")
    assert run("python3", "-m", "pip", "--version").startswith("pip ")
    assert run("tunewright", "--version").startswith(f"tunewright {VERSION} (Python ")
    numbers = re.search(r"(\d+)\.(\d+)", run("git", "--version"))
    assert numbers
    assert (int(numbers[1]), int(numbers[2])) >= (2, 31)
    assert run("ssh", "-V").startswith("OpenSSH")


def test_every_plugin_loads_with_its_libraries_and_there_is_no_torch(run: Run) -> None:
    names, torch = run("python", "-c", PLUGINS.format(libraries=LIBRARIES)).splitlines()
    assert {"az", "gitlfs", "gs", "hf", "http", "https", "kaggle", "s3", "file", "pvc"} <= set(names.split())
    assert torch == "torch False"


def test_everything_in_it_is_pinned(run: Run) -> None:
    listed = {canonicalize_name(d["name"]): d["version"] for d in json.loads(run("pip", "list", "--format=json"))}
    ours = {*BUNDLED, "tunewright-launcher"}
    assert {name: listed.pop(name) for name in ours} == dict.fromkeys(ours, VERSION)
    # Those two come with Debian's own `python3 -m venv`.
    others = {name: version for name, version in listed.items() if name not in ("pip", "setuptools")}
    assert {name: v for name, v in others.items() if v not in pins().get(name, ())} == {}
    assert len(others) > 20


def test_a_file_is_fetched_in_it_by_hand(run: Run) -> None:
    script = "mkdir /tmp/m && echo {} > /tmp/m/config.json && tunewright fetch file:///tmp/m /tmp/to --json"
    assert '"fetched"' in run("sh", "-c", f"{script} && cat /tmp/to/model/config.json")


def test_a_plugin_of_others_is_added_as_its_dockerfile_says(storage: str, tmp_path: Path) -> None:
    tag = f"{images.HOST}/tunewright-web:1"
    buildah.build(tag, WEB / "Dockerfile", WEB, arguments={"BASE_IMAGE": storage})
    assert settings(tag)["User"] == "1000:1000"
    with buildah.mounted(tag) as root:
        names, _ = runner(root, tmp_path)("python", "-c", PLUGINS.format(libraries=LIBRARIES)).splitlines()
    assert {"web", "hf"} <= set(names.split())


TRAINERS = "TUNEWRIGHT_TRAINER_IMAGES"
_trainers = pytest.mark.skipif(
    not os.environ.get(TRAINERS), reason=f"trainer images, of gigabytes, are built with {TRAINERS}=1"
)
TRAINS = """
import importlib, torch
for library in ("accelerate", "datasets", "peft", "transformers", "torch.distributed.run"):
    importlib.import_module(library)
print(torch.__version__, torch.version.cuda is not None)
"""
CPU_TORCH = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "torch"
version = "{version}+cpu"
[tool.hatch.build.targets.wheel]
only-include = ["torch.py"]
"""


class LocalIndex(PackageIndex):
    address = "127.0.0.1"


@_trainers
@pytest.mark.timeout(7200)
def test_the_trainer_image_has_torch_for_cuda_and_all_that_training_needs(storage: str, tmp_path: Path) -> None:
    tag = images.own("trainer", f"{images.HOST}/trainer-cuda:1")
    assert settings(tag)["User"] == "1000:1000"
    with buildah.mounted(tag) as root:
        run = runner(root, tmp_path)
        version, cuda = run("python", "-c", TRAINS).splitlines()[-1].split()
        assert (version.partition("+")[0], cuda) == (*pins()["torch"], "True")
        assert "usage: torchrun" in run("torchrun", "--help")
        listed = {canonicalize_name(d["name"]): d["version"] for d in json.loads(run("pip", "list", "--format=json"))}
    for name in (*BUNDLED, "tunewright-launcher", "pip", "torch"):
        listed.pop(name)
    assert {name: v for name, v in listed.items() if v not in pins().get(name, ())} == {}


@_trainers
@pytest.mark.timeout(7200)
def test_torch_for_processors_comes_from_an_index_of_its_own(storage: str, tmp_path: Path) -> None:
    # A stand-in: the real one's index is none that tests reach.
    version = next(iter(pins()["torch"]))
    wheel = build_wheel(tmp_path / "torch", CPU_TORCH.format(version=version), torch="")
    tag = f"{images.HOST}/trainer-cpu:1"
    with LocalIndex(wheel) as index:
        images.own("trainer", tag, TORCH_INDEX_URL=index.env["PIP_INDEX_URL"])
    (tmp_path / "bundle").mkdir()
    with buildah.mounted(tag) as root:
        listed = json.loads(runner(root, tmp_path / "bundle")("pip", "list", "--format=json"))
    versions = {canonicalize_name(d["name"]): d["version"] for d in listed}
    assert versions["torch"] == f"{version}+cpu"
    assert "transformers" in versions
    assert [name for name in versions if name.startswith("nvidia")] == []
