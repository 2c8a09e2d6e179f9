"""A Kaggle of one's own, and fetching from it: in this process, and as the process of an init container."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs
import pytest
from tests.servers.kaggle import TOKEN, FakeKaggle
from tests.servers.step import step_environment

from tunewright._planning.assemble import document_of
from tunewright.errors import ExitCode, FetchError
from tunewright.plugins.registry import Registry
from tunewright.providers.base import DatasetProvider
from tunewright.providers.limits import FetchLimits
from tunewright_kaggle import KaggleDatasetParams, KaggleModelParams
from tunewright_launcher.fetch import fetch_into

VERSION = "0.1.0"


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the marker."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != "complete.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@attrs.define
class Fetch:
    """Fetches in this process.

    Attributes:
        workspace: the volume.
        told: the events of the last fetch.
    """

    workspace: Path
    told: list[Mapping[str, object]] = attrs.field(factory=list)

    def run(self, uri: str, **params: object) -> dict[str, bytes]:
        cls = KaggleModelParams if "://models/" in uri else KaggleDatasetParams
        provider = cls(**{"uri": uri, "api_token": TOKEN, **params})
        kind = "dataset" if isinstance(provider, DatasetProvider) else "model"
        document = document_of(kind, Registry().get("kaggle"), provider)
        self.told.clear()
        limits = FetchLimits(connections=4, stall=2, tries=3)
        fetch_into(provider, document, self.workspace, "slot", self.told.append, limits=limits)
        return files_in(self.workspace / "slot")

    def fails(self, code: ExitCode, *words: str, uri: str, **params: object) -> FetchError:
        with pytest.raises(FetchError) as caught:
            self.run(uri, **params)
        assert caught.value.code is code, caught.value
        assert all(word in str(caught.value) for word in words), caught.value
        assert not (self.workspace / "slot" / "complete.json").exists()
        return caught.value

    @property
    def marker(self) -> dict[str, object]:
        return json.loads((self.workspace / "slot" / "complete.json").read_text("utf-8"))


@attrs.frozen
class Step:
    """`python -m tunewright_launcher fetch` of a pod."""

    kaggle: FakeKaggle
    workspace: Path
    folder: Path
    uri: str

    @property
    def kind(self) -> str:
        return "model" if "://models/" in self.uri else "dataset"

    @property
    def slot(self) -> Path:
        return self.workspace / self.kind

    def start(self, env: Mapping[str, str] | None = None, **params: object) -> subprocess.Popen[str]:
        for folder in ("config", "run", "home"):
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
        (self.folder / "run" / "verdict.json").unlink(missing_ok=True)
        document = {
            "api": 1,
            "kind": self.kind,
            "provider": "kaggle",
            "distribution": "tunewright-kaggle",
            "version": VERSION,
            "params": {"uri": self.uri, **params},
        }
        (self.folder / "config" / f"{self.kind}.json").write_text(json.dumps(document), "utf-8")
        given = step_environment(self.folder, self.workspace, retry_for=30)
        own = {k: v for k, v in given.items() if not k.startswith("KAGGLE_") and not k.lower().endswith("_proxy")}
        environment = {
            **own,
            **self.kaggle.environment,
            "HOME": str(self.folder / "home"),
            "KAGGLE_API_TOKEN": TOKEN,
            **(env or {}),
        }
        command = [sys.executable, "-m", "tunewright_launcher", "fetch", self.kind]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env={k: v for k, v in environment.items() if v}, text=True, **pipes)

    def run(self, env: Mapping[str, str] | None = None, **params: object) -> subprocess.CompletedProcess[str]:
        process = self.start(env, **params)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    @property
    def files(self) -> dict[str, bytes]:
        return files_in(self.slot)

    def assert_failed(self, code: int, *words: str) -> None:
        verdict = json.loads((self.folder / "run" / "verdict.json").read_text("utf-8"))
        text = f"{verdict['cause']} {verdict['remedy']}"
        assert verdict["code"] == code, text
        assert all(word in text for word in words), text
        assert not (self.slot / "complete.json").exists()


@pytest.fixture
def kaggle() -> Iterator[FakeKaggle]:
    with FakeKaggle() as running:
        yield running


@pytest.fixture
def fetch(kaggle: FakeKaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetch:
    for variable in [v for v in os.environ if v.startswith("KAGGLE_") or v.lower().endswith("_proxy")]:
        monkeypatch.delenv(variable)
    for variable, value in kaggle.environment.items():
        monkeypatch.setenv(variable, value)
    (workspace := tmp_path / "volume").mkdir()
    return Fetch(workspace)


@pytest.fixture
def step(kaggle: FakeKaggle, tmp_path: Path) -> Callable[..., Step]:
    """Makes the step of a pod; all of them share a volume."""

    def make(uri: str, pod: str = "pod-0", volume: Path | None = None) -> Step:
        workspace = volume or tmp_path / "volume"
        workspace.mkdir(exist_ok=True)
        return Step(kaggle, workspace, tmp_path / pod, uri)

    return make
