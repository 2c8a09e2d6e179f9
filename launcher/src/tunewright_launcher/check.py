"""`check`: refuse a job that cannot be trained, in an init container with the trainer's image, before the ranks start."""

from __future__ import annotations

from pathlib import Path

from tunewright.environment import CHECK_BY_RANK, OUTPUT_SLOT
from tunewright.errors import ExitCode, FetchError
from tunewright.events import Phase, emit
from tunewright.providers import TrainerProvider
from tunewright.runner.checkpoints import CHECKPOINTS, MARKER
from tunewright.runner.files import write_atomically
from tunewright_launcher.outputs import job_key, load_output
from tunewright_launcher.provider import (
    TRAINER,
    document_file,
    input_slots,
    load_source,
    load_trainer,
    read_document,
)
from tunewright_launcher.step import Step, log
from tunewright_launcher.train_run import train_run

_OWNER = ".job"
"""File in the output folder with the key of the job that owns it: see `tunewright_launcher.outputs.key_of`."""


def check(step: Step) -> None:
    """Run the command: check everything that can be checked now.

    Raises:
        FetchError, PluginError, RequestError, OSError: the job cannot be trained.
    """
    for slot in input_slots(step):
        _check_slot(step, slot)
    _own_output(step, step.paths.slot(OUTPUT_SLOT))
    if (output := load_output(step, lambda text: log("check", text))) is not None:
        output.check_writable()
        output.fetch_checkpoint(step.paths.slot(OUTPUT_SLOT) / CHECKPOINTS)
    if not step.env.get(CHECK_BY_RANK):
        emit(Phase(name="import", text="importing the trainer and its libraries, to check the job"))
        check_trainer(step)


def check_trainer(step: Step) -> None:
    """Let the trainer check the job.

    Raises:
        FetchError, PluginError, RequestError, OSError: the job cannot be trained.
    """
    trainer = load_trainer(step)
    try:
        trainer.check(train_run(step, emit=emit))
    except ModuleNotFoundError as error:
        raise missing_library(step, trainer, error) from error
    emit(Phase(name="check", text="the check has passed"))


def missing_library(step: Step, trainer: TrainerProvider, error: ModuleNotFoundError) -> FetchError:
    """Return the error for a library of the trainer that is not installed here, with the one command that installs all of them."""
    document = read_document(step, TRAINER)
    extra = f"[{trainer.extra}]" if trainer.extra else ""
    cause = f"The trainer {document.provider} needs the module {error.name}, which is not installed where it runs."
    remedy = f"Install what it needs: pip install '{document.distribution}{extra}', here or in the trainer's image."
    return FetchError(cause, remedy=remedy, code=ExitCode.USAGE)


def _own_output(step: Step, folder: Path) -> None:
    """Claim the output folder for this job, so that it neither resumes from another job's checkpoints nor overwrites its model."""
    folder.mkdir(parents=True, exist_ok=True)
    key, owner = job_key(step), folder / _OWNER
    if owner.is_file() and owner.read_text("utf-8") == key:
        return
    results = [path for path in (folder / CHECKPOINTS, folder / "model") if path.is_dir() and any(path.iterdir())]
    if results and owner.is_file():
        cause = (
            f"{results[0]} belongs to a job that trains something else, or differently, with the same output folder."
        )
        remedy = "Choose another name or output=, or remove the folder."
        raise FetchError(cause, remedy=remedy, code=ExitCode.USAGE)
    write_atomically(owner, key)


def _check_slot(step: Step, slot: str) -> None:
    """Check that a downloaded slot has its marker; what Kubernetes mounts there has none."""
    if not document_file(step, slot).is_file() or (step.paths.slot(slot) / MARKER).is_file():
        return
    if load_source(step, read_document(step, slot)).mounted_claim() is None:
        cause = f"{step.paths.slot(slot)} is not complete: it has no marker."
        raise FetchError(cause, remedy=f"Run `fetch {slot}` first.", code=ExitCode.NOT_FOUND)
