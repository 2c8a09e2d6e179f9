"""The conformance kit: tests that every plugin should pass.

In the tests of your plugin, derive a class from `ModelProviderTests`, `DatasetProviderTests` or `TrainerProviderTests`.
Set `name` to the name of the plugin, and let `provider()` return a provider as a user would create it, with literals in
as many secret fields as may be combined:

    from tunewright.testing import DatasetProviderTests
    from tunewright_acme import AcmeDataset


    class TestAcmeDataset(DatasetProviderTests):
        name = "acme"

        def provider(self) -> AcmeDataset:
            return AcmeDataset(uri="acme://sales", token="a-literal-for-the-test", version=2)

pytest then collects the inherited tests. The plugin must be installed, possibly in editable mode, as the tests look it up
by its name. For more detailed failures, add `pytest.register_assert_rewrite("tunewright.testing")` to your conftest.py.

pytest is not a dependency of tunewright, and no other module imports it.
"""
# ruff: noqa: S101 - these are tests

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
from tunewright.plugins.kinds import Kind
from tunewright.plugins.registry import Plugin, Registry
from tunewright.providers import wire
from tunewright.providers.base import DatasetProvider, ModelProvider, Provider, SourceProvider, TrainerProvider
from tunewright.providers.fields import secret_env, secret_fields
from tunewright.providers.mixture import MixturePart
from tunewright.providers.uris import uri_scheme

HEAVY_MODULES = (
    "accelerate", "azure", "boto3", "botocore", "datasets", "git", "google", "huggingface_hub", "kaggle", "kubernetes", "numpy", "pandas",
    "peft", "pyarrow", "tokenizers", "torch", "transformers",
)  # fmt: skip
"""Modules that a plugin must not import before its container half runs."""

_LOAD = """
import json, sys
from tunewright.plugins.registry import Registry
name, kind, heavy = sys.argv[1], sys.argv[2], sys.argv[3:]
Registry().get(name).provider(kind)
print(json.dumps([module for module in heavy if module in sys.modules]))
"""


class ProviderTests:
    """Tests for every kind of provider. Derive from one of the subclasses instead.

    Class attributes:
        name: registry name of the plugin, which is the name of its entry point.
        kind: kind of the provider, set by the subclasses.
        heavy_modules: modules that must not be imported together with the plugin. Add the libraries that your plugin uses
            in the container.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    heavy_modules: ClassVar[tuple[str, ...]] = HEAVY_MODULES

    def provider(self) -> Provider:
        """Return a provider as a user would create it, with literals in its secret fields.

        The tests call this method several times. It must return equal providers.
        """
        raise NotImplementedError

    @pytest.fixture
    def plugin(self) -> Plugin:
        """Load the plugin as a user's request does."""
        return Registry().get(self.name)

    def test_the_registry_finds_the_class_under_the_name(self, plugin: Plugin) -> None:
        """The plugin's hook returns the class of the provider."""
        assert plugin.provider(self.kind) is type(self.provider()), (
            f"The {self.kind} hook of plugin {self.name!r} returns a different class from that of provider()."
        )

    def test_import_is_light(self) -> None:
        """The plugin can be loaded without the libraries of the container, which a client need not have."""
        arguments = [sys.executable, "-c", _LOAD, self.name, self.kind, *self.heavy_modules]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"The plugin {self.name!r} cannot be loaded:\n{done.stderr}"
        imported = json.loads(done.stdout.splitlines()[-1])
        assert not imported, f"Loading {self.name!r} imports {imported}: import them inside the methods that use them."

    def test_providers_are_frozen_values(self) -> None:
        """Equal arguments give equal providers, and no field of a provider can be changed."""
        provider = self.provider()
        assert provider == self.provider(), "Two providers with the same arguments are not equal."
        for field in attrs.fields(type(provider)):
            with pytest.raises(attrs.exceptions.FrozenInstanceError):
                setattr(provider, field.name, None)

    def test_literal_secrets_are_given(self) -> None:
        """provider() has a literal in a secret field; without one, the tests of secrets would test nothing."""
        provider = self.provider()
        if secret_fields(type(provider)):
            assert _literals(provider), "provider() has no literal secret: pass one, so that the tests can follow it."

    def test_secrets_show_nowhere(self, plugin: Plugin) -> None:
        """Secrets appear neither in the repr, which logs and notebooks show, nor in the wire document."""
        provider = self.provider()
        for secret in _literals(provider).values():
            for text in (repr(provider), str(provider), self._document(plugin, provider).dumps()):
                assert secret not in text, f"A secret of {type(provider).__name__} appears in its repr or on the wire."

    def test_secrets_may_be_references(self) -> None:
        """Every secret field accepts a SecretRef to a Kubernetes Secret in place of a literal."""
        provider = self.provider()
        names = [name for name in secret_fields(type(provider)) if getattr(provider, name) is not None]
        referring = attrs.evolve(provider, **{name: SecretRef(name="acme", key=name) for name in names})
        assert {value.key for value in secret_env(referring).values() if isinstance(value, SecretRef)} == set(names)

    def test_the_wire_gives_the_same_provider_back(self, plugin: Plugin) -> None:
        """The container gets the provider that the user created, with its secrets, except for CLIENT_ONLY fields."""
        provider = self.provider()
        document = wire.WireDocument.loads(self._document(plugin, provider).dumps())
        unsent = {a.name: a.default for a in attrs.fields(type(provider)) if wire.CLIENT_ONLY in a.metadata}
        expected = attrs.evolve(provider, **unsent) if unsent else provider  # evolve() would run converters again
        assert type(provider).load_config(document.params, _literals(provider)) == expected

    def test_equal_providers_give_equal_bytes(self, plugin: Plugin) -> None:
        """Equal providers have equal wire documents, by whose digest jobs with the same inputs share a download."""
        first, second = self._document(plugin, self.provider()), self._document(plugin, self.provider())
        assert first.dumps() == second.dumps()

    def test_an_unknown_field_on_the_wire_is_refused(self) -> None:
        """The container refuses a field that it does not know, such as one of a newer version of the plugin."""
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
    """Tests for model and dataset providers. Derive from one of the subclasses instead."""

    def provider(self) -> SourceProvider:
        """Return a provider; see `ProviderTests.provider`."""
        raise NotImplementedError

    def test_the_scheme_is_the_plugins_name(self) -> None:
        """The scheme of the provider's URI selects the plugin."""
        assert uri_scheme(self.provider().uri) == self.name

    def test_init_container_shapes_a_container(self) -> None:
        """init_container() is pure, and returns a ContainerSpec that shows no secret."""
        provider = self.provider()
        _check_shaping(provider, provider.init_container, f"fetch-{self.kind}", "fetch", self.kind)
        assert provider == self.provider(), "init_container() must not change the provider."


