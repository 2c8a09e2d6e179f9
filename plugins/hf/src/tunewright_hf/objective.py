"""What a task has a Trainer compute: batches, the loss, and the means of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import attrs
import torch
import transformers

from tunewright_hf import classification, seq2seq
from tunewright_hf.callbacks import Means, token_losses
from tunewright_hf.classification import Classes
from tunewright_hf.collate import Collator
from tunewright_hf.tasks import CLASSIFICATION, SEQ2SEQ, Task
from tunewright_hf.tokens import IGNORED


@attrs.frozen(kw_only=True)
class Objective:
    """One task's.

    Attributes:
        collator: makes batches.
        means: of an evaluation.
        scores: what `means` adds up, of each sample.
        loss: of a batch; None: the model's own. Those of other tasks than causal language modelling are means of a batch,
            whatever the batches that are accumulated, or on other ranks, hold.
        blank: the labels of a sample that is not learnt.
    """

    collator: Callable[[Sequence[Mapping[str, Sequence[int]]]], Mapping[str, object]]
    means: Means
    scores: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    loss: Callable[..., torch.Tensor] | None = None
    blank: object = (IGNORED, IGNORED)


def objective_of(
    task: Task, model: transformers.PreTrainedModel, classes: Classes | None, *, pad_id: int, smoothing: float
) -> Objective:
    """The objective of a task.

    Args:
        task: what the model is trained to do.
        model: the model, which says what its decoder reads.
        classes: of a classifier.
        pad_id: what to pad batches with.
        smoothing: label_smoothing_factor.
    """
    if task is CLASSIFICATION:
        found = cast("Classes", classes)
        return Objective(
            collator=classification.Collator(pad_id),
            means=Means("loss", "mae" if found.problem == classification.REGRESSION else "accuracy"),
            scores=classification.scores_of(found.problem),
            loss=mean_of(lambda x, y: classification.losses(x, y, found.problem, smoothing).sum()),
            blank=found.blank,
        )
    if task is SEQ2SEQ:
        return Objective(
            collator=seq2seq.Collator(pad_id, seq2seq.shift_of(model)),
            means=Means("loss"),
            scores=seq2seq.token_losses,
            loss=mean_of(lambda x, y: seq2seq.summed_loss(x, y, smoothing)),
        )
    return Objective(collator=Collator(pad_id), means=Means("loss"), scores=token_losses)


def mean_of(summed: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
    """For Trainer's `compute_loss_func`: the mean over all that is learnt in a step, of all ranks and accumulated batches.

    Args:
        summed: from logits and labels to the sum of a batch.
    """

    def loss(
        outputs: Mapping[str, torch.Tensor], labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None
    ) -> torch.Tensor:
        count = (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        return summed(outputs["logits"], labels) / max(count, 1)

    return loss
