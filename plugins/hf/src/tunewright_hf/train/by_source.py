"""Loss, samples and tokens of each dataset of a mixture, measured during training and evaluations.

Each batch says of each of its tokens which dataset it comes from. The loss of each supervised token is known anyway where the
loss is computed, and is added to the sum of its dataset there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import torch
import transformers

from tunewright_hf.data.mixing.mixture_order import SOURCE
from tunewright_hf.data.samples.packing import SEGMENTS
from tunewright_hf.data.tokenize import IGNORED
from tunewright_hf.kernels import patches
from tunewright_hf.kernels.cross_entropy import LOSS_TESTED, loss_code
from tunewright_hf.kernels.patches import Patch, Undo
from tunewright_hf.kernels.recognise import base_of

SOURCES, COUNTS = "sources", "source_counts"
"""The keys of a batch: the dataset of each token, and the samples and tokens of each dataset."""

MEASURES = ("loss", "samples", "tokens")
"""What is logged of each dataset, as `loss/NAME`, `samples/NAME` and `tokens/NAME`."""


@attrs.frozen
class SourceCollator:
    """A collator that adds the datasets of a mixture to the batches of another collator.

    Attributes:
        collator: the other collator.
        count: number of datasets.
    """

    collator: Callable[[Sequence[Mapping[str, object]]], Mapping[str, object]]
    count: int

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the batch with `sources`, of the shape of its labels, and `source_counts`, of shape (datasets, 2)."""
        batch: dict[str, Any] = dict(self.collator(samples))
        if SOURCE not in samples[0]:
            return batch
        of = torch.tensor([sample[SOURCE] for sample in samples])
        if len(batch["labels"]) == len(samples):
            sources = of[:, None].expand(batch["labels"].shape)
        else:
            sources = of.repeat_interleave(torch.tensor([len(sample["input_ids"]) for sample in samples]))[None]
        counts = torch.zeros((self.count, 2), dtype=torch.int64)
        for i, sample in zip(of.tolist(), samples, strict=True):
            if i >= 0:
                counts[i] += torch.tensor([len(sample.get(SEGMENTS, "1")), sample["length"]])
        return {**batch, SOURCES: sources, COUNTS: counts}


class SourceMeter:
    """Adds up what this rank trains on of each dataset, between two logs.

    Args:
        names: names of the datasets.
        device: the rank's device.
    """

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self.names = tuple(names)
        accurate = torch.float32 if device.type == "mps" else torch.float64
        self._sums = torch.zeros((len(names), 4), dtype=accurate, device=device)
        self._current: torch.Tensor | None = None

    def take(self, batch: dict[str, torch.Tensor]) -> None:
        """Take out of a batch what the model does not know, before its loss is computed."""
        self._current = batch.pop(SOURCES, None)
        batch.pop(COUNTS, None)

    def count(self, batch: dict[str, torch.Tensor]) -> None:
        """Count the samples and tokens of a batch that is trained on."""
        if (counts := batch.pop(COUNTS, None)) is not None:
            self._sums[:, 2:] += counts.to(self._sums)

    def record(self, losses: torch.Tensor, *, where: torch.Tensor) -> None:
        """Add the losses of supervised tokens of the current batch.

        Args:
            losses: the loss of each.
            where: their flat indices in the batch's labels.
        """
        if self._current is not None:
            self._add(losses, torch.ones_like(losses), self._current.flatten()[where])

    def record_all(self, losses: torch.Tensor, labels: torch.Tensor) -> None:
        """Add the losses of the current batch, whose labels are given as a whole; those of other labels are 0."""
        if self._current is not None:
            self._add(losses.flatten(), (labels != IGNORED).flatten(), self._current.flatten())

    def _add(self, losses: torch.Tensor, supervised: torch.Tensor, sources: torch.Tensor) -> None:
        for column, values in enumerate((losses, supervised)):
            self._sums[:, column] += self._by_source(values.detach().to(self._sums), sources)

    def _by_source(self, values: torch.Tensor, sources: torch.Tensor) -> torch.Tensor:
        """Return the sums of values by dataset: the last axis becomes that of the datasets."""
        numbers = torch.arange(len(self.names), device=sources.device)
        # Sums along an axis are the same each time; scattered additions on a GPU are not.
        return torch.where(sources[..., None, :] == numbers[:, None], values[..., None, :], 0).sum(-1)

    def scores(self, losses: torch.Tensor, labels: torch.Tensor, *, shift: int) -> torch.Tensor:
        """Return the sums of a batch of an evaluation: by dataset the losses, and then the supervised tokens.

        Args:
            losses: the loss of each label, 0 if it is ignored; shape (samples, length).
            labels: the labels, which transformers has padded at the end to the longest ones of all ranks.
            shift: number of labels that each sample of the batch has before these.
        """
        assert self._current is not None  # noqa: S101 - for the type checker: the evaluation data has sources
        missing = labels.shape[1] + shift - self._current.shape[1]
        sources = torch.nn.functional.pad(self._current, (0, missing), value=-1)[:, shift:]
        found = (self._by_source(values, sources) for values in (losses, (labels != IGNORED).float()))
        return torch.cat(list(found), dim=1)

    @property
    def sums(self) -> torch.Tensor:
        """This rank's sums, to be added up over all ranks: loss, supervised tokens, samples and tokens by dataset."""
        return self._sums.clone()

    def lap(self, sums: torch.Tensor) -> dict[str, float]:
        """Return what to log, from the sums of all ranks, and reset those of this rank.

        The loss of a dataset without supervised tokens is left out.
        """
        self._sums.zero_()
        found: dict[str, float] = {}
        for name, (loss, supervised, samples, tokens) in zip(self.names, sums.tolist(), strict=True):
            found |= {f"loss/{name}": loss / supervised} if supervised else {}
            found |= {f"samples/{name}": int(samples), f"tokens/{name}": int(tokens)}
        return found

    def state(self) -> list[list[float]]:
        """Return this rank's sums for a checkpoint."""
        found: list[list[float]] = self._sums.tolist()
        return found

    def restore(self, state: Sequence[Sequence[float]]) -> None:
        """Continue with the sums of a checkpoint."""
        self._sums += torch.tensor(state, dtype=self._sums.dtype, device=self._sums.device)


