"""`check`: refuse what cannot be trained, in an init container with the trainer's image, before the ranks start."""

from __future__ import annotations

from tunewright.errors import ExitCode, FetchError
from tunewright.events import emit
from tunewright.runner import MARKER
from tunewright.specs import INPUT_SLOTS, OUTPUT_SLOT
from tunewright_launcher.outputs import CHECKPOINTS, load_output
from tunewright_launcher.provider import document_file, load_source, load_trainer, read_document
from tunewright_launcher.step import Step, log
from tunewright_launcher.train import train_run


def check(step: Step) -> None:
    """The command: everything that can be refused now.

    Raises:
        FetchError, PluginError, RequestError, OSError: what is wrong.
    """
    for slot in INPUT_SLOTS:
        _check_slot(step, slot)
    step.paths.slot(OUTPUT_SLOT).mkdir(parents=True, exist_ok=True)
    if (output := load_output(step, lambda text: log("check", text))) is not None:
        output.check_writable()
        output.fetch_checkpoint(step.paths.slot(OUTPUT_SLOT) / CHECKPOINTS)
    load_trainer(step).check(train_run(step, emit=emit))


def _check_slot(step: Step, slot: str) -> None:
    """A slot that was to be fetched has its marker; what Kubernetes has mounted there has none."""
    if not document_file(step, slot).is_file() or (step.paths.slot(slot) / MARKER).is_file():
        return
    if load_source(step, read_document(step, slot)).existing() is None:
        cause = f"{step.paths.slot(slot)} is not complete: it has no marker."
        raise FetchError(cause, remedy=f"Run `fetch {slot}` first.", code=ExitCode.NOT_FOUND)
