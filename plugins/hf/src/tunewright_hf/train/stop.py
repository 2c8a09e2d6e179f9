"""Stopping on SIGTERM: save a checkpoint at the next step, then exit."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

import torch
import transformers

from tunewright_hf.distributed import are_several

TERMINATED = 128 + signal.SIGTERM


class StopCallback(transformers.TrainerCallback):  # type: ignore[misc]
    """Once a rank is asked to stop, all ranks save a checkpoint after the same step and exit."""

    def __init__(self) -> None:
        self._asked = False
        self._sent: tuple[torch.Tensor, torch.distributed.Work] | None = None
        self._stops = False

    def ask(self, *_: object) -> None:
        """Ask to stop soon; a signal handler calls it."""
        self._asked = True

    def on_step_end(
        self,
        args: transformers.TrainingArguments,
        state: object,  # noqa: ARG002 - transformers passes it by position
        control: transformers.TrainerControl,
        **_: object,
    ) -> None:
        """Request a checkpoint if a rank was asked to stop."""
        if self._agreed(args.device):
            self._stops = control.should_save = True

    def on_save(self, *_: object, **__: object) -> None:
        """Exit, now that the checkpoint is complete."""
        if self._stops:
            raise SystemExit(TERMINATED)

    def on_train_end(self, *_: object, **__: object) -> None:
        """Wait for the last collective operation."""
        if self._sent:
            self._sent[1].wait()

    def _agreed(self, device: torch.device) -> bool:
        """Return whether a rank was asked. Several ranks agree on the state at the previous step, so that none has to wait."""
        if not are_several():
            return self._asked
        before = self._sent
        flag = torch.tensor(int(self._asked), device=device)
        self._sent = flag, torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX, async_op=True)
        if before is None:
            return False
        before[1].wait()
        return bool(before[0].item())


@contextlib.contextmanager
def stopping_on_sigterm(trainer: transformers.Trainer) -> Iterator[None]:
    """On SIGTERM, save a checkpoint and raise SystemExit(143), upon which the job is restarted.

    After an error the signal is ignored until the launcher has reported the error: torchrun sends it to every rank once
    one has exited, and would kill the ranks that are about to report what happened to them.
    """
    stop = StopCallback()
    trainer.add_callback(stop)  # after those that complete a checkpoint
    if threading.current_thread() is not threading.main_thread():  # only that thread receives signals
        yield
        return
    before = signal.signal(signal.SIGTERM, stop.ask)
    try:
        yield
    except Exception:
        raise  # and keep the handler
    except BaseException:
        signal.signal(signal.SIGTERM, before)
        raise
    signal.signal(signal.SIGTERM, before)
