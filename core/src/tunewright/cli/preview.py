"""`tunewright preview`: show the dataset's samples as the trainer will see them."""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import click

from tunewright._views.text import as_json as to_line
from tunewright.errors import RequestError
from tunewright.providers.base import SourceProvider, TrainRun
from tunewright.providers.preview import Preview
from tunewright.request.request import ResolvedProvider, TrainRequest


def show_samples(request: TrainRequest, count: int, *, as_json: bool) -> None:
    """Print the first samples, with supervised text in green, or in brackets where there are no colors.

    Args:
        request: the job.
        count: number of samples to print.
        as_json: print one JSON object per sample instead.

    Raises:
        RequestError: the inputs are not on this machine, or the trainer cannot preview them.
    """
    for number, sample in enumerate(itertools.islice(_samples(request), count), start=1):
        if as_json:
            click.echo(to_line({"sample": number, **attrs.asdict(sample)}))
            continue
        if sample.about:
            click.echo(sample.about)
        cut = f", {sample.cut} cut off" if sample.cut else ""
        click.secho(f"sample {number}: {sample.tokens} tokens, {sample.supervised} supervised{cut}", bold=True)
        click.echo("".join(_piece(text, supervised=supervised) for text, supervised in sample.pieces))
        if sample.left_out:
            click.echo(f"not trained on: {sample.left_out}")


def _piece(text: str, *, supervised: bool) -> str:
    if not supervised:
        return text
    return click.style(text, fg="green") if sys.stdout.isatty() else f"⟦{text}⟧"


def _samples(request: TrainRequest) -> Iterator[Preview]:
    model, dataset = _on_this_machine("model", request.model), _on_this_machine("dataset", request.dataset)
    adapter = _on_this_machine("adapter", request.adapter)
    mixture = tuple(
        attrs.evolve(resolved.part, folder=_on_this_machine(f"dataset[{number}]", resolved.source))
        for number, resolved in enumerate(request.mixture)
    )
    evaluation = request.eval_dataset.provider.local_path() if request.eval_dataset else None  # which none is shown of
    try:
        with tempfile.TemporaryDirectory() as output:
            run = TrainRun(
                model=model,
                adapter=adapter,
                dataset=dataset,
                mixture=mixture,
                eval_dataset=evaluation,
                output=Path(output),
                emit=lambda _: None,
            )
            yield from request.trainer.provider.preview(run)
    except ImportError as error:
        distribution = request.trainer.plugin.dist
        remedy = f"Install the trainer's libraries: pip install '{distribution}[{request.trainer.provider.extra}]'"
        problem = f"requires a library that is not installed here: {error}"
        raise RequestError(problem, field="preview", remedy=remedy) from error


def _on_this_machine(field: str, selected: ResolvedProvider[SourceProvider] | None) -> Path | None:
    if selected is None:
        return None
    source = selected.provider
    if (path := source.local_path()) is not None:
        return path
    kind = "dataset" if field.startswith("dataset") else "model"
    written = field.replace("[", ".").replace("]", ".uri")
    folder = "inputs" if written == kind else written.replace(".", "-").removesuffix("-uri")
    remedy = (
        f"Fetch it first: tunewright fetch --kind {kind} {source.uri} {folder}; "
        f"then run preview with --set {written}=$PWD/{folder}/{kind}"
    )
    raise RequestError("is not on this machine", field=field, value=source.uri, remedy=remedy)
