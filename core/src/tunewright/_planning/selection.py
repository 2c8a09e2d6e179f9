"""Resolve what the user wrote for `model=`, `dataset=` and `trainer=` into a provider and its plugin."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import attrs

from tunewright._planning.web_pages import meant_by_page
from tunewright.environment import kind_of_slot
from tunewright.errors import RequestError, TunewrightError, described, did_you_mean
from tunewright.plugins.kinds import Kind
from tunewright.plugins.registry import Plugin, Registry
from tunewright.providers.base import DatasetProvider, ModelProvider, Provider, SourceProvider, TrainerProvider
from tunewright.providers.outputs import OutputTarget
from tunewright.providers.uris import uri_scheme
from tunewright.request.request import ResolvedProvider

ProviderLike = str | Path | Mapping[str, object] | Provider
"""A URI, a path or a registry name; a dict {"provider": …, …}; or a provider object."""

_WINDOWS = re.compile(r"[A-Za-z]:[\\/]")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")

# The fields of a source that hold a URI: its own, KEP-2003's spellings of it, and the evaluation dataset.
_URIS = {"uri", "model", "dataset", "eval_dataset"}

_S = TypeVar("_S", bound=SourceProvider)
_P = TypeVar("_P", bound=Provider)


def select_model(
    registry: Registry, value: object, base: Path | None, field: str = "model"
) -> ResolvedProvider[ModelProvider]:
    """Resolve `model=` or `adapter=`. Relative paths are relative to the folder `base`, and refused if that is None."""
    return _source(registry, value, field, base, lambda plugin: plugin.provider("model"))


def select_dataset(
    registry: Registry, value: object, base: Path | None, field: str = "dataset"
) -> ResolvedProvider[DatasetProvider]:
    """Resolve `dataset=` or `eval_dataset=`; `base` as in `select_model`."""
    return _source(registry, value, field, base, lambda plugin: plugin.provider("dataset"))


def select_output(registry: Registry, value: object, base: Path | None) -> ResolvedProvider[ModelProvider] | None:
    """Resolve `output=`; None stays None.

    Raises:
        RequestError: it is not writable.
    """
    if value is None:
        return None
    selected = _source(registry, value, "output", base, lambda plugin: plugin.provider("model"))
    provider = selected.provider
    if not isinstance(provider, OutputTarget) and provider.mounted_claim() is None:
        remedy = "Write s3://bucket/prefix, hf://org/name, pvc://claim/folder or file:///folder."
        raise RequestError("is not writable", field="output", value=provider.uri, remedy=remedy)
    return selected


def select_eval_dataset(dataset: ResolvedProvider[DatasetProvider]) -> ResolvedProvider[DatasetProvider] | None:
    """Resolve the `eval_dataset` of a dataset provider: the same provider with another URI."""
    provider = dataset.provider
    if provider.eval_dataset is None:
        return None
    if uri_scheme(provider.eval_dataset) != uri_scheme(provider.uri):
        remedy = "Give it to train() as eval_dataset=, which may have another provider."
        raise RequestError(
            "has a different scheme from the dataset", field="eval_dataset", value=provider.eval_dataset, remedy=remedy
        )
    return ResolvedProvider(
        plugin=dataset.plugin, provider=attrs.evolve(provider, uri=provider.eval_dataset, eval_dataset=None)
    )


def select_trainer(registry: Registry, value: object) -> ResolvedProvider[TrainerProvider]:
    """Resolve `trainer=`."""
    with _argument("trainer"):
        return _trainer(registry, value)


@contextlib.contextmanager
def _argument(name: str) -> Iterator[None]:
    """Make errors say which argument's value they refuse: a field of a class may be one of several arguments."""
    try:
        yield
    except TunewrightError as error:
        error.argument = error.argument or name.partition("[")[0]
        raise


def _trainer(registry: Registry, value: object) -> ResolvedProvider[TrainerProvider]:
    if isinstance(value, str):
        plugin = registry.get(value, kind="trainer")
        return ResolvedProvider(plugin=plugin, provider=build(plugin.provider("trainer"), {}, "trainer"))
    if isinstance(value, Mapping):
        plugin = registry.get(_provider_name(value, "trainer"), kind="trainer")
        parameters = {k: v for k, v in value.items() if k != "provider"}
        return ResolvedProvider(plugin=plugin, provider=build(plugin.provider("trainer"), parameters, "trainer"))
    if isinstance(value, TrainerProvider):
        return ResolvedProvider(plugin=_plugin_of(registry, value, "trainer"), provider=value)
    remedy = 'Give a name such as trainer="hf", a dict {"provider": "hf", …}, or an object such as HuggingFaceTrainParams(…).'
    problem = "is missing" if value is None else "is not a trainer"
    raise RequestError(problem, field="trainer", value=value, remedy=remedy)


def build(cls: Callable[..., _P], parameters: Mapping[str, object], field: str) -> _P:
    """Construct a provider from keywords. The caller's dict is not changed.

    Raises:
        RequestError: a keyword is unknown or missing, or the class refuses a value, by whatever exception.
    """
    try:
        return cls(**parameters)
    except TunewrightError:
        raise
    except TypeError as error:
        raise _wrong_keywords(cls, parameters, field, error) from error
    except Exception as error:  # ValueError, as the validators of attrs raise it, or a fault of the plugin
        problem = f"is refused by {getattr(cls, '__name__', 'its plugin')}: {described(error)}"
        raise RequestError(problem, field=field, remedy="Correct the value that it names.") from error


