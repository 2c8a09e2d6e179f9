"""`tunewright fetch`: the init container's fetch step, run by hand: for a URI, or for the inputs of a job file."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import attrs
import click

from tunewright._client.options import CodeOptions, TrainOptions, refuse_unknown
from tunewright._planning import selection, spellings
from tunewright._planning.mixture import select_datasets
from tunewright.cli import jobfile
from tunewright.cli.steps import document, run_step, secrets_of, unwanted_secrets
from tunewright.errors import RequestError
from tunewright.plan.secrets import SecretRef, SecretValue
from tunewright.plugins.registry import Registry
from tunewright.providers.base import SourceProvider
from tunewright.request.request import ResolvedProvider

_INIT_ENV = "init_env"

Sources = dict[str, ResolvedProvider[SourceProvider]]


@attrs.frozen(kw_only=True)
class Inputs:
    """What to fetch, and with what environment.

    Attributes:
        sources: slot → its provider.
        job: where each of its fields is written.
    """

    sources: Sources
    job: jobfile.JobFile

    @property
    def variables(self) -> dict[str, str]:
        """The variables of `init_env`; of those in a Secret of a cluster, the user's own."""
        given = self.job.keywords.get(_INIT_ENV) or {}
        if not isinstance(given, Mapping):
            raise RequestError("must be a mapping", field=_INIT_ENV, value=given, remedy="Write NAME: value.")
        return {
            str(name): value.reveal() if isinstance(value, SecretValue) else str(value)
            for name, value in given.items()
            if not isinstance(value, SecretRef)
        }


def inputs_of(
    source: str, kind: Literal["model", "dataset"] | None, only: Collection[str], assignments: Sequence[str]
) -> Inputs:
    """Return what a command line asks for.

    Args:
        source: a URI, a path, or a job file.
        kind: of a URI or path; None for a model, and for a job file.
        only: the inputs of a job file to fetch; empty for all.
        assignments: values of `--set`: keys of a job file; for a URI, with or without `model.` or `dataset.` before them.

    Raises:
        RequestError: a value is wrong.
        PluginError: the URI's plugin is missing or broken.
    """
    if Path(source).suffix in (".yaml", ".yml") and "://" not in source:
        job = jobfile.read(Path(source), assignments)
        if kind is not None:
            remedy = f"Give --only {kind}, for one of the inputs of the job file."
            raise RequestError("belongs to a URI", field="--kind", value=source, remedy=remedy)
        with job.located():
            found = _sources(_keywords(job.keywords), Path(source).absolute().parent)
            return Inputs(sources=_chosen(found, only), job=job)
    if only:
        remedy = (
            f"Give one: tunewright fetch job.yaml --only {min(only)}. For a URI, --kind says which of the two it is."
        )
        raise RequestError("belongs to a job file", field="--only", value=source, remedy=remedy)
    kind = kind or "model"
    begins = (f"{kind}.", f"{_INIT_ENV}.")
    below = [text if text.startswith(begins) else f"{kind}.{text}" for text in assignments]
    job = jobfile.of_options({kind: source}, below)
    with job.located():
        return Inputs(sources=_sources(job.keywords, Path.cwd()), job=job)


def fetch_by_hand(inputs: Inputs, folder: Path, *, as_json: bool) -> None:
    """Fetch each input into its slot below a folder, as a job's init containers do.

    Raises:
        RequestError: an input cannot be fetched, or something is not installed; nothing was created.
        click.exceptions.Exit: a step failed, with its exit code; it has said why.
    """
    with inputs.job.located():
        needed = {slot: document("fetch", slot, selected) for slot, selected in inputs.sources.items()}
        secrets = {slot: _secrets(slot, selected.provider) for slot, selected in inputs.sources.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)  # here, as the step would have to call it a failure of the volume
    except OSError as error:
        problem = f"cannot be created as a folder: {error.strerror or error}"
        raise RequestError(
            problem, field="FOLDER", value=str(folder), remedy="Give a folder that you can write to."
        ) from error
    for slot, wanted in needed.items():
        env = {**inputs.variables, **secrets[slot]}
        unwanted = unwanted_secrets(inputs.sources[slot].provider, os.environ)
        documents = {slot: wanted}
        run_step(["fetch", slot], documents, workspace=folder, secrets=env, unwanted=unwanted, as_json=as_json)
        if not as_json:
            click.echo(f"It is in {folder / slot}")


def _keywords(written: Mapping[str, object]) -> Mapping[str, object]:
    """Return the keywords of a job in our own spelling.

    Raises:
        RequestError: one of them is none: an input that it may have been about would be fetched without it.
    """
    _, given = jobfile.split(written)
    if jobfile.is_code(given):
        refuse_unknown(given, CodeOptions)
        return given
    with spellings.as_written(given, spellings.TRAIN):
        named = spellings.train_keywords((), given)
        refuse_unknown(named, TrainOptions)
        return named


def _sources(keywords: Mapping[str, object], base: Path) -> Sources:
    """Resolve the inputs of a job, with the names of their slots."""
    registry, found = Registry(), Sources()
    if (model := keywords.get("model")) is not None:
        found["model"] = selection.select_model(registry, model, base)
    if (adapter := keywords.get("adapter")) is not None:
        found["adapter"] = selection.select_model(registry, adapter, base, "adapter")
    evaluation = keywords.get("eval_dataset")
    if (dataset := keywords.get("dataset")) is not None:
        chosen, parts = select_datasets(registry, dataset, base)
        found |= {resolved.part.slot: resolved.source for resolved in parts}
        if chosen is not None:
            found["dataset"] = attrs.evolve(chosen, provider=attrs.evolve(chosen.provider, eval_dataset=None))
            if evaluation is None and (own := selection.select_eval_dataset(chosen)) is not None:
                found["eval_dataset"] = own
    if evaluation is not None:
        found["eval_dataset"] = selection.select_dataset(registry, evaluation, base, "eval_dataset")
    if not found:
        raise RequestError("is missing", field="model", remedy="Give the job a model or a dataset to fetch.")
    return found


def _chosen(sources: Sources, only: Collection[str]) -> Sources:
    """Return those that the user wants; "dataset" stands for all datasets of a list."""
    found = {
        s: v for s, v in sources.items() if not only or s in only or ("dataset" in only and s.startswith("dataset_"))
    }
    names = {*found, *(["dataset"] if any(slot.startswith("dataset_") for slot in found) else [])}
    if missing := sorted(set(only) - names):
        remedy = f"The job has: {', '.join(sources)}."
        raise RequestError("is not an input of this job", field="--only", value=missing[0], remedy=remedy)
    return found


def _secrets(slot: str, provider: SourceProvider) -> dict[str, str]:
    """Return the values of a source's secrets, and refuse a source that this machine cannot fetch."""
    if provider.mounted_claim() is not None:
        problem = "is a volume of a cluster, which has the files already and which this machine does not see"
        raise RequestError(problem, field=slot, value=provider.uri, remedy="Mount it, and give its path.")
    return secrets_of(provider, slot, os.environ)
