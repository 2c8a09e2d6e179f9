"""Batches: samples that are concatenated in one row (padding-free), or padded to the longest one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import attrs
import datasets
import torch
import transformers

from tunewright_hf.data.mixing.mixture_order import SOURCE
from tunewright_hf.data.samples.packing import SEGMENTS
from tunewright_hf.data.tokenize import IGNORED


@attrs.frozen
class Collator:
    """Makes a batch of samples, or of packed rows of samples.

    Labels come with the samples and are not derived from the ids. So if the tokenizer pads with EOS, the EOS that ends a
    sample is still supervised.

    Attributes:
        pad_id: the token to pad with.
        padding_free: concatenate samples instead of padding them; packed rows require it.
    """

    pad_id: int
    padding_free: bool = False

    def __call__(self, samples: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, torch.Tensor | int]:
        """Return int64 tensors, except `cu_seq_lens_*`; see `_pad` and `_concatenate`."""
        return self._concatenate(samples) if self.padding_free else self._pad(samples)

    def _pad(self, samples: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, torch.Tensor | int]:
        """Return `input_ids`, `attention_mask` and `labels` of shape (samples, longest sample).

        Padding is on the right, not attended to, and has no labels.
        """
        batch = padded(samples, self.pad_id)
        labels = torch.full(batch["input_ids"].shape, IGNORED)
        for i, sample in enumerate(samples):
            labels[i, : len(sample["labels"])] = torch.tensor(sample["labels"])
        labels[:, 0] = IGNORED  # never predicted, but transformers counts it for classes such as GPT2LMHeadModel
        return {**batch, "labels": labels}

    def _concatenate(self, samples: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, torch.Tensor | int]:
        """Return `input_ids`, `position_ids` and `labels` of shape (1, tokens), and FlashAttentionKwargs of transformers.

        Positions restart with each sample. `cu_seq_lens_q` has the first token of each sample and the number of tokens:
        int32 of shape (samples + 1,). `max_length_q` is the longest sample.
        """
        lengths = torch.tensor([n for s in samples for n in s.get(SEGMENTS) or [len(s["input_ids"])]])
        ends = lengths.cumsum(0)
        starts = ends - lengths
        labels = torch.cat([torch.tensor(s["labels"]) for s in samples])
        labels[starts] = IGNORED  # else the last token of a sample would predict the first one of the next
        bounds = torch.nn.functional.pad(ends, (1, 0)).int()
        longest = int(lengths.max())
        return {
            "input_ids": torch.cat([torch.tensor(s["input_ids"]) for s in samples])[None],
            "position_ids": (torch.arange(len(labels)) - starts.repeat_interleave(lengths))[None],
            "labels": labels[None],
            "cu_seq_lens_q": bounds,
            "cu_seq_lens_k": bounds,
            "max_length_q": longest,
            "max_length_k": longest,
        }


@attrs.frozen
class TargetCollator:
    """Makes a batch of texts that are padded to the longest one, and of their targets.

    Attributes:
        pad_id: the token to pad with.
    """

    pad_id: int

    def __call__(self, samples: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, torch.Tensor]:
        """Return `input_ids` and `attention_mask` of (samples, longest), and `labels` of (samples[, labels])."""
        return {**padded(samples, self.pad_id), "labels": torch.tensor([s["labels"] for s in samples])}


@attrs.frozen
class PairCollator:
    """Makes a batch of prompts and completions that are padded to the longest ones.

    Attributes:
        pad_id: the token to pad with.
        shift: returns the decoder's inputs for labels.
    """

    pad_id: int
    shift: Callable[[torch.Tensor], torch.Tensor]

    def __call__(self, samples: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, torch.Tensor]:
        """Return `input_ids` and `attention_mask` of (samples, longest prompt), `labels` and `decoder_input_ids` likewise."""
        rows = [torch.tensor(s["labels"]) for s in samples]
        labels = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=IGNORED)
        return {**padded(samples, self.pad_id), "labels": labels, "decoder_input_ids": self.shift(labels)}


def shift_of(model: transformers.PreTrainedModel) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function from labels to decoder inputs: the model's own, or a shift to the right after the start token."""
    own: Callable[[torch.Tensor], torch.Tensor] | None = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if own is not None:
        return own
    start, pad = model.config.decoder_start_token_id, model.config.pad_token_id
    return functools.partial(_shift, start=start, pad=start if pad is None else pad)


def _shift(labels: torch.Tensor, start: int, pad: int) -> torch.Tensor:
    inputs = torch.nn.functional.pad(labels[:, :-1], (1, 0), value=start)
    return inputs.masked_fill(inputs == IGNORED, pad)


def padded(samples: Sequence[Mapping[str, Sequence[int]]], pad_id: int) -> dict[str, torch.Tensor]:
    """Return `input_ids` and `attention_mask` of shape (samples, longest sample), padded on the right."""
    shape = (len(samples), max(len(s["input_ids"]) for s in samples))
    ids, attended = torch.full(shape, pad_id), torch.zeros(shape, dtype=torch.int64)
    for i, sample in enumerate(samples):
        length = len(sample["input_ids"])
        ids[i, :length] = torch.tensor(sample["input_ids"])
        attended[i, :length] = 1
    return {"input_ids": ids, "attention_mask": attended}


def fill_up(
    samples: datasets.Dataset,
    multiple: int,
    pad_id: int,
    blank: object = (IGNORED, IGNORED),
    *,
    count: int | None = None,
) -> datasets.Dataset:
    """Add samples without labels until the number of samples is a multiple of those in one step.

    Ranks must run the same number of batches. By default accelerate repeats samples from the epoch's start on ranks that
    fall short. A sample without labels adds nothing to a loss that is divided by the number of supervised tokens. So every
    sample counts exactly once, and any number of ranks makes the same steps with the same samples.

    Args:
        samples: dataset with the columns `input_ids`, `labels` and `length`, `segments` for packed rows, and `source` in a
            mixture.
        multiple: samples in one step: in the batches of all ranks, with gradient accumulation.
        pad_id: the token that the added samples consist of.
        blank: the labels of an added sample.
        count: number of samples in an epoch, if it is not that of `samples`.
    """
    missing = -(len(samples) if count is None else count) % multiple
    if not missing:
        return samples
    row = {"input_ids": [pad_id, pad_id], "labels": blank, "length": 2, SEGMENTS: [2], SOURCE: -1}
    row = {name: row[name] for name in samples.column_names}
    filling = datasets.Dataset.from_list([row] * missing, features=samples.features)
    return datasets.concatenate_datasets([samples, filling])
