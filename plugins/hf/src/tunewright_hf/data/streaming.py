"""Streaming: read, tokenise and pack data during training, so that training starts at once and writes nothing to disk.

The stream restarts when the data ends. So a training gets as many samples as its steps need, and all batches are full. Every
rank has the same stream, and accelerate gives each rank its part of a batch. One rank of each node tokenises it for the
others; see `tunewright_hf.data.shared_windows`. Rows are read in blocks that are shuffled, and a block is divided into windows that are tokenised and packed. The position of each
window is saved, so that a resumed training continues there.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import datasets
import numpy as np
import torch

from tunewright.errors import RequestError
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.data.loader_process import carry_errors
from tunewright_hf.data.reading.files import Split
from tunewright_hf.data.reading.load import load_rows, readable
from tunewright_hf.data.samples.bad_rows import Dropped, examples, located
from tunewright_hf.data.samples.encode import (
    IDS,
    AnyEncoder,
    Counts,
    Sample,
    check_tokens,
    counts_of,
    features_of,
    report,
    tokenise_batch,
)
from tunewright_hf.data.samples.packing import SEGMENTS, pack_at_once
from tunewright_hf.data.shared_windows import Sharing
from tunewright_hf.data.tokenize import IGNORED

logger = logging.getLogger(__name__)

_WINDOW = 1000  # rows; with this many, packed rows are more than 98% full

_COLUMNS = (*IDS, "length")
_NONE = Counts(rows=0, samples=0, dropped=0)

# A placeholder when a training is resumed: transformers reads and drops the batches that were trained on before.
_PASSED: Sample = {"input_ids": [0, 0], "labels": [IGNORED, IGNORED], "length": 2, SEGMENTS: [2]}


@attrs.frozen(kw_only=True)
class Streamed:
    """A split, and how its rows become samples.

    Attributes:
        split: the split's files.
        encoder: makes samples from rows.
        max_length: tokens in the longest sample.
        data: says whether to pack, and how many rows to shuffle at a time.
        cache: folder for the cache of `datasets`.
    """

    split: Split
    encoder: AnyEncoder
    max_length: int
    data: DataParams
    cache: Path

    @property
    def digest(self) -> str:
        """SHA-256 of the files' names and sizes, and of how they are read."""
        return hashlib.sha256(
            json.dumps([self.split.sizes(), attrs.asdict(self.data), self.max_length]).encode()
        ).hexdigest()

    @property
    def column_names(self) -> list[str]:
        """The keys of each sample."""
        return [*_COLUMNS, *([SEGMENTS] if self.data.packing else [])]

    def begin(self) -> Window:
        """Return the beginning of the stream."""
        return Window()

    def window_of(self, found: Mapping[str, object]) -> Window:
        """Return a window from what was saved of it."""
        return Window.of(found)

    def stream(self, plan: StreamPlan) -> Stream:
        """Return the samples of a training."""
        return Stream(self, plan)

    def open(self, order: Sequence[int], state: Mapping[str, object] | None = None) -> datasets.IterableDataset:
        """Return the rows of the files in the given order, from a state of `datasets` on."""
        rows = load_rows(self.ordered(order), "dataset", self.cache, streaming=True).with_format("arrow")
        if state is not None:
            rows.load_state_dict(state)
        return rows

    def ordered(self, order: Sequence[int]) -> Split:
        """Return the split with its files in the given order."""
        if not self.split.part.is_all:  # other files would be first, and so other rows meant
            return self.split
        return attrs.evolve(self.split, files=tuple(self.split.files[i] for i in order))

    def encode(
        self, rows: Mapping[str, list[object]], numbers: Sequence[int], order: Sequence[int]
    ) -> tuple[list[Sample], Counts, Dropped]:
        """Return the samples, or the packed rows, of a window, their counts, and the rows that were dropped.

        Args:
            rows: the window's rows.
            numbers: their numbers in the split, from 0.
            order: the order of the files.

        Raises:
            RequestError: a row cannot be used, and such rows are not to be dropped.
        """
        with located(self.ordered(order), self.cache, streaming=True):
            columns, dropped = tokenise_batch(rows, self.encoder, self.max_length, numbers)
        found = datasets.Dataset.from_dict(columns, features_of(self.encoder))
        counts = counts_of(len(numbers), found, dropped)
        found = found.select_columns(list(_COLUMNS))
        if not self.data.packing:
            return found.to_list(), counts, dropped
        packed = pack_at_once(found, self.max_length)
        return list(packed), attrs.evolve(counts, packed_rows=len(packed)), dropped


