"""Which part of a dataset its provider names, and what that means for the trainer. Nothing heavy is imported here."""

from __future__ import annotations

import re

import attrs

from tunewright.errors import RequestError
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.config.slices import parse_split

_NAME = re.compile(r"\w[\w.-]*")


@attrs.frozen(kw_only=True)
class DatasetPart:
    """The part of a dataset that its provider names.

    Attributes:
        config: the configuration; None if none is named.
        split: the name of the split; None if none is named.
        rows: the rows of the split, such as "[:3000]"; None for all.
    """

    config: str | None = None
    split: str | None = None
    rows: str | None = None

    @property
    def written(self) -> str | None:
        """The split and its rows as the user may write them: "train[:3000]"."""
        return None if self.split is None else f"{self.split}{self.rows or ''}"


def split_and_rows(text: str, field: str) -> tuple[str, str | None]:
    """Return the name of a split, and the slice behind it as it is written; None without one.

    Raises:
        RequestError: the text is not a split or a slice of one.
    """
    name, bracket, rows = text.partition("[")
    if _NAME.fullmatch(name.strip()):
        parse_split(text, field)
        return name.strip(), f"{bracket}{rows}" or None
    remedy = "Give the name of one split, or a slice of it: train, train[:3000], train[10%:]."
    raise RequestError("is not the name of a split", field=field, value=text, remedy=remedy)


def with_part(data: DataParams, part: DatasetPart, *, has_eval_dataset: bool) -> DataParams:
    """Return how a dataset is read of which its provider fetches a part.

    Args:
        data: how it is read, as the user told the trainer.
        part: the part that is fetched.
        has_eval_dataset: whether there is another dataset to evaluate on.

    Raises:
        RequestError: both name something, and something else.
    """
    config = _agreed(data.config, part.config, "config")
    if part.split is None or part.written is None:
        return attrs.evolve(data, config=config)
    train = part.written
    if data.train_split != attrs.fields(DataParams).train_split.default:
        train = _agreed_split(data.train_split, part, "train_split")
    if data.eval_part and not has_eval_dataset and data.eval_part[0] != part.split:
        problem = f"is not fetched: the dataset's provider fetches the split {part.split!r} only"
        remedy = f"Leave split out there, and write trainer.data.train_split: {train}."
        raise RequestError(problem, field="DataParams.eval_split", value=data.eval_split, remedy=remedy)
    return attrs.evolve(data, config=config, train_split=train)


def with_eval_part(data: DataParams, part: DatasetPart) -> DataParams:
    """Return how a dataset is read if a part of another dataset is fetched to evaluate on; raises as `with_part`."""
    if part.written is None:
        return data
    if data.eval_split is None:
        return attrs.evolve(data, eval_split=part.written)
    return attrs.evolve(data, eval_split=_agreed_split(data.eval_split, part, "eval_split"))


def _agreed(ours: str | None, theirs: str | None, name: str) -> str | None:
    if ours is not None and theirs is not None and ours != theirs:
        remedy = f"Give it once, to the dataset's provider: {theirs}."
        problem = f"differs from the dataset provider's, {theirs!r}"
        raise RequestError(problem, field=f"DataParams.{name}", value=ours, remedy=remedy)
    return theirs if ours is None else ours


def _agreed_split(ours: str, part: DatasetPart, name: str) -> str:
    """Return the split that the trainer names, if it is that of the provider, and only one of both names rows of it."""
    split, rows = parse_split(ours, f"DataParams.{name}")
    if split != part.split or (rows is not None and part.rows is not None):
        return str(_agreed(ours, part.written, name))
    return ours if rows is not None else str(part.written)
