"""What a mixture's datasets may say about their rows, and what belongs to the whole job. Nothing heavy is imported here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import attrs

from tunewright.errors import RequestError
from tunewright.providers import DatasetProvider, MixturePart
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.config.dataset_part import DatasetPart, with_part
from tunewright_hf.config.tasks import CLASSIFICATION
from tunewright_hf.config.train_params import TrainParams

OF_THE_JOB = ("max_length", "packing", "streaming", "shuffle_buffer", "mix_by", "chat_template", "eos_token")
"""The fields of DataParams that are the same for all datasets of a mixture."""

_WRITTEN_TWO_WAYS = ("text", "prompt", "completion")  # as a column or as a template


def part_params(part: MixturePart, job: DataParams) -> DataParams:
    """Return how the rows of one dataset are read: by its own options, and else by those of `trainer.data`.

    Raises:
        RequestError: an option is not known, contradicts another one, or belongs to the whole job.
    """
    for name in OF_THE_JOB:
        if name in part.data:
            problem, remedy = "is the same for all datasets of a job", f"Give it once: trainer.data.{name}."
            raise RequestError(problem, field=f"DataParams.{name}", value=part.data[name], remedy=remedy)
    own = DataParams.of(part.data)
    said = {**{name: getattr(own, name) for name in part.data if name != "columns"}, **own.given()}
    given = dict(job.given())
    for role in _WRITTEN_TWO_WAYS:
        names = (f"{role}_column", f"{role}_template")
        if any(name in said for name in names):
            given = {name: value for name, value in given.items() if name not in names}
    return DataParams(**{**given, **said})


def with_provider_part(part: MixturePart, dataset: DatasetProvider, job: DataParams) -> MixturePart:
    """Return a part with the options that follow from the configuration, split and rows that its provider names.

    Raises:
        RequestError: both name something, and something else.
    """
    theirs = getattr(dataset, "part", None)
    if not isinstance(theirs, DatasetPart):
        return part
    with _options():
        before = part_params(part, job)
        found = with_part(before, theirs, has_eval_dataset=False)
    names = ("config", "train_split")
    changed = {name: getattr(found, name) for name in names if getattr(found, name) != getattr(before, name)}
    return attrs.evolve(part, data={**part.data, **changed})


def given_by(part: MixturePart) -> Mapping[str, object]:
    """Return the options of a part that are its own, and differ from the defaults."""
    return DataParams.of(part.data).given()


@contextlib.contextmanager
def _options(prefix: str = "") -> Iterator[None]:
    """Make errors about DataParams name the item's own options."""
    try:
        yield
    except RequestError as error:
        raise error.renamed(f"{prefix}data.{error.field.removeprefix('DataParams.')}") from error


def named(parts: Sequence[MixturePart], job: DataParams) -> Mapping[str, DataParams]:
    """Return how the rows of each dataset are read, by its name. Raises as `part_params`."""
    found = {}
    for number, part in enumerate(parts):
        with _options(f"dataset[{number}]."):
            found[part.name] = part_params(part, job)
    return found


def check_parts(parts: Sequence[MixturePart], params: TrainParams) -> Mapping[str, DataParams]:
    """Refuse a mixture that cannot be trained on, by what is known without its files.

    Returns:
        How the rows of each dataset are read, by its name.

    Raises:
        RequestError: naming the field and the remedy.
    """
    if params.task is CLASSIFICATION:
        remedy = "Put the rows into one dataset, or repeat some of them there."
        raise RequestError("is a list of datasets, but classifiers train on one", field="dataset", remedy=remedy)
    order = params.training_parameters.get("train_sampling_strategy")
    if order not in (None, "random", "sequential"):
        problem, remedy = "does not work with a list of datasets, whose shares define the order", "Leave it out."
        raise RequestError(problem, field="train_sampling_strategy", value=order, remedy=remedy)
    if params.data.streaming and any(part.weight is None for part in parts):
        problem = "is missing: shares by size need the number of samples, which is not known of streamed data"
        remedy = "Give each dataset of the list a weight, or leave trainer.data.streaming out."
        raise RequestError(problem, field="dataset[0].weight", remedy=remedy)
    found = named(parts, params.data)
    for number, data in enumerate(found.values()):
        refuse_pairs(data.format, number)
    return found


def refuse_pairs(form: str | None, number: int) -> None:
    """Refuse a dataset of preference pairs in a mixture: the Trainer class tokenises and orders them itself."""
    if form == "preference":
        problem = "has preference pairs, which cannot be mixed with other datasets"
        remedy = "Put all pairs into one dataset, and give that instead of a list."
        raise RequestError(problem, field=f"dataset[{number}]", remedy=remedy)