@attrs.frozen(kw_only=True)
class Window:
    """The position of some rows in the stream.

    Attributes:
        data_pass: number of complete passes over the data before this one.
        block: number of blocks before this one in the pass.
        state: the state of `datasets` at the start of the block; None at the start of the data.
        number: number of windows before this one in the block.
        first: number of samples before this window in the whole training.
        before: counts of all rows before this window.
        own: counts of this window's rows.
    """

    data_pass: int = 0
    block: int = 0
    state: Mapping[str, object] | None = None
    number: int = 0
    first: int = 0
    before: Counts = _NONE
    own: Counts = _NONE

    @classmethod
    def of(cls, found: Mapping[str, object]) -> Window:
        """Rebuild a window from its `attrs.asdict`."""
        return cls(**{**found, **{name: Counts(**found[name]) for name in ("before", "own")}})  # type: ignore[arg-type]

    @property
    def counts(self) -> Counts:
        """Counts of all rows up to the end of this window."""
        return self.before.plus(self.own)


@attrs.frozen(kw_only=True)
class StreamPlan:
    """What a training reads from the stream.

    Attributes:
        step: samples in a step: in the batches of all ranks, with gradient accumulation.
        steps: steps of the whole training.
        seed: seed of the shuffling; None keeps the order of the files.
        vocabulary: size of the model's vocabulary.
        ahead: largest number of samples that are read and not yet trained on.
        notes: file for the positions of the windows that are read ahead.
        passed: steps that a resumed training has made before.
        window: the window in which the training is resumed.
        skipped: samples of that window that have been trained on.
        logs: whether to log; one rank does.
        sharing: how this rank shares the stream with others of its node; None for a rank that is alone.
    """

    step: int
    steps: int
    seed: int | None
    vocabulary: int
    ahead: int
    notes: Path
    passed: int = 0
    window: Window = Window()
    skipped: int = 0
    logs: bool = True
    sharing: Sharing | None = None


_Read = tuple[Window, list[int], Mapping[str, list[object]]]
"""A window, the numbers of its rows in the split, from 0, and the rows."""


