"""Classes of the user: Trainer classes and callbacks, loaded by name."""

from __future__ import annotations

import importlib.metadata
import typing

import transformers

from tunewright.errors import RequestError, did_you_mean
from tunewright_hf.config.train_params import TrainParams

_T = typing.TypeVar("_T")

CALLBACKS = "tunewright.hf.callbacks"
"""The entry-point group of callbacks."""


def trainer_class(name: str) -> type[transformers.Trainer]:
    """The Trainer class of a name: one of transformers, or "module:Class".

    Raises:
        RequestError: there is none.
    """
    if ":" in name:
        return _load(importlib.metadata.EntryPoint(name, name, ""), transformers.Trainer, "transformer_class")
    cls = getattr(transformers, name, None) if name.isidentifier() else None
    if not (isinstance(cls, type) and issubclass(cls, transformers.Trainer)):
        names = [n for n in dir(transformers) if n.endswith("Trainer")]
        remedy = did_you_mean(name, names)
        raise RequestError("is no Trainer class of transformers", field="transformer_class", value=name, remedy=remedy)
    return cls


def arguments_class(name: str) -> type[transformers.TrainingArguments]:
    """The arguments that a Trainer class takes: of transformers', by its name; of others, as its constructor says."""
    default: type[transformers.TrainingArguments] = transformers.TrainingArguments
    if ":" not in name:
        return getattr(transformers, f"{name.removesuffix('Trainer')}TrainingArguments", default)
    try:
        hint = typing.get_type_hints(trainer_class(name).__init__).get("args")
    except NameError:  # of something that is imported for type checkers alone
        return default
    found = [c for c in typing.get_args(hint) or (hint,) if isinstance(c, type) and issubclass(c, default)]
    return found[0] if found else default


def build_callbacks(params: TrainParams) -> list[transformers.TrainerCallback]:
    """The callbacks that the user asks for.

    Raises:
        RequestError: one is not installed here, or is no callback.
    """
    patience = params.early_stopping_patience
    built = [] if patience is None else [transformers.EarlyStoppingCallback(early_stopping_patience=patience)]
    return [*built, *(_load_callback(name)() for name in params.callbacks)]


def _load_callback(name: str) -> type[transformers.TrainerCallback]:
    group = importlib.metadata.entry_points(group=CALLBACKS)
    point = (
        importlib.metadata.EntryPoint(name, name, CALLBACKS)
        if ":" in name
        else next((p for p in group if p.name == name), None)
    )
    if point is None:
        remedy = (
            f"{did_you_mean(name, sorted(group.names))} Or install the package that brings it, or write module:Class."
        )
        raise RequestError("is not installed where the training runs", field="callbacks", value=name, remedy=remedy)
    return _load(point, transformers.TrainerCallback, "callbacks")


def _load(point: importlib.metadata.EntryPoint, base: type[_T], field: str) -> type[_T]:
    """The class of an entry point.

    Raises:
        RequestError: it is not there, or not derived from `base`.
    """
    try:
        found = point.load()
    except (ImportError, AttributeError) as error:
        remedy = "Use an image that has it, as a class in a module that can be imported."
        raise RequestError(f"cannot be loaded: {error}", field=field, value=point.name, remedy=remedy) from error
    if not (isinstance(found, type) and issubclass(found, base)):
        remedy = f"Derive it from transformers.{base.__name__}."
        kind = base.__name__.removeprefix("Trainer").lower() or "Trainer class"
        raise RequestError(f"is no {kind}", field=field, value=point.name, remedy=remedy)
    return found
