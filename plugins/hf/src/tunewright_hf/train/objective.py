"""What a task has a Trainer compute: batches, the loss, and the means of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import attrs
import torch
import transformers

from tunewright_hf.config.tasks import CLASSIFICATION, SEQ2SEQ, Task
from tunewright_hf.data import classification, seq2seq
from tunewright_hf.data.classification import REGRESSION, SINGLE, Classes
from tunewright_hf.data.collators import Collator
from tunewright_hf.data.tokenize import IGNORED


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
            scores=scores_of(found.problem),
            loss=mean_of(lambda x, y: losses(x, y, found.problem, smoothing).sum()),
            blank=found.blank,
        )
    if task is SEQ2SEQ:
        return Objective(
            collator=seq2seq.Collator(pad_id, seq2seq.shift_of(model)),
            means=Means("loss"),
            scores=answer_losses,
            loss=mean_of(lambda x, y: summed_loss(x, y, smoothing)),
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


class Means:
    """An evaluation's means over all samples or tokens; transformers' own are means of batches' means.

    For `compute_metrics` with `batch_eval_metrics`, after a `preprocess_logits_for_metrics` that returns for each sample the
    sums that the means are of, and last what they are divided by.

    Args:
        names: of the means.
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self._sums = [0.0] * (len(names) + 1)

    def __call__(self, predictions: transformers.EvalPrediction, compute_result: bool) -> dict[str, float]:
        """Add a batch; at the last, return the means of all and start again."""
        batch = predictions.predictions.double().sum(0).tolist()
        self._sums = [a + b for a, b in zip(self._sums, batch, strict=True)]
        if not compute_result:
            return {}
        *sums, count = self._sums
        self._sums = [0.0] * len(self._sums)
        return {name: total / count if count else math.nan for name, total in zip(self._names, sums, strict=True)}


def token_losses(logits: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
    """Summed loss and number of learnt tokens of each sample, in nats.

    Args:
        logits: (samples, length, vocabulary), or a tuple that begins with them.
        labels: (samples, length), each predicted by the position before it.

    Returns:
        float32 of shape (samples, 2).
    """
    return summed_losses((logits[0] if isinstance(logits, tuple) else logits)[:, :-1], labels[:, 1:])


def summed_losses(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """As `token_losses`, of scores of the very positions that have the labels."""
    losses = torch.nn.functional.cross_entropy(
        scores.float().transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
    )
    return torch.stack([losses.sum(1), (targets != IGNORED).sum(1).float()], dim=1)


def losses(logits: torch.Tensor, labels: torch.Tensor, problem: str, smoothing: float = 0.0) -> torch.Tensor:
    """The loss of each sample, 0 where it is not learnt; of several labels, of each.

    Args:
        logits: (samples, labels).
        labels: (samples), or (samples, labels) where there are several.
        problem: transformers' problem_type.
        smoothing: label_smoothing_factor, of a single label.
    """
    scores, function = logits.float(), torch.nn.functional
    if problem == SINGLE:
        return function.cross_entropy(scores, labels, reduction="none", label_smoothing=smoothing, ignore_index=IGNORED)
    compare = function.mse_loss if problem == REGRESSION else function.binary_cross_entropy_with_logits
    learnt = labels != IGNORED
    scores = scores.squeeze(-1) if problem == REGRESSION else scores
    return compare(scores, labels.float().where(learnt, 0), reduction="none") * learnt


def scores_of(problem: str) -> Callable[[torch.Tensor | tuple[torch.Tensor, ...], torch.Tensor], torch.Tensor]:
    """For Trainer's `preprocess_logits_for_metrics`: of each sample its loss, whether it is right, and 1 if it counts.

    Of a regression the second is the absolute error. Of several labels the loss is their mean, and all must be right.
    """

    def scores(logits: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
        found = (logits[0] if isinstance(logits, tuple) else logits).float()
        each, counts = losses(found, labels, problem), labels != IGNORED
        if problem == SINGLE:
            right = (found.argmax(-1) == labels).float()
        elif problem == REGRESSION:
            right = (found.squeeze(-1) - labels).abs()
        else:
            right, each, counts = ((found > 0) == (labels > 0)).all(-1).float(), each.mean(-1), counts[:, 0]
        return torch.stack([each, right * counts, counts.float()], dim=1)

    return scores


def summed_loss(logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """The loss of a batch's learnt tokens, summed.

    Args:
        logits: (samples, length, vocabulary).
        labels: (samples, length), each of its own position.
        smoothing: label_smoothing_factor.
    """
    return torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1),
        labels.flatten(),
        ignore_index=IGNORED,
        label_smoothing=smoothing,
        reduction="sum",
    )


def answer_losses(logits: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
    """As `tunewright_hf.train.objective.token_losses`, for labels that belong to the logits of their own position."""
    return summed_losses(logits[0] if isinstance(logits, tuple) else logits, labels)
