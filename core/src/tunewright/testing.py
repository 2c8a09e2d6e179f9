"""The conformance kit: tests that every plugin should pass, for its author to run.

A plugin's own tests derive a class from one of the three below, name the plugin, and make a provider as a user would,
with a literal in each secret field that goes together with the others:

    from tunewright.testing import DatasetProviderTests
    from tunewright_acme import AcmeDataset


    class TestAcmeDataset(DatasetProviderTests):
        name = "acme"

        def provider(self) -> AcmeDataset:
            return AcmeDataset(uri="acme://sales", token="a-literal-for-the-test", version=2)

pytest then finds the inherited tests. The plugin must be installed, editable or not: that it is found under its name is
the first thing they check. `pytest.register_assert_rewrite("tunewright.testing")` in a conftest.py shows more of a failure.

pytest is not a dependency of tunewright, and this is its only module that imports it.
"""
# ruff: noqa: S101 - asserts are what a test is made of

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import ClassVar

import attrs
import pytest

from tunewright.errors import RequestError
from tunewright.plan.plan import ContainerSpec, Mount
from tunewright.plan.secrets import SecretRef, SecretValue
from tunewright.plugins.registry import Kind, Plugin, Registry
from tunewright.providers import wire
from tunewright.providers.base import DatasetProvider, ModelProvider, Provider, SourceProvider, TrainerProvider
from tunewright.providers.fields import secret_env, secret_fields
from tunewright.providers.uris import uri_scheme

HEAVY_MODULES = (
    "accelerate", "boto3", "botocore", "datasets", "git", "huggingface_hub", "kaggle", "kubernetes", "numpy", "pandas",
    "peft", "pyarrow", "tokenizers", "torch", "transformers",
)  # fmt: skip
"""What a plugin must not import before its container half runs."""

_LOAD = """
import json, sys
from tunewright.plugins.registry import Registry
name, kind, heavy = sys.argv[1], sys.argv[2], sys.argv[3:]
Registry().get(name).provider(kind)
print(json.dumps([module for module in heavy if module in sys.modules]))
"""


class ProviderTests:
    """What holds for every provider. Derive from one of the classes below it instead.

    Class attributes:
        name: the plugin's registry name, which is its entry point's name.
        heavy_modules: what importing the plugin must not import; add your own container libraries.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    heavy_modules: ClassVar[tuple[str, ...]] = HEAVY_MODULES

    def provider(self) -> Provider:
        """A provider as a user makes it, with literals in its secret fields. Called several times: make equal ones."""
        raise NotImplementedError

    @pytest.fixture
    def plugin(self) -> Plugin:
        """The plugin, loaded as a user's request loads it."""
        return Registry().get(self.name)

    def test_the_registry_finds_the_class_under_the_name(self, plugin: Plugin) -> None:
        """The entry point, the hook and the class belong together."""
        assert plugin.provider(self.kind) is type(self.provider()), (
            f"The plugin {self.name!r} gives another class as its {self.kind} than provider() makes."
        )

    def test_import_is_light(self) -> None:
        """A client loads the plugin to submit a job, and has none of the container's libraries."""
        arguments = [sys.executable, "-c", _LOAD, self.name, self.kind, *self.heavy_modules]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"The plugin {self.name!r} cannot be loaded:\n{done.stderr}"
        imported = json.loads(done.stdout.splitlines()[-1])
        assert not imported, f"Loading {self.name!r} imports {imported}: import them inside the methods that need them."

    def test_providers_are_frozen_values(self) -> None:
        """Equal arguments give equal providers, and nobody can change one."""
        provider = self.provider()
        assert provider == self.provider(), "Two providers from the same arguments differ."
        for field in attrs.fields(type(provider)):
            with pytest.raises(attrs.exceptions.FrozenInstanceError):
                setattr(provider, field.name, None)

    def test_literal_secrets_are_given(self) -> None:
        """Without a literal in a secret field the tests of secrets would test nothing."""
        provider = self.provider()
        if secret_fields(type(provider)):
            assert _literals(provider), "provider() gives no literal secret: give one, so that its way can be tested."

    def test_secrets_show_nowhere(self, plugin: Plugin) -> None:
        """Neither in a repr, which logs and notebooks show, nor in the wire document, which everybody may read."""
        provider = self.provider()
        for secret in _literals(provider).values():
            for text in (repr(provider), str(provider), self._document(plugin, provider).dumps()):
                assert secret not in text, f"A secret of {type(provider).__name__} shows in its repr or on the wire."

    def test_secrets_may_be_references(self) -> None:
        """Wherever a literal is taken, a SecretRef to a Kubernetes Secret is."""
        provider = self.provider()
        names = [name for name in secret_fields(type(provider)) if getattr(provider, name) is not None]
        referring = attrs.evolve(provider, **{name: SecretRef(name="acme", key=name) for name in names})
        assert {value.key for value in secret_env(referring).values() if isinstance(value, SecretRef)} == set(names)

    def test_the_wire_gives_the_same_provider_back(self, plugin: Plugin) -> None:
        """The container works with what the user wrote, secrets included, but for what the client alone looks at."""
        provider = self.provider()
        document = wire.WireDocument.loads(self._document(plugin, provider).dumps())
        unsent = {a.name: a.default for a in attrs.fields(type(provider)) if wire.CLIENT_ONLY in a.metadata}
        expected = attrs.evolve(provider, **unsent) if unsent else provider  # a converter may make another of the same
        assert type(provider).load_config(document.params, _literals(provider)) == expected

    def test_equal_providers_give_equal_bytes(self, plugin: Plugin) -> None:
        """Jobs with the same inputs share a download, which is found by the wire document's digest."""
        first, second = self._document(plugin, self.provider()), self._document(plugin, self.provider())
        assert first.dumps() == second.dumps()

    def test_an_unknown_field_on_the_wire_is_refused(self) -> None:
        """A client with a newer plugin learns of it, rather than being half understood."""
        with pytest.raises(RequestError, match="no_such_field"):
            type(self.provider()).load_config({"no_such_field": 1}, {})

    def _document(self, plugin: Plugin, provider: Provider) -> wire.WireDocument:
        return wire.WireDocument(
            kind=self.kind,
            provider=plugin.name,
            distribution=plugin.dist,
            version=plugin.version,
            params=wire.unstructure(provider, self.kind),
        )


