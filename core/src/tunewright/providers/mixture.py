"""Mixtures: several datasets in one training, each with its share."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import attrs

from tunewright._canonical import dumps
from tunewright._convert import to_dict
from tunewright.errors import RequestError
from tunewright.events import Json
from tunewright.providers.fields import check_flag

MIXTURE: Final = "mixture"
"""Name of the configuration file, without its ending, that lists a job's mixture."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def _check_name(_: object, __: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        remedy = "Write letters, digits, '_', '.' and '-', beginning with a letter or digit."
        raise RequestError("is not a name", field="name", value=value, remedy=remedy)


def _check_weight(_: object, __: attrs.Attribute[float | None], value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        remedy = "Give a positive number, such as 2 or 0.5; leave the dataset out of the list for none of it."
        raise RequestError("is not a weight", field="weight", value=value, remedy=remedy)


def _check_data(_: object, __: attrs.Attribute[Mapping[str, Json]], value: object) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        remedy = "Write the trainer's options for this dataset, such as data: {format: text}."
        raise RequestError("is not a mapping", field="data", value=value, remedy=remedy)
    try:
        dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        remedy = "Use only strings, numbers, booleans, None, and lists and dicts of them."
        raise RequestError(f"is not JSON-serializable: {error}", field="data", remedy=remedy) from error


def _to_data(value: object) -> object:
    return to_dict(value) if isinstance(value, Mapping) else value


@attrs.frozen(kw_only=True)
class MixturePart:
    """One dataset of a mixture.

    Attributes:
        slot: the input with its files: "dataset_1", …; parts that read the same files have the same one.
        name: its name in events, reports and messages.
        weight: its share, relative to the weights of the other parts. Either all parts have one or none has; without
            weights the shares are proportional to the sizes.
        repeat: whether it is read again within an epoch when it is used up, so that its share stays the same. If not, it
            is read once, and then the shares of the others grow.
        data: options of the trainer for its rows; they take precedence over the trainer's own.
        folder: read-only folder of its files; None if they are not on this machine.
    """

    slot: str
    name: str = attrs.field(validator=_check_name)
    weight: float | None = attrs.field(default=None, validator=_check_weight)
    repeat: bool = attrs.field(default=True, validator=check_flag)
    data: Mapping[str, Json] = attrs.field(factory=dict, converter=_to_data, validator=_check_data, hash=False)
    folder: Path | None = None


def dump_mixture(parts: Iterable[MixturePart]) -> str:
    """Return a mixture as canonical JSON, for the container. Folders are left out."""
    return dumps([attrs.asdict(part, filter=lambda field, _: field.name != "folder") for part in parts])


def load_mixture(text: str) -> tuple[MixturePart, ...]:
    """Return the mixture that `dump_mixture` wrote.

    Raises:
        ValueError, TypeError: the text is something else.
    """
    return tuple(MixturePart(**fields) for fields in json.loads(text))
