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


class Stop(transformers.TrainerCallback):  # type: ignore[misc]
    """Once a rank is asked to, all ranks make a checkpoint after the same step, and end."""

    def __init__(self) -> None:
        self._asked = False
        self._told: tuple[torch.Tensor, torch.distributed.Work] | None = None
        self._stops = False

    def ask(self, *_: object) -> None:
        """Stop soon; for a signal handler."""
        self._asked = True

    def on_step_end(
        self,
        args: transformers.TrainingArguments,
        state: object,  # noqa: ARG002 - transformers passes it by position
        control: transformers.TrainerControl,
        **_: object,
    ) -> None:
        """Have a checkpoint made if a rank was asked to stop."""
        if self._agreed(args.device):
            self._stops = control.should_save = True

    def on_save(self, *_: object, **__: object) -> None:
        """End, now that the checkpoint is complete."""
        if self._stops:
            raise SystemExit(TERMINATED)

    def on_train_end(self, *_: object, **__: object) -> None:
        """Leave no message under way."""
        if self._told:
            self._told[1].wait()

    def _agreed(self, device: torch.device) -> bool:
        """Whether a rank was asked: of several, by the step before, so that none waits for the others' answer."""
        if not are_several():
            return self._asked
        before = self._told
        flag = torch.tensor(int(self._asked), device=device)
        self._told = flag, torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX, async_op=True)
        if before is None:
            return False
        before[1].wait()
        return bool(before[0].item())


@contextlib.contextmanager
def stopping_on_sigterm(trainer: transformers.Trainer) -> Iterator[None]:
    """In here, SIGTERM ends the training with a checkpoint and SystemExit(143); the launcher's job is started again.

    After an error it stays without effect until the launcher has told of the error: torchrun sends it to every rank once
    one has ended, and would cut off the ranks that are about to say what happened to them.
    """
    stop = Stop()
    trainer.add_callback(stop)  # after those that make a checkpoint complete
    if threading.current_thread() is not threading.main_thread():  # signals come to that one only
        yield
        return
    before = signal.signal(signal.SIGTERM, stop.ask)
    try:
        yield
    except Exception:
        raise  # and leave the handler as it is
    except BaseException:
        signal.signal(signal.SIGTERM, before)
        raise
    signal.signal(signal.SIGTERM, before)
