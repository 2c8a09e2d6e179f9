"""Resolve a list of datasets: `dataset=[…]`, each with its provider, weight and options."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

import attrs

from tunewright._planning import selection
from tunewright.environment import mixture_slot
from tunewright.errors import RequestError
from tunewright.plan.secrets import refuse_literal_tokens
from tunewright.plugins.registry import Registry
from tunewright.providers.base import DatasetProvider, SourceProvider, TrainerProvider
from tunewright.providers.mixture import MIXTURE, MixturePart, dump_mixture
from tunewright.request.request import ResolvedPart, ResolvedProvider, TrainRequest

_OWN = ("name", "weight", "repeat", "data")
"""The keys of an item that belong to the mixture; all others are fields of its provider."""


def select_datasets(
    registry: Registry, value: object, base: Path | None
) -> tuple[ResolvedProvider[DatasetProvider] | None, tuple[ResolvedPart, ...]]:
    """Resolve `dataset=`: a single dataset, or a list. A list of one without options is that dataset.

    Returns:
        The dataset, or None and the parts of a mixture.

    Raises:
        RequestError: an item cannot be resolved, or the items contradict each other.
    """
    if not isinstance(value, list | tuple):
        return selection.select_dataset(registry, value, base), ()
    if not value:
        remedy = "Give at least one dataset."
        raise RequestError("is an empty list", field="dataset", remedy=remedy)
    items = [_Item.of(item) for item in value]
    if len(items) == 1 and not items[0].own.get("data"):
        only = selection.select_dataset(registry, items[0].source, base, "dataset[0]")
        _parts(items, [only])  # whose checks a weight of its own has to pass, too
        return only, ()
    sources = [
        selection.select_dataset(registry, item.source, base, f"dataset[{number}]") for number, item in enumerate(items)
    ]
    for number, source in enumerate(sources):
        if source.provider.eval_dataset is not None:
            remedy = "Give it beside the list, as the job's eval_dataset."
            problem = "belongs to the whole mixture, and not to one of its datasets"
            raise RequestError(problem, field=f"dataset[{number}].eval_dataset", remedy=remedy)
    parts = _parts(items, sources)
    _check_together(parts)
    return None, tuple(ResolvedPart(part=part, source=source) for part, source in zip(parts, sources, strict=True))


def with_provider_options(trainer: TrainerProvider, parts: Sequence[ResolvedPart]) -> list[ResolvedPart]:
    """Return the parts with what the trainer takes from their providers.

    Raises:
        RequestError: a setting of a provider contradicts an option.
    """
    found = []
    for number, resolved in enumerate(parts):
        try:
            part = trainer.for_part(resolved.part, resolved.source.provider)
        except RequestError as error:
            raise error.renamed(f"dataset[{number}].{error.field}") from error
        found.append(attrs.evolve(resolved, part=part))
    return found


def mixture_document(request: TrainRequest) -> dict[str, str]:
    """Return the file that tells the containers of a mixture; none for a single dataset.

    Raises:
        RequestError: an option looks like a token, which the file would show.
    """
    if not request.mixture:
        return {}
    parts = [resolved.part for resolved in request.mixture]
    remedy = "Pass secrets in the secret fields of the dataset's provider."
    for number, part in enumerate(parts):
        refuse_literal_tokens(part.data, f"dataset[{number}].data", remedy)
    return {f"{MIXTURE}.json": dump_mixture(parts)}


@attrs.frozen
class _Item:
    """What the user wrote for one dataset: where it comes from, and the keys of the mixture."""

    source: object
    own: Mapping[str, object]

    @classmethod
    def of(cls, value: object) -> _Item:
        if not isinstance(value, Mapping):
            return cls(value, {})
        own = {key: value[key] for key in _OWN if value.get(key) is not None}
        rest = {key: item for key, item in value.items() if key not in _OWN}
        provider = rest.get("provider")
        return cls(provider if isinstance(provider, SourceProvider) and len(rest) == 1 else rest, own)


def _parts(items: Sequence[_Item], sources: Sequence[ResolvedProvider[DatasetProvider]]) -> list[MixturePart]:
    different = [source for number, source in enumerate(sources) if source not in sources[:number]]
    names: list[str] = [str(item.own["name"]) for item in items if "name" in item.own]
    parts = []
    for number, (item, source) in enumerate(zip(items, sources, strict=True)):
        own = dict(item.own)
        if "name" not in own:
            own["name"] = _free(_name_of(source.provider.uri) or f"dataset-{number + 1}", names)
            names.append(str(own["name"]))
        slot = mixture_slot(different.index(source) + 1)
        try:
            parts.append(MixturePart(slot=slot, **own))  # type: ignore[arg-type] # the class checks them
        except RequestError as error:
            raise error.renamed(f"dataset[{number}].{error.field}") from error
    return parts


def _name_of(uri: str) -> str:
    """Return the last part of a URI's path, without a revision and without what a name must not contain."""
    path = re.split(r"[?#]", unquote(uri.partition("://")[2]))[0].rstrip("/")
    last = path.rpartition("/")[2].partition("@")[0]
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", last).strip("-._")


def _free(name: str, taken: Sequence[str]) -> str:
    """Return a name, with a number behind it if it is taken."""
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return next(candidate for candidate in (name, *numbered) if candidate not in taken)


def _check_together(parts: Sequence[MixturePart]) -> None:
    """Refuse names that are given twice, and weights that only some parts have."""
    for number, part in enumerate(parts):
        if part.name in [other.name for other in parts[:number]]:
            remedy = "Give each dataset of the list a name of its own."
            raise RequestError("is given twice", field=f"dataset[{number}].name", value=part.name, remedy=remedy)
    without = [number for number, part in enumerate(parts) if part.weight is None]
    if without and len(without) < len(parts):
        given = next(part for part in parts if part.weight is not None)
        problem = f"is missing, but {given.name} has one"
        remedy = "Give every dataset of the list a weight, or none: without weights, shares are proportional to sizes."
        raise RequestError(problem, field=f"dataset[{without[0]}].weight", remedy=remedy)
