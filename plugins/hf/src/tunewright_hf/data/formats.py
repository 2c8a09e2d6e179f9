"""The format of a dataset: which columns hold what."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from tunewright.errors import RequestError
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.data.files import _empty, _peek, evaluation_split, training_split


def check_dataset(folder: Path, data: DataParams, field: str) -> str | None:
    """Raise RequestError if a slot's dataset is empty, or lacks the columns that `data` names.

    Args:
        folder: the folder or file.
        data: the columns and splits.
        field: the slot, "dataset" or "eval_dataset".

    Returns:
        The format, resolved; None where that cannot be known here.
    """
    split = evaluation_split(folder, data) if field == "eval_dataset" else training_split(folder, data)
    columns, has_rows = _peek(split, field)
    if has_rows is False:
        raise _empty(folder, field)
    return None if columns is None else resolve_format(columns, data, field)


def resolve_format(columns: Iterable[str], data: DataParams, field: str = "dataset") -> str:
    """The format of a dataset with these columns: the one asked for, or for "auto" the first that they allow.

    Raises:
        RequestError: a column is missing; the message lists those that there are.
    """
    have = list(columns)
    needs = {
        "chat": _parts(data) or (data.messages_column,),
        "prompt_completion": (*data.columns("prompt"), *data.columns("completion")),
        "text": data.columns("text"),
        "classification": (*data.columns("text"), data.label_column),
        "preference": (
            *(data.columns("prompt") if data.prompt_template else ()),
            data.chosen_column,
            data.rejected_column,
        ),
    }
    wanted = _wanted(data)
    for name in wanted:
        if all(column in have for column in needs[name]):
            return name
    missing = [[c for c in needs[name] if c not in have] for name in wanted]
    shown = " or ".join(" and ".join(map(repr, columns)) for columns in missing)
    close = {c: near for columns in missing for c in columns for near in get_close_matches(c, have, n=1)}
    meant = "".join(f"Did you mean {near!r} by {column!r}? " for column, near in close.items())
    remedy = f"{meant}Its columns are: {', '.join(have) or 'none'}. Name yours in DataParams, as text_column, prompt_column, …"
    raise RequestError(f"has no column {shown}", field=field, remedy=remedy)


def _wanted(data: DataParams) -> list[str]:
    """The formats to try, in order."""
    if data.format != "auto":
        return [data.format]
    templated = {f"{name}_template" for name in ("text", "prompt", "completion") if data.templates(name)}
    if "text_template" in templated:
        return ["text"]
    return ["prompt_completion"] if templated else ["chat", "prompt_completion", "text", "preference"]


def _parts(data: DataParams) -> tuple[str, ...]:
    """The columns of a chat's two messages, where templates write them."""
    written = data.templates("prompt") or data.templates("completion")
    return (*data.columns("prompt"), *data.columns("completion")) if written else ()