def _wrong_keywords(
    cls: Callable[..., object], parameters: Mapping[str, object], field: str, error: TypeError
) -> RequestError:
    assert isinstance(cls, type)  # noqa: S101 - providers are classes; for the type checker
    known = [a.alias for a in attrs.fields(cls) if a.alias is not None]
    for name in parameters:
        if name not in known and f"'{name}'" in str(error):
            return RequestError(
                f"is not a field of {cls.__name__}", field=f"{field}.{name}", remedy=did_you_mean(name, known)
            )
    return RequestError(f"{cls.__name__}: {error}", field=field, remedy=f"Its fields are {', '.join(known)}.")


def _source(
    registry: Registry, value: object, field: str, base: Path | None, class_of: Callable[[Plugin], type[_S]]
) -> ResolvedProvider[_S]:
    with _argument(field):
        if isinstance(value, SourceProvider):
            return _given_source(registry, value, field, class_of)
        return _named_source(registry, value, field, base, class_of)


def _named_source(
    registry: Registry, value: object, field: str, base: Path | None, class_of: Callable[[Plugin], type[_S]]
) -> ResolvedProvider[_S]:
    parameters = dict(value) if isinstance(value, Mapping) else {"uri": value}
    name = parameters.pop("provider", None)
    uri = next((parameters[k] for k in ("uri", field, "model", "dataset") if k in parameters), None)
    if not isinstance(uri, str | Path):
        remedy = 'Give a URI such as "hf://org/name", a path such as "./folder", a dict {"provider": …, "uri": …}, or an object.'
        raise RequestError("does not name a source", field=field, value=value, remedy=remedy)
    full = as_uri(uri, base, field)
    if uri_scheme(full) is None or _WINDOWS.match(full):
        raise _no_uri(full, base, field)
    if name is None and (meant := meant_by_page(full)):
        raise RequestError("is a page for browsers", field=field, value=full.partition("?")[0], remedy=f"Write {meant}")
    written = {k: v for k, v in parameters.items() if k in _URIS | {field} and isinstance(v, str | Path)}
    parameters |= {k: as_uri(v, base, field) for k, v in written.items()}
    plugin = registry.get(str(name)) if name is not None else registry.for_uri(full, field)
    return ResolvedProvider(plugin=plugin, provider=build(class_of(plugin), parameters, field))


def _given_source(
    registry: Registry, provider: SourceProvider, field: str, class_of: Callable[[Plugin], type[_S]]
) -> ResolvedProvider[_S]:
    plugin = registry.for_uri(provider.uri, field)
    cls = class_of(plugin)
    if not isinstance(provider, cls):
        problem = f"is a {type(provider).__name__}, but {provider.uri} belongs to {cls.__name__}"
        raise RequestError(problem, field=field, remedy=f"Write {field}={cls.__name__}(uri={provider.uri!r}).")
    return ResolvedProvider(plugin=plugin, provider=provider)


def as_uri(value: str | Path, base: Path | None, field: str) -> str:
    """Turn a path (`./data`, `../data`, `/data`, `~/data`, a Path) into a file:// URI; anything else stays as it is.

    Raises:
        RequestError: it is relative and there is no base, because containers do not see this machine.
    """
    beginnings = ("./", "../", "/", "~/", ".\\", "..\\")
    path = Path(value)
    if isinstance(value, Path) or value.startswith(beginnings) or value in (".", "..") or path.is_absolute():
        if path.is_absolute():
            return path.resolve().as_uri()
        if base is None:
            remedy = 'Upload it, and give its URI: s3://bucket/prefix, hf://org/name, pvc://claim/folder; or use backend="local".'
            raise RequestError(
                "is a path on this machine, which a cluster cannot see", field=field, value=str(value), remedy=remedy
            )
        return (base / path.expanduser()).resolve().as_uri()
    return value


def _no_uri(value: str, base: Path | None, field: str) -> RequestError:
    """Return the error for text that is neither a URI nor marked as a path, with what to write instead of it."""
    if _WINDOWS.match(value):
        remedy = "Write the path as this machine has it: ./folder, or /mnt/c/… in WSL."
        return RequestError("is a path of Windows, and this is another system", field=field, value=value, remedy=remedy)
    problem = "is neither a URI nor marked as a path"
    if base is not None and value and (base / value).exists():
        remedy = f"Write ./{value}: it is in {base}."
    elif _REPOSITORY.fullmatch(value):
        hub = "hf://" if kind_of_slot(field) == "model" else "hf://datasets/"
        remedy = f"Write {hub}{value} if it is on the Hugging Face Hub, or ./{value} if it is a folder."
    else:
        remedy = f"Write ./{value} if it is a file or folder here, or else scheme://…, such as hf://org/name or s3://bucket/prefix."
    return RequestError(problem, field=field, value=value, remedy=remedy)


def _provider_name(value: Mapping[str, object], field: str) -> str:
    name = value.get("provider")
    if not isinstance(name, str):
        raise RequestError("must name a provider", field=f"{field}.provider", remedy='Write {"provider": "hf", …}.')
    return name


def _plugin_of(registry: Registry, provider: Provider, kind: Kind) -> Plugin:
    for plugin in registry.from_module(inspect.getmodule(type(provider)).__name__):  # type: ignore[union-attr]
        if kind in plugin.kinds() and isinstance(provider, plugin.provider(kind)):
            return plugin
    cls = type(provider)
    remedy = f"Use a provider class of an installed plugin. Installed plugins: {', '.join(registry.names())}."
    raise RequestError(
        f"{cls.__module__}.{cls.__name__} does not belong to an installed plugin", field=kind, remedy=remedy
    )
