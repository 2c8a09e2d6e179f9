"""What a trainer receives, on a rank or in a check: the folders of the job, and the rank's place among the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from tunewright import environment, runner
from tunewright.errors import ExitCode, FetchError
from tunewright.events import Event
from tunewright.providers.base import TrainRun
from tunewright.runner.checkpoints import CHECKPOINTS
from tunewright_launcher.provider import document_file, input_slots, read_document, read_mixture
from tunewright_launcher.step import Step


def train_run(step: Step, *, emit: Callable[[Event], None]) -> TrainRun:
    """Return what the trainer receives on this rank.

    Raises:
        FetchError: NOT_FOUND: an input of the job does not exist.
    """
    output = step.paths.slot(environment.OUTPUT_SLOT)
    return TrainRun(
        model=_input(step, "model"),
        adapter=_input(step, "adapter"),
        dataset=_input(step, "dataset"),
        mixture=tuple(attrs.evolve(part, folder=_input(step, part.slot)) for part in read_mixture(step)),
        eval_dataset=_input(step, "eval_dataset"),
        uris=_uris(step),
        output=output,
        rank=number(step.env, "RANK", 0),
        local_rank=number(step.env, "LOCAL_RANK", 0),
        world_size=number(step.env, "WORLD_SIZE", 1),
        resume_from=runner.newest_checkpoint(output / CHECKPOINTS),
        emit=emit,
    )


def _uris(step: Step) -> dict[str, str]:
    documents = {s: read_document(step, s) for s in input_slots(step) if document_file(step, s).is_file()}
    return {slot: uri for slot, found in documents.items() if isinstance(uri := found.params.get("uri"), str)}


def _input(step: Step, slot: str) -> Path | None:
    folder = step.paths.slot(slot)
    if folder.is_dir():
        return folder
    if document_file(step, slot).is_file():
        cause = f"The job has a {slot}, but {folder} does not exist."
        raise FetchError(cause, remedy=f"Run `fetch {slot}` first.", code=ExitCode.NOT_FOUND)
    return None


def number(env: Mapping[str, str], name: str, default: int) -> int:
    """Return a number that torchrun sets, or the default."""
    return int(env.get(name) or default)