class ModelProviderTests(SourceProviderTests):
    """Tests for the class that a plugin returns from `tunewright_model_provider`."""

    kind = "model"

    def provider(self) -> ModelProvider:
        """Return a provider; see `ProviderTests.provider`."""
        raise NotImplementedError


class DatasetProviderTests(SourceProviderTests):
    """Tests for the class that a plugin returns from `tunewright_dataset_provider`."""

    kind = "dataset"

    def provider(self) -> DatasetProvider:
        """Return a provider; see `ProviderTests.provider`."""
        raise NotImplementedError


class TrainerProviderTests(ProviderTests):
    """Tests for the class that a plugin returns from `tunewright_trainer_provider`."""

    kind = "trainer"

    def provider(self) -> TrainerProvider:
        """Return a provider; see `ProviderTests.provider`."""
        raise NotImplementedError

    def test_container_shapes_a_container(self) -> None:
        """container() is pure, and returns a ContainerSpec that shows no secret."""
        provider = self.provider()
        torchrun = ("torchrun", "--max-restarts=0", "-m", "tunewright_launcher", "train")
        _check_shaping(provider, provider.container, "train", "run", "--", *torchrun)
        assert provider == self.provider(), "container() must not change the provider."

    def test_check_inputs_takes_a_job_whose_inputs_are_elsewhere(self) -> None:
        """check_inputs() accepts None for inputs that are not on the client's machine."""
        self.provider().check_inputs(model=None, dataset=None, eval_dataset=None)

    def test_a_mixture_is_supported_or_refused(self) -> None:
        """check_mixture() accepts a list of datasets that are elsewhere, or refuses it with a remedy."""
        parts = [MixturePart(slot=f"dataset_{n}", name=f"part-{n}", weight=n) for n in (1, 2)]
        refusal: RequestError | None = None
        try:
            self.provider().check_mixture(parts)
        except RequestError as error:
            refusal = error
        assert refusal is None or refusal.remedy, "check_mixture() must say what to write instead of the list."


def _check_shaping(
    provider: Provider, shape: Callable[[ContainerSpec], ContainerSpec], name: str, *command: str
) -> None:
    defaults = _defaults(provider, name, *command)
    shaped = shape(defaults)
    method = f"{shape.__name__}()"
    assert isinstance(shaped, ContainerSpec), f"{method} must return a ContainerSpec, not {type(shaped).__name__}."
    assert shape(defaults) == shaped, f"{method} must return equal containers for equal defaults."
    assert defaults == _defaults(provider, name, *command), f"{method} must not change the defaults: use attrs.evolve."
    shown = repr(shaped)  # a literal secret prints as <redacted>, unless it was taken out of its SecretValue
    assert not [s for s in _literals(provider).values() if s in shown], f"{method} reveals a secret in the container."


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
