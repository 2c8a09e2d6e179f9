"""Names and types of the fields of classes in transformers and PEFT, available without these libraries.

`python -m tunewright_hf.config.library_fields` reads them from the installed libraries and writes `fields.json`. A type is
a list of alternatives, `"float | None"`; the values of an enumeration are quoted, `"'no' | 'steps' | 'epoch'"`.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import json
import types
import typing
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

FILE = "fields.json"

# Annotations that are narrower than what the library documents and accepts.
_WIDER = {"TrainingArguments": {"fsdp": "bool | str | None"}}

# Types of parameters without annotation whose default does not tell the type.
_UNTYPED = {
    "bnb_4bit_compute_dtype": "str | None",
    "bnb_4bit_quant_storage": "str | None",
    "bnb_4bit_quant_type": "'fp4' | 'nf4'",
    "llm_int8_skip_modules": "list | None",
}


@functools.cache
def known_fields(schema: str) -> Mapping[str, str]:
    """Return field name → type for "TrainingArguments", "LoraConfig" or "BitsAndBytesConfig"."""
    return types.MappingProxyType(_document()[schema]["fields"])


def library(schema: str) -> str:
    """Return the library and version that a schema was read from: "transformers 5.24.0"."""
    return str(_document()[schema]["library"])


@functools.cache
def _document() -> dict[str, typing.Any]:
    return dict(json.loads(files(__package__).joinpath(FILE).read_text(encoding="utf-8")))


def read_installed() -> dict[str, object]:
    """Return what `fields.json` should contain, from the installed libraries."""
    import peft
    import transformers

    of_transformers = f"transformers {transformers.__version__}"
    found = {
        (of_transformers, transformers.TrainingArguments): describe_class(transformers.TrainingArguments),
        (f"peft {peft.__version__}", peft.LoraConfig): describe_class(peft.LoraConfig),
        (of_transformers, transformers.BitsAndBytesConfig): describe_constructor(transformers.BitsAndBytesConfig),
    }
    return {cls.__name__: {"library": library, "fields": types} for (library, cls), types in found.items()}


def describe_constructor(cls: type) -> dict[str, str]:
    """Return field name → type by the defaults, for a class whose constructor has no annotations."""
    parameters = inspect.signature(cls).parameters.values()
    named = [p for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
    return {p.name: _UNTYPED.get(p.name) or type(p.default).__name__ for p in named}


def describe_class(cls: type) -> dict[str, str]:
    """Return field name → type for the parameters of a dataclass's constructor."""
    hints = typing.get_type_hints(cls)
    wider = _WIDER.get(cls.__name__, {})
    fields = [f.name for f in dataclasses.fields(cls) if f.init]
    return {name: wider.get(name) or describe_type(hints[name]) for name in fields}


def describe_type(annotation: object) -> str:
    """Return a type as alternatives; an enumeration is listed by its values although other strings are accepted by type."""
    alternatives = list(dict.fromkeys(_alternatives(annotation)))
    if any(a.startswith("'") for a in alternatives):
        alternatives = [a for a in alternatives if a != "str"]
    # Sorted: typing keeps one object for `str | list` and `list | str`, in the order that the process saw first.
    return " | ".join(sorted(alternatives, key=lambda a: (a == "None", "" if a.startswith("'") else a)))


def _alternatives(annotation: object) -> Iterator[str]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        for argument in arguments:
            yield from _alternatives(argument)
    elif origin is typing.Literal:
        yield from _literals(arguments)
    elif annotation in (None, type(None)):
        yield "None"
    elif isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        yield from (f"'{member.value}'" for member in annotation)
    else:
        yield _json_type(origin or annotation)


def _literals(values: tuple[object, ...]) -> Iterator[str]:
    strings = [v for v in values if isinstance(v, str)]
    yield from (type(v).__name__ for v in values if not isinstance(v, str))
    # peft writes "pissa_niter_[number of iters]" for a family of values.
    yield from ["str"] if any("[" in s for s in strings) else [f"'{s}'" for s in strings]


def _json_type(annotation: object) -> str:
    names = {bool: "bool", int: "int", float: "float", str: "str", list: "list", tuple: "list", set: "list"}
    if isinstance(annotation, type) and annotation in names:
        return names[annotation]
    return "dict"  # a dict, or a dataclass, which the container builds from one


def main() -> None:
    """Write `fields.json` beside this module."""
    text = json.dumps(read_installed(), indent=1, sort_keys=True)
    Path(__file__).with_name(FILE).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
