"""What holds for every kind of provider: its class, its fields, its secrets, and what is sent to the container."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest

from tunewright.errors import RequestError
from tunewright.plan.plan import ContainerSpec, Mount
from tunewright.plan.secrets import SecretRef, is_called_a_secret
from tunewright.plan.valid import container_problem
from tunewright.plugins.kinds import Kind
from tunewright.plugins.registry import Plugin, Registry
from tunewright.providers import wire
from tunewright.providers.base import DatasetProvider, ModelProvider, Provider, TrainerProvider
from tunewright.providers.fields import secret_env, secret_fields
from tunewright.testing._pod import Pod, ask_elsewhere, document_of, literals

HEAVY_MODULES = (
    "accelerate", "azure", "boto3", "botocore", "datasets", "git", "google", "huggingface_hub", "kaggle", "kubernetes", "numpy", "pandas",
    "peft", "pyarrow", "tokenizers", "torch", "transformers", "tunewright_launcher",
)  # fmt: skip
"""Modules that a plugin must not import before its container half runs."""

_BASES = {"model": ModelProvider, "dataset": DatasetProvider, "trainer": TrainerProvider}
_OF_A_PART = ("name", "weight", "repeat", "data")  # keys of a dataset in a list


class PluginTests:
    """What the tests of every kind of plugin have in common. Derive from one of the subclasses instead.

    Class attributes:
        name: registry name of the plugin, which is the name of its entry point.
        heavy_modules: modules that must not be imported together with the plugin. Add the libraries that your plugin uses
            in the container.
        time_limit: seconds after which a step of the container half is killed, and its test fails.
        tested_elsewhere: where the container half is tested, if it is not in this class; its tests are then skipped.
    """

    name: ClassVar[str]
    heavy_modules: ClassVar[tuple[str, ...]] = HEAVY_MODULES
    time_limit: ClassVar[float] = 60
    tested_elsewhere: ClassVar[str] = ""

    @pytest.fixture
    def plugin(self) -> Plugin:
        """Load the plugin as a user's request does."""
        return Registry().get(self.name)

    @pytest.fixture
    def pod(self, tmp_path: Path) -> Pod:
        """Return the folders that the container half runs in."""
        return Pod(folder=tmp_path / "pod", limit=self.time_limit)

    def check_import(self, kind: Kind | None) -> None:
        """Fail the test if loading the plugin, and its class of this kind, imports heavy libraries."""
        heavy = [*self.heavy_modules]
        imported = ask_elsewhere(
            "imports", limit=self.time_limit, another_day=False, name=self.name, kind=kind, heavy=heavy
        )
        assert not imported, f"Loading {self.name!r} imports {imported}: import them inside the methods that use them."

    def need_container(self) -> None:
        """Skip the test if the container half is tested elsewhere."""
        if self.tested_elsewhere:
            pytest.skip(f"the container half is tested in {self.tested_elsewhere}")


