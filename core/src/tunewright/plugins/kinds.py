"""The classes that hooks return: of which kind each is, and what is wrong with one."""

from __future__ import annotations

import reprlib
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Literal

import attrs

from tunewright.providers.base import DatasetProvider, ModelProvider, Provider, TrainerProvider
from tunewright.providers.fields import secret_fields

Kind = Literal["model", "dataset", "trainer", "backend"]

HOOKS: dict[Kind, str] = {
    "model": "tunewright_model_provider",
    "dataset": "tunewright_dataset_provider",
    "trainer": "tunewright_trainer_provider",
    "backend": "tunewright_backend",
}


def class_problem(kind: Kind, cls: object) -> str | None:
    """Return how a hook's result violates the contract, as a clause, or None if it is valid."""
    base = _base(kind)
    if not isinstance(cls, type) or not issubclass(cls, base):
        return f"its hook {HOOKS[kind]} returned {_shown(cls)}, which is not a subclass of {base.__name__}"
    if missing := getattr(cls, "__abstractmethods__", None):
        return f"its class {cls.__name__} does not implement {', '.join(sorted(missing))}"
    for part in cls.__mro__:
        if issubclass(part, Provider) and _has_lost_fields(part):
            return f"its class {part.__name__} has fields but no @attrs.frozen(kw_only=True) decorator"
    return _shared_variable(cls) if issubclass(cls, Provider) else None


def _shared_variable(cls: type[Provider]) -> str | None:
    variables = secret_fields(cls)
    for variable, count in Counter(variables.values()).items():
        if count > 1:  # one of the values would get lost on its way to the container
            names = " and ".join(name for name, other in variables.items() if other == variable)
            return f"its class {cls.__name__} has the secret fields {names}, which share the variable {variable}"
    return None


def _base(kind: Kind) -> type:
    if kind == "backend":
        from tunewright.backends.base import Backend

        return Backend
    return {"model": ModelProvider, "dataset": DatasetProvider, "trainer": TrainerProvider}[kind]


def _has_lost_fields(cls: type) -> bool:
    """Return whether a class body declares fields that attrs never collected, as its decorator is missing."""
    own = vars(cls)
    annotated = any("ClassVar" not in str(annotation) for annotation in _own_annotations(cls).values())
    field = type(attrs.field())
    return "__attrs_attrs__" not in own and (annotated or any(isinstance(value, field) for value in own.values()))


def _own_annotations(cls: type) -> Mapping[str, object]:
    if sys.version_info >= (3, 14):  # annotations are lazy there; as strings, they need no names to be defined
        import annotationlib

        return annotationlib.get_annotations(cls, format=annotationlib.Format.STRING)
    annotations: Mapping[str, object] = vars(cls).get("__annotations__", {})
    return annotations


def _shown(value: object) -> str:
    return value.__name__ if isinstance(value, type) else reprlib.repr(value)
