"""`check`: refuse what cannot be trained, in an init container with the trainer's image, before the ranks start."""

from __future__ import annotations

from tunewright import environment
from tunewright.errors import ExitCode, FetchError
from tunewright.events import emit
from tunewright.runner import MARKER
from tunewright.specs import INPUT_SLOTS, OUTPUT_SLOT
from tunewright_launcher.provider import document_file, load_source, load_trainer, read_document
from tunewright_launcher.step import Step
from tunewright_launcher.train import train_run


def check(step: Step) -> None:
    """The command: everything that can be refused now.

    Raises:
        FetchError, PluginError, RequestError, OSError: what is wrong.
    """
    if step.env.get(environment.OUTPUT):
        cause = "Uploading the result comes with a later release."
        remedy = "Leave output= out: the result stays in the output folder."
        raise FetchError(cause, remedy=remedy, code=ExitCode.USAGE)
    for slot in INPUT_SLOTS:
        _check_slot(step, slot)
    step.paths.slot(OUTPUT_SLOT).mkdir(parents=True, exist_ok=True)
    load_trainer(step).check(train_run(step, emit=emit))


def _check_slot(step: Step, slot: str) -> None:
    """A slot that was to be fetched has its marker; what Kubernetes has mounted there has none."""
    if not document_file(step, slot).is_file() or (step.paths.slot(slot) / MARKER).is_file():
        return
    if load_source(step, read_document(step, slot)).existing() is None:
        cause = f"{step.paths.slot(slot)} is not complete: it has no marker."
        raise FetchError(cause, remedy=f"Run `fetch {slot}` first.", code=ExitCode.NOT_FOUND)