class SourceProviderTests(ProviderTests):
    """What models and datasets share."""

    def provider(self) -> SourceProvider:
        """As `ProviderTests.provider`."""
        raise NotImplementedError

    def test_the_scheme_is_the_plugins_name(self) -> None:
        """A user's URI finds the plugin."""
        assert uri_scheme(self.provider().uri) == self.name

    def test_init_container_shapes_a_container(self) -> None:
        """It returns a ContainerSpec, the same for the same defaults, without a secret that shows."""
        provider = self.provider()
        _check_shaping(provider, provider.init_container, f"fetch-{self.kind}", "fetch", self.kind)
        assert provider == self.provider(), "init_container() changes the provider."


class ModelProviderTests(SourceProviderTests):
    """For a plugin's `tunewright_model_provider`."""

    kind = "model"

    def provider(self) -> ModelProvider:
        """As `ProviderTests.provider`."""
        raise NotImplementedError


class DatasetProviderTests(SourceProviderTests):
    """For a plugin's `tunewright_dataset_provider`."""

    kind = "dataset"

    def provider(self) -> DatasetProvider:
        """As `ProviderTests.provider`."""
        raise NotImplementedError


class TrainerProviderTests(ProviderTests):
    """For a plugin's `tunewright_trainer_provider`."""

    kind = "trainer"

    def provider(self) -> TrainerProvider:
        """As `ProviderTests.provider`."""
        raise NotImplementedError

    def test_container_shapes_a_container(self) -> None:
        """It returns a ContainerSpec, the same for the same defaults, without a secret that shows."""
        provider = self.provider()
        torchrun = ("torchrun", "--max-restarts=0", "-m", "tunewright_launcher", "train")
        _check_shaping(provider, provider.container, "train", "run", "--", *torchrun)
        assert provider == self.provider(), "container() changes the provider."

    def test_check_inputs_takes_a_job_whose_inputs_are_elsewhere(self) -> None:
        """On the client, inputs that are still to be fetched are None."""
        self.provider().check_inputs(model=None, dataset=None, eval_dataset=None)


def _check_shaping(
    provider: Provider, shape: Callable[[ContainerSpec], ContainerSpec], name: str, *command: str
) -> None:
    defaults = _defaults(provider, name, *command)
    shaped = shape(defaults)
    assert isinstance(shaped, ContainerSpec), f"It returns {type(shaped).__name__}, not a ContainerSpec."
    assert shape(defaults) == shaped, "It returns another container for the same defaults."
    assert defaults == _defaults(provider, name, *command), "It changes the defaults: use attrs.evolve."
    shown = repr(shaped)  # literal secrets that stayed SecretValues print as <redacted>
    assert not [s for s in _literals(provider).values() if s in shown], "A secret shows in the container's manifest."


def _defaults(provider: Provider, name: str, *command: str) -> ContainerSpec:
    return ContainerSpec(
        name=name,
        image=provider.image or "registry.example/image:1",
        command=("python", "-m", "tunewright_launcher", *command),
        env={"PLAIN": "value", **secret_env(provider)},
        mounts=(Mount(volume="inputs", path="/workspace"),),
    )


def _literals(provider: Provider) -> dict[str, str]:
    return {env: value.reveal() for env, value in secret_env(provider).items() if isinstance(value, SecretValue)}