class ProviderTests(PluginTests):
    """Tests for every kind of provider. Derive from one of the subclasses instead.

    Class attributes:
        kind: kind of the provider, set by the subclasses.
        not_secret: fields that are called like a secret, such as `token_type`, and are none.
    """

    kind: ClassVar[Kind]
    not_secret: ClassVar[Collection[str]] = ()

    def provider(self) -> Provider:
        """Return a provider as a user would create it, with literals in its secret fields.

        The tests call this method several times. It must return equal providers.
        """
        raise NotImplementedError

    def test_the_registry_finds_the_class_under_the_name(self, plugin: Plugin) -> None:
        """The plugin's hook returns the class of the provider."""
        assert plugin.provider(self.kind) is type(self.provider()), (
            f"The {self.kind} hook of plugin {self.name!r} returns a different class from that of provider()."
        )

    def test_import_is_light(self) -> None:
        """The plugin can be loaded without the libraries of the container, which a client need not have."""
        self.check_import(self.kind)

    def test_providers_are_frozen_values(self) -> None:
        """Equal arguments give equal providers, and no field of a provider can be changed."""
        provider = self.provider()
        assert provider == self.provider(), "Two providers with the same arguments are not equal."
        for field in attrs.fields(type(provider)):
            with pytest.raises(attrs.exceptions.FrozenInstanceError):
                setattr(provider, field.name, None)

    def test_fields_are_the_providers_own(self) -> None:
        """No field has a name that means something else, and no two providers share a value that can be changed."""
        own = _fields(type(self.provider()))
        reserved = {"provider", *(_OF_A_PART if self.kind == "dataset" else ())} & own.keys()
        assert not reserved, f"Rename the fields {sorted(reserved)}: in a job, these keys mean something else."
        inherited = _fields(_BASES[self.kind])
        changed = [name for name, field in inherited.items() if own[name].type != field.type]
        assert not changed, (
            f"Rename the fields {changed}: the base class has them with another type, and Tunewright reads them."
        )
        shared = [name for name, field in own.items() if isinstance(field.default, list | dict | set)]
        assert not shared, f"All providers share the default of {shared}: write attrs.field(factory=…)."

    def test_literal_secrets_are_given(self) -> None:
        """provider() has a literal in a secret field; without one, the tests of secrets would test nothing."""
        provider = self.provider()
        if secret_fields(type(provider)):
            assert literals(provider), "provider() has no literal secret: pass one, so that the tests can follow it."

    def test_secrets_are_declared_as_such(self) -> None:
        """A field that is called like a secret is declared with secret(); a plain field would be shown and sent."""
        plain = {a.name for a in attrs.fields(type(self.provider()))} - {*secret_fields(type(self.provider()))}
        found = [name for name in sorted(plain - {*self.not_secret}) if is_called_a_secret(name, "a-long-value")]
        assert not found, f"Declare {found} with secret(env=…), or list them in `not_secret`: they are shown and sent."

    def test_secrets_show_nowhere(self, plugin: Plugin) -> None:
        """Secrets appear neither in the repr, which logs and notebooks show, nor in the wire document."""
        provider = self.provider()
        for secret in literals(provider).values():
            for text in (
                repr(provider),
                str(provider),
                f"{provider}",
                document_of(self.kind, plugin, provider).dumps(),
            ):
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
        document = wire.WireDocument.loads(document_of(self.kind, plugin, provider).dumps())
        unsent = {a.name: a.default for a in attrs.fields(type(provider)) if wire.CLIENT_ONLY in a.metadata}
        expected = attrs.evolve(provider, **unsent) if unsent else provider  # evolve() would run converters again
        assert type(provider).load_config(document.params, literals(provider)) == expected

    def test_equal_providers_give_equal_bytes(self, plugin: Plugin) -> None:
        """Equal providers have equal wire documents, by whose digest jobs with the same inputs share a download."""
        first, second = (document_of(self.kind, plugin, self.provider()) for _ in range(2))
        assert first.dumps() == second.dumps()

    def test_fields_are_the_same_on_another_machine_and_day(self, plugin: Plugin) -> None:
        """The container, another process on another machine on another day, gets the values that the client has."""
        provider = self.provider()
        here, params = wire.field_values(provider, self.kind), document_of(self.kind, plugin, provider).params
        there = ask_elsewhere(
            "values", limit=self.time_limit, name=self.name, kind=self.kind, params=params, secrets=literals(provider)
        )
        changed = {name: [value, there.get(name)] for name, value in here.items() if value != there.get(name)}
        assert not changed, f"These fields depend on the process, the machine or the day: {changed}."

    def test_an_unknown_field_on_the_wire_is_refused(self) -> None:
        """The container refuses a field that it does not know, such as one of a newer version of the plugin."""
        with pytest.raises(RequestError, match="no_such_field"):
            type(self.provider()).load_config({"no_such_field": 1}, {})


def _fields(cls: type) -> dict[str, attrs.Attribute[Any]]:
    """Return the fields of a class, with their types in place of the types' names."""
    return attrs.fields_dict(attrs.resolve_types(cls))


def check_shaping(
    provider: Provider, shape: Callable[[ContainerSpec], ContainerSpec], name: str, *command: str
) -> None:
    """Fail the test unless a method shapes containers as it should: pure, without secrets, and with all that it was given."""
    defaults = defaults_of(provider, name, *command)
    shaped = shape(defaults)
    method = f"{shape.__name__}()"
    assert isinstance(shaped, ContainerSpec), f"{method} must return a ContainerSpec, not {type(shaped).__name__}."
    assert shape(defaults) == shaped, f"{method} must return equal containers for equal defaults."
    assert defaults == defaults_of(provider, name, *command), (
        f"{method} must not change the defaults: use attrs.evolve."
    )
    shown = repr(shaped)  # a literal secret prints as <redacted>, unless it was taken out of its SecretValue
    assert not [s for s in literals(provider).values() if s in shown], f"{method} reveals a secret in the container."
    problem = container_problem(shaped)
    assert not problem, f"{method} returns a container that no cluster accepts: {problem}."
    lost = [*(defaults.env.items() - shaped.env.items()), *({*defaults.mounts} - {*shaped.mounts})]
    assert not lost, (
        f"{method} drops {lost} of the defaults: add to them with attrs.evolve(defaults, env={{**defaults.env, …}})."
    )
    assert shaped.command, f"{method} drops the command of the defaults."
    assert shaped.name == defaults.name, f"{method} must not rename the container, which events and verdicts name."


def defaults_of(provider: Provider, name: str, *command: str) -> ContainerSpec:
    """Return a complete container, like those that core hands over."""
    return ContainerSpec(
        name=name,
        image=provider.image or "registry.example/image:1",
        command=("python", "-m", "tunewright_launcher", *command),
        env={"PLAIN": "value", **secret_env(provider)},
        mounts=(Mount(volume="inputs", path="/workspace"),),
    )
