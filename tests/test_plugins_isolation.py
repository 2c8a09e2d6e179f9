"""A stranger's plugin, written from the hookspecs' docstrings alone: installed as users install it, and used by its name."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tunewright.cli.new_plugin import new_plugin

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "tunewright-weather"
version = "0.3"
[project.entry-points."tunewright.v1"]
weather = "tunewright_weather"
[tool.hatch.build.targets.wheel]
only-include = ["tunewright_weather.py"]
"""

MODULE = """\
import json
import attrs
from tunewright import DatasetProvider, ModelProvider, SecretRef, TrainerProvider, hookimpl, secret
from tunewright.events import Step

@attrs.frozen(kw_only=True)
class Station(ModelProvider):
    def download_model(self, target):
        (target / "model.json").write_text(json.dumps({"uri": self.uri}))

@attrs.frozen(kw_only=True)
class Forecast(DatasetProvider):
    token: str | SecretRef | None = secret(env="WEATHER_TOKEN")
    days: int = 7
    def download_dataset(self, target):
        (target / "rain.json").write_text(json.dumps([self.token, self.days]))

@attrs.frozen(kw_only=True)
class Averages(TrainerProvider):
    def train(self, run):
        if run.rank == 0:
            run.result.mkdir(parents=True)
            rain = (run.dataset / "rain.json").read_text()
            (run.result / "averages.txt").write_text(f"{rain} of {run.world_size}, {(run.model / 'model.json').read_text()}")
        run.emit(Step(step=1, loss=1.5))

@hookimpl
def tunewright_model_provider(): return Station
@hookimpl
def tunewright_dataset_provider(): return Forecast
@hookimpl
def tunewright_trainer_provider(): return Averages
"""

CLIENT = """
import json, sys
from tunewright import TrainingClient
options = dict(model="weather://oslo", dataset={"provider": "weather", "uri": "weather://rain", "token": "a-literal", "days": 3}, trainer="weather")
heavy = ("torch", "transformers", "boto3", "huggingface_hub", "kubernetes", "tunewright_broken", "tunewright_hf", "tunewright_s3")
if sys.argv[1] == "dry":
    print(TrainingClient("kubernetes").train("w", **options, dry_run=True).to_yaml())
    assert not [m for m in heavy if m in sys.modules], [m for m in heavy if m in sys.modules]
else:
    job = TrainingClient("local").train("w", **options, num_procs_per_worker=2)
    job.wait(timeout=240)
    print(json.dumps([str(job.result), [e.to_dict() for e in job.events() if e.event == "step"]]))
"""


def installer() -> list[str]:
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install", "--quiet"]


def install(site: Path, *folders: Path) -> None:
    """Into a folder of its own, as pip does it, with what is here and no network."""
    command = [*installer(), "--no-deps", "--no-build-isolation", "--target", str(site), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def python(site: Path, *arguments: str, **env: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", **env}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stranger's plugin, beside one that breaks at import and one that is made for another api."""
    base = tmp_path_factory.mktemp("weather")
    folders = []
    for name, group, module in [
        ("weather", "v1", MODULE),
        ("broken", "v1", "import nothing_like_it"),
        ("future", "v9", "raise SystemExit"),
    ]:
        folder = base / name
        folder.mkdir()
        text = PYPROJECT.replace("weather", name).replace("tunewright.v1", f"tunewright.{group}")
        (folder / "pyproject.toml").write_text(text)
        (folder / f"tunewright_{name}.py").write_text(module)
        folders.append(folder)
    install(base / "site", *folders)
    return base / "site"


def test_the_plugin_is_short() -> None:
    assert len(MODULE.splitlines()) < 40


def test_it_is_used_by_its_name_beside_broken_ones(site: Path, tmp_path: Path) -> None:
    out = python(site, "-c", CLIENT, "dry", TUNEWRIGHT_HOME=str(tmp_path))
    documents = {d["kind"]: d for d in yaml.safe_load_all(out) if d}
    files = documents["ConfigMap"]["data"]
    assert json.loads(files["dataset.json"]) == {
        "api": 1, "kind": "dataset", "provider": "weather", "distribution": "tunewright-weather", "version": "0.3",
        "params": {"uri": "weather://rain", "days": 3},
    }  # fmt: skip
    assert [name.partition("-py")[0] for name in json.loads(files["wheels.json"])] == ["tunewright_weather-0.3"]
    assert "a-literal" not in out
    spec = documents["PyTorchJob"]["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]
    wheel = "tunewright-weather @ file:///tmp/tunewright-wheels/tunewright_weather-0.3-py"
    assert spec["initContainers"][0]["command"][-1].startswith(wheel)
    holders = [c["name"] for c in [*spec["initContainers"], *spec["containers"]] if "WEATHER_TOKEN" in json.dumps(c)]
    assert holders == ["fetch-dataset"]


def test_the_list_of_plugins_shows_it_and_what_is_wrong_with_the_others(site: Path) -> None:
    code = "import sys; sys.argv = ['tunewright', 'plugins', '--json']; from tunewright.cli import main; main()"
    out = python(site, "-c", code)
    rows = {row["name"]: row for row in map(json.loads, out.splitlines())}
    assert (rows["weather"]["gives"], rows["weather"]["version"]) == ("model, dataset, trainer", "0.3")
    assert "nothing_like_it" in rows["broken"]["problem"]
    assert "plugin API v9" in rows["future"]["problem"]
    assert rows["file"]["gives"] == "model, dataset"


@pytest.mark.slow
def test_it_trains_on_this_machine(site: Path, tmp_path: Path) -> None:
    out = python(site, "-c", CLIENT, "run", TUNEWRIGHT_HOME=str(tmp_path))
    result, steps = json.loads(out.splitlines()[-1])
    assert (Path(result) / "averages.txt").read_text() == '["a-literal", 3] of 2, {"uri": "weather://oslo"}'
    assert {step["loss"] for step in steps} == {1.5}


def test_what_new_plugin_writes_is_installed_into_pods_with_its_extra(tmp_path: Path) -> None:
    install(tmp_path / "site", new_plugin("acme", tmp_path))
    code = "from tunewright import TrainingClient as C; print(C('kubernetes').train('a', model='file:///m', dataset='acme://x', trainer='hf', dry_run=True).to_yaml())"
    assert "tunewright-acme[container] @" in python(tmp_path / "site", "-c", code)