def of_each(logs: Mapping[str, float], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return what was logged of each dataset: name → measure → value."""
    keys = {name: {m: f"{m}/{name}" for m in MEASURES} for name in names}
    return {name: {m: logs[key] for m, key in own.items() if key in logs} for name, own in keys.items()}


class SourceMeans:
    """An evaluation's mean losses, of all datasets together and of each; see `tunewright_hf.train.objective.Means`.

    Args:
        names: names of the datasets.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._sums = [0.0] * 2 * len(names)

    def __call__(self, predictions: transformers.EvalPrediction, compute_result: bool) -> dict[str, float]:
        """Add a batch; after the last one, return the means of all batches and reset the sums."""
        batch = predictions.predictions.double().sum(0).tolist()
        self._sums = [a + b for a, b in zip(self._sums, batch, strict=True)]
        if not compute_result:
            return {}
        losses, counts = self._sums[: len(self._names)], self._sums[len(self._names) :]
        self._sums = [0.0] * len(self._sums)
        each = {f"loss/{n}": loss / c for n, loss, c in zip(self._names, losses, counts, strict=True) if c}
        return {"loss": sum(losses) / sum(counts) if sum(counts) else math.nan, **each}


def measure_loss(model: torch.nn.Module, meter: SourceMeter) -> bool:
    """Let a causal language model whose loss is not fused add up its losses by dataset.

    Returns:
        Whether it does: its loss has to be the usual one of causal language models.
    """
    patch = Patch(
        name="loss by dataset",
        tested=LOSS_TESTED,
        versions="transformers 5.24",
        code=loss_code,
        apply=lambda causal: _measured(causal, meter),
        trial=_trial,
        alike=id,
    )
    return bool(patches.replace(patch, [base_of(model)]))


def _measured(causal: Any, meter: SourceMeter) -> Undo:
    """Let a model's loss be computed by way of the loss of each token."""
    usual: Callable[..., torch.Tensor] = causal.loss_function

    def loss(  # noqa: PLR0917 - models pass them by position, too
        logits: torch.Tensor,
        labels: torch.Tensor,
        vocab_size: int,
        num_items_in_batch: torch.Tensor | int | None = None,
        ignore_index: int = IGNORED,
        shift_labels: torch.Tensor | None = None,
        **more: object,
    ) -> torch.Tensor:
        if shift_labels is not None or not causal.training:
            given = {"num_items_in_batch": num_items_in_batch, "ignore_index": ignore_index, **more}
            return usual(logits, labels, vocab_size, shift_labels=shift_labels, **given)
        targets = torch.nn.functional.pad(labels, (0, 1), value=ignore_index)[..., 1:].flatten().to(logits.device)
        each = torch.nn.functional.cross_entropy(
            logits.float().view(-1, vocab_size), targets, ignore_index=ignore_index, reduction="none"
        )
        meter.record_all(each.roll(1), targets.roll(1))  # a label is predicted by the position before it
        return each.sum() / ((targets != ignore_index).sum() if num_items_in_batch is None else num_items_in_batch)

    return patches.set_loss(causal, loss)


def _trial(causal: Any) -> Sequence[torch.Tensor | None]:
    """Compute the loss of random logits, as a model in training does, and their gradient."""
    logits = patches.trial_rows(2, 4, 7, like=torch.empty(0, device=causal.device))
    labels = torch.tensor([[IGNORED, 3, 6, 0], [1, IGNORED, 2, 2]], device=causal.device)
    with patches.as_in_training(causal):
        given: tuple[dict[str, Any], ...] = ({}, {"num_items_in_batch": torch.tensor(3, device=causal.device)})
        found = [causal.loss_function(logits=logits, labels=labels, vocab_size=7, **more) for more in given]
    return [*found, *torch.autograd.grad(sum(found), [logits])]
