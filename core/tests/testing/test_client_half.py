"""The client half of the conformance kit: each fault of a bad plugin is found by the test made for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ENTRY_POINTS = "[tunewright.v1]\n{name} = {module}\n"
METADATA = "Metadata-Version: 2.1\nName: tunewright-{name}\nVersion: 1.0\n"

GOOD = """
import attrs
from tunewright import DatasetProvider, ModelProvider, SecretRef, TrainerProvider, hookimpl, secret

@attrs.frozen(kw_only=True)
class Data(DatasetProvider):
    token: str | SecretRef | None = secret(env="ACME_TOKEN")
    version: int = 1
    def download_dataset(self, target): ...

@attrs.frozen(kw_only=True)
class Model(ModelProvider):
    def download_model(self, target): ...

@attrs.frozen(kw_only=True)
class Trainer(TrainerProvider):
    rate: float = 0.1
    def container(self, defaults):
        return attrs.evolve(defaults, env={**defaults.env, "RATE": str(self.rate)})
    def train(self, run): ...

@hookimpl
def tunewright_dataset_provider(): return Data

@hookimpl
def tunewright_model_provider(): return Model

@hookimpl
def tunewright_trainer_provider(): return Trainer
"""

TESTS = """
from tunewright.testing import DatasetProviderTests, ModelProviderTests, TrainerProviderTests
import acme_plugin

class TestData(DatasetProviderTests):
    name, tested_elsewhere = "acme", "test_planted_faults.py"
    def provider(self): return acme_plugin.Data(uri="acme://sales", token="a-literal", version=2)

class TestModel(ModelProviderTests):
    name, tested_elsewhere = "acme", "test_planted_faults.py"
    def provider(self): return acme_plugin.Model(uri="acme://tiny")

class TestTrainer(TrainerProviderTests):
    name, tested_elsewhere = "acme", "test_planted_faults.py"
    def provider(self): return acme_plugin.Trainer(rate=0.5)
"""


def failures(folder: Path, plugin: str, tests: str = TESTS, name: str = "acme") -> list[str]:
    """Install the plugin as pip would, run its author's tests as the author would; the names of those that fail."""
    info = folder / f"tunewright_{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA.format(name=name))
    (info / "entry_points.txt").write_text(ENTRY_POINTS.format(name=name, module="acme_plugin"))
    (folder / "acme_plugin.py").write_text(plugin)
    (folder / "test_acme.py").write_text(tests)
    (folder / "boto3.py").write_text("")
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", "test_acme.py"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)]),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    assert (done.returncode == 0) == (not failed), done.stdout + done.stderr
    return sorted({name.removeprefix("test_acme.py::") for name in failed})


@pytest.mark.slow
def test_a_good_plugin_passes(tmp_path: Path) -> None:
    assert failures(tmp_path, GOOD) == []


@pytest.mark.slow
def test_a_plugin_that_is_not_installed_is_not_found(tmp_path: Path) -> None:
    found = failures(tmp_path, GOOD, name="other")
    for kind in ("Data", "Model", "Trainer"):
        assert f"Test{kind}::test_the_registry_finds_the_class_under_the_name" in found
        assert f"Test{kind}::test_import_is_light" in found


VERSION = "    version: int = 1\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "found"),
    [
        (
            {
                "\nimport attrs": "\nimport attrs, boto3",
                VERSION: f"{VERSION}    def __repr__(self): return f'Data({{self.token}})'\n",
                "        return attrs.evolve(defaults": "        return dict(defaults=defaults",
                "    def download_model(self, target): ...": "    def download_model(self, target): ...\n    @classmethod\n"
                "    def load_config(cls, params, secrets): return cls(uri=params.get('uri', 'acme://tiny'))",
            },
            [
                "TestData::test_import_is_light",
                "TestData::test_secrets_show_nowhere",
                "TestModel::test_an_unknown_field_on_the_wire_is_refused",
                "TestModel::test_import_is_light",
                "TestTrainer::test_container_shapes_a_container",
                "TestTrainer::test_import_is_light",
            ],
        ),
        (
            {
                VERSION: f"{VERSION}    copy: str | None = attrs.field(default=None, repr=False)\n"
                "    def __attrs_post_init__(self): object.__setattr__(self, 'copy', self.token)\n",
                "    def train(self, run): ...": "    def train(self, run): ...\n"
                "    def check_inputs(self, *, model, dataset, eval_dataset): model.exists()",
            },
            [
                "TestData::test_secrets_show_nowhere",
                "TestTrainer::test_check_inputs_takes_a_job_whose_inputs_are_elsewhere",
            ],
        ),
        (
            {
                VERSION: "    version: int = attrs.field(default=1, converter=lambda v: v + 1)\n"
                "    def init_container(self, defaults):\n"
                "        return attrs.evolve(defaults, command=(*defaults.command, self.token))\n",
                "    rate: float": "    made: int = attrs.field(init=False, factory=__import__('itertools').count().__next__)\n"
                "    rate: float",
            },
            [
                "TestData::test_fields_are_the_same_on_another_machine_and_day",
                "TestData::test_init_container_shapes_a_container",
                "TestData::test_the_wire_gives_the_same_provider_back",
                "TestTrainer::test_container_shapes_a_container",
                "TestTrainer::test_equal_providers_give_equal_bytes",
                "TestTrainer::test_fields_are_the_same_on_another_machine_and_day",
                "TestTrainer::test_providers_are_frozen_values",
                "TestTrainer::test_the_wire_gives_the_same_provider_back",
            ],
        ),
    ],
    ids=["import, repr, container, load_config", "wire, check_inputs", "converter, command, equality"],
)
def test_each_fault_is_found_by_the_test_for_it(tmp_path: Path, faults: dict[str, str], found: list[str]) -> None:
    plugin = GOOD
    for good, bad in faults.items():
        assert plugin.count(good) == 1
        plugin = plugin.replace(good, bad)
    assert failures(tmp_path, plugin) == found


@pytest.mark.slow
def test_faults_of_the_authors_own_tests_are_found(tmp_path: Path) -> None:
    tests = TESTS.replace(', token="a-literal"', "").replace("acme://tiny", "other://tiny")
    assert failures(tmp_path, GOOD, tests) == [
        "TestData::test_literal_secrets_are_given",
        "TestModel::test_the_scheme_is_the_plugins_name",
    ]