class Stream(torch.utils.data.IterableDataset[Sample]):  # type: ignore[misc]
    """The samples of a training, with `input_ids`, `labels` and `length`, and `segments` for packed rows."""

    def __init__(self, source: Streamed, plan: StreamPlan) -> None:
        self.source = source
        self.plan = plan
        self.column_names = source.column_names

    def __len__(self) -> int:
        """Return the samples of the whole training, which is one epoch to transformers however often the data is read."""
        return self.plan.step * self.plan.steps

    @property
    def longest(self) -> int:
        """Tokens in the longest possible sample."""
        return self.source.max_length

    def example(self) -> Sample:
        """Return a sample for measurements."""
        return next(self._samples(self.source.begin(), 0, few=True))

    def __iter__(self) -> Iterator[Sample]:
        """Yield all samples of the training, with placeholders for those that have been trained on.

        Raises:
            RequestError: the files cannot be read, leave nothing to learn, or have tokens that the model lacks.
        """
        passed = self.plan.passed * self.plan.step
        yield from itertools.repeat(_PASSED, passed)
        with carry_errors():
            yield from itertools.islice(self._samples(self.plan.window, self.plan.skipped), len(self) - passed)

    def _samples(self, start: Window, skipped: int, *, few: bool = False) -> Iterator[Sample]:
        notes: deque[Window] = deque()
        for window, samples in self.encoded(start, few=few):
            if not few:
                self._note(notes, window)
            yield from samples[skipped:]
            skipped = 0

    def encoded(self, start: Window, *, few: bool = False) -> Iterator[tuple[Window, list[Sample]]]:
        """Yield windows and their samples without end, from a window on; see `_windows`."""
        found = self._encoded(start, few=few)
        return found if few or self.plan.sharing is None else self.plan.sharing.share(found)

    def _encoded(self, start: Window, *, few: bool) -> Iterator[tuple[Window, list[Sample]]]:
        first, before = start.first, start.before
        for window, numbers, rows in self._windows(start, few=few):
            if window.data_pass > start.data_pass and not window.block + window.number:
                self._tell(window.data_pass, before)
            order = self._order(len(self.source.split.files), window.data_pass)
            samples, own, dropped = self.source.encode(rows, numbers, order)
            if self.plan.logs and not few and not dropped.keys() <= before.reasons.keys():
                self._tell_dropped({r: d for r, d in dropped.items() if r not in before.reasons}, order)
            check_tokens(samples, self.plan.vocabulary)
            now = attrs.evolve(window, first=first, before=before, own=own)
            yield now, samples
            first, before = first + len(samples), now.counts

    def _windows(self, start: Window, *, few: bool = False) -> Iterator[_Read]:
        """Yield windows and their rows without end; with `few` the windows are small, so that the first comes quickly."""
        block, size = (100, 100) if few else (self.source.data.shuffle_buffer, _WINDOW)
        for data_pass in itertools.count(start.data_pass):
            rows = self.source.open(self._order(len(self.source.split.files), data_pass), start.state)
            state, tables = start.state, rows.iter(batch_size=block)
            for number in itertools.count(start.block):
                with readable(self.source.split, "dataset"):
                    table = next(tables, None)
                if table is None and not number:
                    raise RequestError("is empty", field="dataset", remedy="Give a folder with rows.")
                if table is None:
                    break
                shuffled = datasets.Dataset(datasets.table.InMemoryTable(table))
                order = self._order(len(shuffled), data_pass, number)
                for at in range(start.number * size, len(order), size):
                    window = Window(data_pass=data_pass, block=number, state=state, number=at // size)
                    chosen = order[at : at + size]
                    with readable(self.source.split, "dataset"):  # bytes that are not text are found here only
                        found = shuffled[chosen]
                    yield window, [number * block + i for i in chosen], found
                state, start = rows.state_dict(), Window()
            start = Window()

    def _order(self, size: int, *numbers: int) -> list[int]:
        if self.plan.seed is None:
            return list(range(size))
        return list(np.random.default_rng([self.plan.seed, *numbers]).permutation(size).tolist())

    def _tell(self, data_pass: int, counts: Counts) -> None:
        if self.plan.logs or not counts.samples:
            logger.info("train: the data has been read %d time(s)", data_pass)
            report("train", counts)

    def _tell_dropped(self, dropped: Dropped, order: Sequence[int]) -> None:
        """Log the first rows that are dropped for a reason: all of them are counted at the end of the data only."""
        for example in examples(self.source.ordered(order), dropped, self.source.cache, streaming=True):
            logger.warning("train: dropped, for example: %s", example)

    def _note(self, notes: deque[Window], window: Window) -> None:
        """Save the positions of the windows that are being read, since the training process may be another one."""
        notes.append(window)
        while len(notes) > 1 and notes[1].first <= window.first - self.plan.ahead:
            notes.popleft()
        written = self.plan.notes.with_suffix(".tmp")
        written.write_text(json.dumps([attrs.asdict(w) for w in notes]), encoding="utf-8")
        written.replace(self.plan.notes)

    def window_at(self, step: int) -> tuple[Window, int]:
        """Return the position after a step: the window of the next sample, and the number of samples before it there."""
        plan = self.plan
        sample = plan.window.first + plan.skipped + (step - plan.passed) * plan.step
        found = [self.source.window_of(w) for w in json.loads(plan.notes.read_text(encoding="utf-8"))]
        window = next(w for w in reversed(found) if w.first <= sample)
        return window, sample - window.first

    def counts_at(self, step: int) -> Counts:
        """Return the counts of the rows that were read for the samples up to a step."""
        return self.window_at(step)[0].counts
