"""Training events: steps, losses and evaluations, from callbacks of the Trainer."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import transformers
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import rotate_checkpoints

from tunewright.events import Checkpoint, Environment, Eval, Event, Pace, Phase, Start, Step
from tunewright.providers import TrainRun, mark_checkpoint
from tunewright_hf.distributed import are_several, barrier
from tunewright_hf.train.by_source import of_each
from tunewright_hf.train.checkpoints import check_loss, checkpoint_folder, gather_files
from tunewright_hf.train.throughput import MEASURED, device_name

# Numbers with a field of their own; all others go along as extra keys.
_OF_A_STEP = ("loss", "epoch", "learning_rate", "tokens_per_second")
_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "datasets", "tokenizers")
_QUIET = 3.0  # seconds without a log after which steps are told of between logs
_OF_AN_EVAL = ("eval_loss", "eval_accuracy")


def _numbers(measured: Mapping[str, object]) -> dict[str, float]:
    """Return what is a number: metrics of one's own may be lists or texts, which events have no place for."""
    found: dict[str, float] = {}
    for name, value in measured.items():
        with contextlib.suppress(TypeError, ValueError, RuntimeError):  # RuntimeError: of a tensor with several numbers
            found[name] = float(value)  # type: ignore[arg-type]
    return found


class TrainingClock(transformers.TrainerCallback):  # type: ignore[misc]
    """Measures the training time between logs, without the time for evaluations and checkpoints."""

    def __init__(self) -> None:
        self._since = self._mark = time.monotonic()
        self._paused = 0.0

    def lap(self) -> float:
        """Return the seconds of training since the last call, and start the next lap."""
        now = time.monotonic()
        seconds = now - self._since - self._paused
        self._since, self._mark, self._paused = now, now, 0.0
        return seconds

    def _pause_ended(self) -> None:
        now = time.monotonic()
        self._paused += now - self._mark
        self._mark = now

    def on_train_begin(self, *_: object, **__: object) -> None:
        """Start the first lap."""
        self.lap()

    def on_step_end(self, *_: object, **__: object) -> None:
        """Note that a pause may begin here."""
        self._mark = time.monotonic()

    def on_evaluate(self, *_: object, **__: object) -> None:
        """End the pause for an evaluation."""
        self._pause_ended()

    def on_save(self, *_: object, **__: object) -> None:
        """End the pause for a checkpoint."""
        self._pause_ended()


def clock_of(trainer: transformers.Trainer) -> TrainingClock:
    """Return the trainer's TrainingClock."""
    return next(c for c in trainer.callback_handler.callbacks if isinstance(c, TrainingClock))


class EventCallback(transformers.TrainerCallback):  # type: ignore[misc]
    """Emits events, and marks checkpoints complete.

    Args:
        run: the run that checkpoints and events belong to; rank 0 emits them.
        keep: number of checkpoints to keep; None keeps all.
        sources: names of the datasets of a mixture.
    """

    def __init__(self, run: TrainRun, keep: int | None, sources: Sequence[str] = ()) -> None:
        self._run = run
        self._keep = keep
        self._sources = sources
        self._pace, self._logged = Pace(), time.monotonic()

    def _emit(self, event: Event) -> None:
        if self._run.rank == 0:
            self._run.emit(event)

    def on_train_begin(
        self, args: transformers.TrainingArguments, state: transformers.TrainerState, *_: object, **__: object
    ) -> None:
        """Emit `environment` and `start`."""
        resumed = state.global_step if self._run.resume_from else None
        libraries = {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}
        self._emit(Environment(device=device_name(args.device), devices=args.world_size, libraries=libraries))
        self._emit(
            Start(
                total_steps=state.max_steps,
                epochs=state.num_train_epochs,
                world_size=args.world_size,
                resumed_from=resumed,
            )
        )
        if args.torch_compile:
            self._emit(Phase(name="compile", text="compiling the model, which takes up the first steps"))

    def on_step_end(
        self,
        args: object,  # noqa: ARG002 - transformers passes it by position
        state: transformers.TrainerState,
        control: transformers.TrainerControl,
        **_: object,
    ) -> None:
        """Tell how far a training is that seldom logs; log the last step of a mixture, so that the events add up to all samples."""
        quiet = not control.should_log and time.monotonic() - self._logged > _QUIET
        if quiet and self._pace.is_due():
            done = {"done": state.global_step, "total": state.max_steps, "unit": "steps"}
            self._emit(Phase(name="train", text="training", **done))
        if self._sources and state.global_step >= state.max_steps:
            control.should_log = True

    def on_log(
        self,
        args: transformers.TrainingArguments,
        state: transformers.TrainerState,
        control: object,  # noqa: ARG002 - transformers passes it by position
        logs: Mapping[str, float],
        **_: object,
    ) -> None:
        """Emit `step`; on every rank, end the job if the loss is NaN or infinite."""
        if "loss" not in logs:
            return
        self._logged = time.monotonic()
        found = _numbers({k: logs[k] for k in ("loss", "epoch", "learning_rate", "grad_norm", *MEASURED) if k in logs})
        known = {k: found.pop(k) for k in _OF_A_STEP if k in found}
        sources = of_each(logs, self._sources) or None
        self._emit(Step(step=state.global_step, total_steps=state.max_steps, sources=sources, extra=found, **known))
        check_loss(logs["loss"], args, state)

    def on_evaluate(
        self,
        args: object,  # noqa: ARG002 - transformers passes it by position
        state: transformers.TrainerState,
        control: object,  # noqa: ARG002 - as above
        metrics: Mapping[str, float],
        **_: object,
    ) -> None:
        """Emit `eval`."""
        found = _numbers({k: v for k, v in metrics.items() if k.startswith("eval_")})
        known = {k: found.pop(k) for k in _OF_AN_EVAL if k in found}
        own = {name: float(found.pop(f"eval_loss/{name}")) for name in self._sources if f"eval_loss/{name}" in found}
        sources = {name: {"loss": loss} for name, loss in own.items()} or None
        self._emit(Eval(step=state.global_step, sources=sources, extra=found, **known))

    def on_save(
        self, args: transformers.TrainingArguments, state: transformers.TrainerState, *_: object, **__: object
    ) -> None:
        """Mark the checkpoint complete once all ranks have written their files, and only then remove older ones."""
        barrier()
        folder = checkpoint_folder(args, state)
        if are_several():
            gather_files(folder, self._run)
        if self._run.rank == 0:
            mark_checkpoint(folder)
            rotate_checkpoints(args.output_dir, self._keep, state.best_model_checkpoint)
        self._emit(Checkpoint(step=state.global_step, path=str(folder)))


def remove_printer(trainer: transformers.Trainer) -> None:
    """Stop transformers from printing its logs, since events report the same."""
    trainer.remove_callback(PrinterCallback)
