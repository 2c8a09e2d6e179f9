"""Trainer classes and callbacks that the user names: load and check them."""

from __future__ import annotations

import importlib.metadata
import typing

import transformers

from tunewright.errors import RequestError, did_you_mean
from tunewright_hf.config.train_params import TrainParams

_T = typing.TypeVar("_T")

CALLBACKS = "tunewright.hf.callbacks"
"""Entry-point group of callbacks."""


def trainer_class(name: str) -> type[transformers.Trainer]:
    """Return the Trainer class with a name: one of transformers', or "module:Class".

    Raises:
        RequestError: there is no such class.
    """
    if ":" in name:
        return _load(importlib.metadata.EntryPoint(name, name, ""), transformers.Trainer, "transformer_class")
    cls = getattr(transformers, name, None) if name.isidentifier() else None
    if not (isinstance(cls, type) and issubclass(cls, transformers.Trainer)):
        names = [n for n in dir(transformers) if n.endswith("Trainer")]
        remedy = did_you_mean(name, names)
        problem = "is not a Trainer class of transformers"
        raise RequestError(problem, field="transformer_class", value=name, remedy=remedy)
    return cls


def uses_models_loss(cls: type[transformers.Trainer]) -> bool:
    """Return whether a Trainer class takes the loss that the model computes."""
    return bool(cls.compute_loss is transformers.Trainer.compute_loss)


def arguments_class(name: str) -> type[transformers.TrainingArguments]:
    """Return the class of a Trainer's arguments: by name for those of transformers, else by the constructor's annotation."""
    default: type[transformers.TrainingArguments] = transformers.TrainingArguments
    if ":" not in name:
        return getattr(transformers, f"{name.removesuffix('Trainer')}TrainingArguments", default)
    try:
        hint = typing.get_type_hints(trainer_class(name).__init__).get("args")
    except NameError:  # a name that is only imported for type checkers
        return default
    found = [c for c in typing.get_args(hint) or (hint,) if isinstance(c, type) and issubclass(c, default)]
    return found[0] if found else default


def build_callbacks(params: TrainParams) -> list[transformers.TrainerCallback]:
    """Return the callbacks that the user configured.

    Raises:
        RequestError: one is not installed here, or is not a callback.
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
            f"{did_you_mean(name, sorted(group.names))} Or install the package that provides it, or write module:Class."
        )
        raise RequestError("is not installed where the training runs", field="callbacks", value=name, remedy=remedy)
    return _load(point, transformers.TrainerCallback, "callbacks")


def _load(point: importlib.metadata.EntryPoint, base: type[_T], field: str) -> type[_T]:
    """Return the class of an entry point.

    Raises:
        RequestError: it does not exist, or is not a subclass of `base`.
    """
    try:
        found = point.load()
    except (ImportError, AttributeError) as error:
        remedy = "Use an image that contains it, as a class in an importable module."
        raise RequestError(f"cannot be loaded: {error}", field=field, value=point.name, remedy=remedy) from error
    if not (isinstance(found, type) and issubclass(found, base)):
        remedy = f"Derive it from transformers.{base.__name__}."
        kind = base.__name__.removeprefix("Trainer").lower() or "Trainer class"
        raise RequestError(f"is not a {kind}", field=field, value=point.name, remedy=remedy)
    return found
