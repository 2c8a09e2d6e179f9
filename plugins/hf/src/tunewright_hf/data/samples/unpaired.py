"""Unpaired preferences: rows with one answer and whether it is wanted, for Trainer classes such as TRL's KTOTrainer."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tunewright.errors import RequestError
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.data.rows.columns import messages_of

_PARTS = ("prompt", "completion")


def is_unpaired(columns: Collection[str], data: DataParams) -> bool:
    """Return whether the columns hold one answer and its label, and not two answers."""
    both = data.chosen_column in columns and data.rejected_column in columns
    return not both and data.completion_column in columns and data.label_column in columns


def unpaired_columns(data: DataParams) -> dict[str, str]:
    """Return the columns, by the names that Trainer classes have for them."""
    return {"prompt": data.prompt_column, "completion": data.completion_column, "label": data.label_column}


def labelled(row: Mapping[str, object], roles: Mapping[str, str] | None = None) -> dict[str, object] | None:
    """Return a row of `prompt`, `completion` and `label` as it is trained on; None if it lacks a text.

    Args:
        row: the row.
        roles: what the data's own role names stand for.

    Raises:
        RequestError: the label is neither true nor false, or the columns hold different things.
    """
    label, parts = row.get("label"), {name: row.get(name) for name in _PARTS}
    if not isinstance(label, bool) and label not in (0, 1):
        problem = f"has the label {label!r}, which is neither true nor false"
        raise RequestError(problem, field="dataset", remedy="Write true for an answer that is wanted, or else false.")
    found = {"label": bool(label)}
    if any(not value for value in parts.values()):
        return None
    kinds = {type(value) for value in parts.values()}
    if kinds == {list}:
        return {**{name: messages_of(parts, name, roles) for name in parts}, **found}
    if kinds != {str}:
        shown = ", ".join(f"{name} a {type(value).__name__}" for name, value in parts.items())
        problem = f"has a row where the columns hold different things: {shown}"
        remedy = "Make prompt and completion both texts, or both lists of messages."
        raise RequestError(problem, field="dataset", remedy=remedy)
    return {**parts, **found} if all(str(value).strip() for value in parts.values()) else None
