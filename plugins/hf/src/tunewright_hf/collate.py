"""Batches: samples padded to the longest among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import datasets
import torch

from tunewright_hf.labels import IGNORED


@attrs.frozen
class Collator:
    """Pads on the right: pads are not attended to, and not learnt.

    Labels come with the samples and are not derived from the ids, so a tokenizer that pads with its EOS still has its
    EOS learnt where it ends a sample.

    Attributes:
        pad_id: what to fill up with.
    """

    pad_id: int

    def __call__(self, samples: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, torch.Tensor]:
        """`input_ids`, `attention_mask` and `labels`, each int64 of shape (samples, longest sample)."""
        longest = max(len(s["input_ids"]) for s in samples)
        shape = (len(samples), longest)
        batch = {
            "input_ids": torch.full(shape, self.pad_id),
            "attention_mask": torch.zeros(shape, dtype=torch.int64),
            "labels": torch.full(shape, IGNORED),
        }
        for i, sample in enumerate(samples):
            length = len(sample["input_ids"])
            batch["input_ids"][i, :length] = torch.tensor(sample["input_ids"])
            batch["attention_mask"][i, :length] = 1
            batch["labels"][i, :length] = torch.tensor(sample["labels"])
        return batch


def level(samples: datasets.Dataset, multiple: int, pad_id: int) -> datasets.Dataset:
    """Add samples without labels until their number is a multiple of the samples in one step.

    Ranks must run the same number of batches. Left to itself, accelerate lets the ranks that fall short see samples of
    the epoch's beginning again. A sample without labels adds nothing to a loss that is divided by the number of learnt
    tokens, so every sample counts exactly once, and any number of ranks makes the same steps of the same samples.

    Args:
        samples: with the columns `input_ids`, `labels` and `length`.
        multiple: samples in one step: of the batches of all ranks, accumulated ones included.
        pad_id: what the added samples consist of.
    """
    missing = -len(samples) % multiple
    if not missing:
        return samples
    row = {"input_ids": [pad_id, pad_id], "labels": [IGNORED, IGNORED], "length": 2}
    filling = datasets.Dataset.from_list([row] * missing, features=samples.features)
    return datasets.concatenate_datasets([samples, filling])
