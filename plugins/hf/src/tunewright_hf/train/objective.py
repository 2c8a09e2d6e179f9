"""Objectives by task: the batches, the loss, and an evaluation's metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import attrs
import torch
import transformers

from tunewright_hf.config.tasks import CLASSIFICATION, SEQ2SEQ, Task
from tunewright_hf.data.samples import classification
from tunewright_hf.data.samples.classification import REGRESSION, SINGLE, Classes
from tunewright_hf.data.samples.collators import Collator, PairCollator, TargetCollator, shift_of
from tunewright_hf.data.tokenize import IGNORED
from tunewright_hf.train.by_source import SourceMeans, SourceMeter

_LOGITS = 2**25  # copied at once


@attrs.frozen(kw_only=True)
class Objective:
    """What a Trainer computes for one task.

    Attributes:
        collator: makes batches.
        means: computes the metrics of an evaluation.
        scores: computes what `means` adds up, for each sample.
        loss: computes the loss; None for the model's own. For tasks other than causal language modelling the model's own
            loss is the mean of one batch, regardless of gradient accumulation and of other ranks.
        blank: the labels of a sample that does not count in the loss.
    """

    collator: Callable[[Sequence[Mapping[str, Sequence[int]]]], Mapping[str, object]]
    means: Means | SourceMeans
    scores: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    loss: Callable[..., torch.Tensor] | None = None
    blank: object = (IGNORED, IGNORED)

    def by_source(self, meter: SourceMeter) -> Objective:
        """Return this objective of a language model with the losses of each dataset in the metrics of evaluations."""
        each, shift = (each_answer_loss, 0) if self.scores is answer_losses else (each_token_loss, 1)
        return attrs.evolve(
            self,
            means=SourceMeans(meter.names),
            scores=lambda logits, labels: meter.scores(*each(logits, labels), shift=shift),
        )


def objective_of(
    task: Task,
    model: transformers.PreTrainedModel,
    classes: Classes | None,
    *,
    pad_id: int,
    smoothing: float,
    meter: SourceMeter | None = None,
) -> Objective:
    """Return the objective of a task.

    Args:
        task: the task.
        model: the model, which determines its decoder's inputs.
        classes: a classifier's classes.
        pad_id: the token to pad batches with.
        smoothing: label_smoothing_factor.
        meter: adds up the losses of a mixture's datasets.
    """
    if task is CLASSIFICATION:
        found = cast("Classes", classes)
        return Objective(
            collator=TargetCollator(pad_id),
            means=Means("loss", "mae" if found.problem == classification.REGRESSION else "accuracy"),
            scores=scores_of(found.problem),
            loss=mean_of(lambda x, y: losses(x, y, found.problem, smoothing).sum()),
            blank=found.blank,
        )
    if task is SEQ2SEQ:
        return Objective(
            collator=PairCollator(pad_id, shift_of(model)),
            means=Means("loss"),
            scores=answer_losses,
            loss=mean_of(lambda x, y: summed_loss(x, y, smoothing, meter)),
        )
    return Objective(collator=Collator(pad_id), means=Means("loss"), scores=token_losses)


def mean_of(summed: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return a `compute_loss_func` for Trainer: the mean over all labels of a step, on all ranks and accumulated batches.

    Args:
        summed: returns the sum of a batch's losses, from logits and labels.
    """

    def loss(
        outputs: Mapping[str, torch.Tensor], labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None
    ) -> torch.Tensor:
        count = (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        return summed(outputs["logits"], labels) / max(count, 1)

    return loss


class Means:
    """An evaluation's means over all samples or tokens, where transformers averages the means of batches.

    It is a `compute_metrics` for `batch_eval_metrics`. The `preprocess_logits_for_metrics` before it returns for each sample
    the sums to average, and last their divisor.

    Args:
        names: names of the means.
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self._sums = [0.0] * (len(names) + 1)

    def __call__(self, predictions: transformers.EvalPrediction, compute_result: bool) -> dict[str, float]:
        """Add a batch; after the last one, return the means of all batches and reset the sums."""
        batch = predictions.predictions.double().sum(0).tolist()
        self._sums = [a + b for a, b in zip(self._sums, batch, strict=True)]
        if not compute_result:
            return {}
        *sums, count = self._sums
        self._sums = [0.0] * len(self._sums)
        return {name: total / count if count else math.nan for name, total in zip(self._names, sums, strict=True)}


def token_losses(logits: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
    """Return the summed loss in nats and the number of supervised tokens, for each sample.

    Args:
        logits: (samples, length, vocabulary), or a tuple whose first tensor, except for numbers, they are.
        labels: (samples, length), each predicted by the position before it.

    Returns:
        float32 of shape (samples, 2).
    """
    return summed_losses(*each_token_loss(logits, labels))


def _logits_in(outputs: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return a model's logits: experts may put a loss of their own before them."""
    found = outputs if isinstance(outputs, tuple) else (outputs,)
    return next(output for output in found if output.dim())


def summed_losses(losses: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """As `token_losses`, from the loss of each target, which is 0 where it is ignored."""
    return torch.stack([losses.sum(1), (targets != IGNORED).sum(1).float()], dim=1)


def each_token_loss(
    logits: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of each label but the first ones, and these labels; both of shape (samples, length - 1).

    A model with a fused loss returns these losses in place of logits; see `TokenLosses`.
    """
    found, targets = _logits_in(logits), labels[:, 1:]
    if found.dim() == targets.dim():  # transformers has padded the losses, too
        return found.masked_fill(targets == IGNORED, 0), targets
    return each_answer_loss(found[:, :-1], targets)


def each_answer_loss(
    logits: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of each label, and the labels, which are at the positions of their logits."""
    scores = _logits_in(logits)
    size = max(
        1, _LOGITS // (scores.shape[0] * scores.shape[2])
    )  # positions; copies of all logits may not fit into memory
    found = [
        torch.nn.functional.cross_entropy(
            piece.float().transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
        )
        for piece, targets in zip(scores.split(size, 1), labels.split(size, 1), strict=True)
    ]
    return torch.cat(found, dim=1), labels


def losses(logits: torch.Tensor, labels: torch.Tensor, problem: str, smoothing: float = 0.0) -> torch.Tensor:
    """Return the loss of each sample, or of each label in multi-label classification; 0 without a label.

    Args:
        logits: (samples, labels).
        labels: (samples), or (samples, labels) in multi-label classification.
        problem: transformers' problem_type.
        smoothing: label_smoothing_factor, for single labels.
    """
    scores, function = logits.float(), torch.nn.functional
    if problem == SINGLE:
        return function.cross_entropy(scores, labels, reduction="none", label_smoothing=smoothing, ignore_index=IGNORED)
    compare = function.mse_loss if problem == REGRESSION else function.binary_cross_entropy_with_logits
    labelled = labels != IGNORED
    scores = scores.squeeze(-1) if problem == REGRESSION else scores
    return compare(scores, labels.float().where(labelled, 0), reduction="none") * labelled


def scores_of(problem: str) -> Callable[[torch.Tensor | tuple[torch.Tensor, ...], torch.Tensor], torch.Tensor]:
    """Return a `preprocess_logits_for_metrics` for Trainer: each sample's loss, whether it is right, and 1 if it counts.

    For a regression the second is the absolute error. With several labels the loss is their mean, and all must be right.
    """

    def scores(logits: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
        found = _logits_in(logits).float()
        each, counts = losses(found, labels, problem), labels != IGNORED
        if problem == SINGLE:
            right = (found.argmax(-1) == labels).float()
        elif problem == REGRESSION:
            right = (found.squeeze(-1) - labels).abs()
        else:
            right, each, counts = ((found > 0) == (labels > 0)).all(-1).float(), each.mean(-1), counts[:, 0]
        return torch.stack([each, right * counts, counts.float()], dim=1)

    return scores


def summed_loss(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: float, meter: SourceMeter | None = None
) -> torch.Tensor:
    """Return the summed loss of a batch's supervised tokens.

    Args:
        logits: (samples, length, vocabulary).
        labels: (samples, length), at the positions of their logits.
        smoothing: label_smoothing_factor.
        meter: adds up the losses of a mixture's datasets.
    """
    losses = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1),
        labels.flatten(),
        ignore_index=IGNORED,
        label_smoothing=smoothing,
        reduction="sum" if meter is None else "none",
    )
    if meter is not None:
        meter.record_all(losses, labels)
    return losses.sum()


def answer_losses(logits: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
    """As `token_losses`, for labels at the positions of their logits."""
    return summed_losses(*each_answer_loss(logits, labels))
