"""What `help()` shows of the classes of transformers and peft: types, defaults and meanings, without the libraries.

`python -m tunewright_hf.config.library_help` reads defaults and meanings from the installed libraries and writes `help.json`;
types and names are those of `fields.json`. The texts are the libraries' own (Apache-2.0).
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import operator
import re
import typing
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import cast

from tunewright.events import Json
from tunewright.providers import Argument
from tunewright_hf.config.library_fields import known_fields

FILE = "help.json"

_LINK = re.compile(r"</?a\b[^>]*>")

_PYTHON = {"bool": bool, "int": int, "float": float, "str": str, "list": list, "dict": dict, "None": None}


def arguments(schema: str) -> Iterator[Argument]:
    """Return the fields of "TrainingArguments", "LoraConfig" or "BitsAndBytesConfig".

    A default that JSON cannot represent is shown as None.
    """
    recorded = json.loads(files(__package__).joinpath(FILE).read_text(encoding="utf-8"))[schema]
    for name, kind in known_fields(schema).items():
        yield Argument(name=name, type=kind, annotation=annotation(kind), **recorded[name])


def annotation(kind: str) -> object:
    """Return the type for alternatives as `fields.json` has them: `"'no' | 'steps' | None"` → `Literal["no", "steps"] | None`."""
    alternatives = kind.split(" | ")
    choices = tuple(a.strip("'") for a in alternatives if a.startswith("'"))
    plain = [_PYTHON[a] for a in alternatives if not a.startswith("'")]
    found: list[object] = [*([typing.Literal[choices]] if choices else []), *plain]
    return functools.reduce(operator.or_, found)


def read_installed() -> dict[str, dict[str, dict[str, Json]]]:
    """Return what `help.json` should hold, from the installed libraries: class → field → default and meaning."""
    import peft
    import transformers

    classes: list[type] = [transformers.TrainingArguments, peft.LoraConfig]
    found = {cls.__name__: {f.name: _of_field(f) for f in dataclasses.fields(cls) if f.init} for cls in classes}
    quantization = inspect.signature(transformers.BitsAndBytesConfig).parameters
    named = [p for p in quantization.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    return {**found, "BitsAndBytesConfig": {p.name: {"default": _as_json(p.default)} for p in named}}


def _of_field(field: dataclasses.Field[object]) -> dict[str, Json]:
    made = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    meaning = _LINK.sub("", str(field.metadata.get("help") or ""))
    return {"default": _as_json(made), "meaning": " ".join(meaning.split())}


def _as_json(value: object) -> Json:
    value = getattr(value, "value", value)  # of an enumeration
    plain = value is None or isinstance(value, bool | int | float | str | list | dict)
    return cast("Json", value) if plain else None


def main() -> None:
    """Write `help.json` beside this module."""
    text = json.dumps(read_installed(), indent=1, sort_keys=True, allow_nan=False)
    Path(__file__).with_name(FILE).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
