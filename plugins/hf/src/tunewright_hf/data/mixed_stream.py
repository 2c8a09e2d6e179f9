"""Streamed datasets that take turns: the streams of `tunewright_hf.data.streaming`, in the order of `Turns`.

Each dataset is read, shuffled, tokenised and packed in windows of its own. The position of a mixture is that of each of its
streams, and whose turn it is. It is noted whenever a stream begins a window, so a resumed training tokenises at most one
window of each dataset again.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import attrs

from tunewright.errors import RequestError
from tunewright_hf.data.mixing.mixture_order import SOURCE, Mixture
from tunewright_hf.data.mixing.turns import Turns
from tunewright_hf.data.samples.encode import Counts, Sample
from tunewright_hf.data.samples.packing import SEGMENTS
from tunewright_hf.data.streaming import Stream, Streamed, StreamPlan, Window

_SEEDS = 1_000_003  # between the seeds of two datasets, so that equal numbers of rows are not shuffled alike


@attrs.frozen(kw_only=True)
class MixedWindow:
    """A position in a streamed mixture.

    Attributes:
        turns: the state of `Turns`, as a dict.
        parts: the window of each dataset.
        skipped: the samples of each dataset's window before this position.
        first: number of samples before this position in the whole training.
    """

    turns: Mapping[str, object]
    parts: tuple[Window, ...]
    skipped: tuple[int, ...]
    first: int = 0

    @property
    def counts(self) -> Counts:
        """Counts of all rows up to the end of each dataset's window."""
        return functools.reduce(Counts.plus, (window.counts for window in self.parts))


@attrs.frozen(kw_only=True)
class StreamedMixture:
    """The datasets of a mixture, and how their rows become samples.

    Attributes:
        parts: the datasets.
        mixture: their names and shares.
        by_tokens: whether the shares are those of tokens.
    """

    parts: tuple[Streamed, ...]
    mixture: Mixture
    by_tokens: bool = False

    @property
    def max_length(self) -> int:
        """Tokens in the longest sample."""
        return self.parts[0].max_length

    @property
    def digest(self) -> str:
        """SHA-256 of the digests of the datasets, and of their shares."""
        about = [[part.digest for part in self.parts], attrs.astuple(self.mixture)[1:3], self.by_tokens]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()

    @property
    def column_names(self) -> list[str]:
        """The keys of each sample."""
        return [*self.parts[0].column_names, SOURCE]

    def begin(self) -> MixedWindow:
        """Return the beginning of the stream."""
        count = len(self.parts)
        turns = Turns.begin(self.mixture.weights, self.mixture.repeats, [None] * count)
        return MixedWindow(turns=turns.state(), parts=(Window(),) * count, skipped=(0,) * count)

    def window_of(self, found: Mapping[str, object]) -> MixedWindow:
        """Return a window from what was saved of it."""
        parts = tuple(map(Window.of, found["parts"]))  # type: ignore[call-overload]
        return MixedWindow(**{**found, "parts": parts, "skipped": tuple(found["skipped"])})  # type: ignore[arg-type]

    def stream(self, plan: StreamPlan) -> MixedStream:
        """Return the samples of a training."""
        return MixedStream(self, plan)  # type: ignore[arg-type] # it overrides what a single dataset is needed for


class MixedStream(Stream):
    """The samples of a training, as `Stream`, with the index of their dataset as `source`."""

    source: StreamedMixture  # type: ignore[assignment] # in place of a single dataset

    def _samples(  # type: ignore[override] # of a mixture
        self, start: MixedWindow, skipped: int, *, few: bool = False
    ) -> Iterator[Sample]:
        notes: deque[MixedWindow] = deque()
        turns = Turns.of(start.turns)
        readers = [self._reader(i, start, few=few) for i in range(len(self.source.parts))]
        first, new = start.first, True
        while True:
            if new and not few:
                state = [(reader.window, reader.at) for reader in readers]
                windows, at = zip(*state, strict=True)
                self._note(notes, MixedWindow(turns=turns.state(), parts=windows, skipped=at, first=first))  # type: ignore[arg-type]
            costs = [self._cost(reader.sample) for reader in readers]
            i = turns.choose(costs)
            sample = readers[i].sample
            turns.take(i, costs[i])
            before = readers[i].window
            readers[i].advance()
            new = readers[i].window is not before
            if readers[i].window.data_pass > before.data_pass:
                turns.found_end(i)
            first += 1
            if skipped:
                skipped -= 1
            else:
                yield {**sample, SOURCE: i}

    def part_counts_at(self, step: int) -> dict[str, Counts]:
        """Return, by dataset, the counts of the rows that were read for the samples up to a step."""
        window: MixedWindow = self.window_at(step)[0]  # type: ignore[assignment] # of a mixture
        return {name: part.counts for name, part in zip(self.source.mixture.names, window.parts, strict=True)}

    def _reader(self, i: int, start: MixedWindow, *, few: bool) -> _Reader:
        seed = None if self.plan.seed is None else self.plan.seed + i * _SEEDS
        sharing = self.plan.sharing and self.plan.sharing.part(i)
        stream = _PartStream(self.source.parts[i], attrs.evolve(self.plan, seed=seed, sharing=sharing))
        return _Reader(stream, start.parts[i], start.skipped[i], f"dataset[{i}]", few=few)

    def _cost(self, sample: Sample) -> int:
        if self.source.by_tokens:
            return int(sample["length"])
        return len(sample[SEGMENTS]) if SEGMENTS in sample else 1


class _PartStream(Stream):
    """The stream of one dataset."""

    def _tell(self, data_pass: int, counts: Counts) -> None:
        if data_pass == 1 or not counts.samples:  # a small dataset may be read very often
            super()._tell(data_pass, counts)


class _Reader:
    """The next sample of one dataset, and its position."""

    def __init__(self, stream: Stream, window: Window, skipped: int, field: str, *, few: bool) -> None:
        self._field = field
        self._windows = stream.encoded(window, few=few)
        self.window = window
        self._samples: Sequence[Sample] = ()
        self.at = -1
        self.advance()
        self.at = skipped

    @property
    def sample(self) -> Sample:
        return self._samples[self.at]

    def advance(self) -> None:
        """Go on to the next sample, in the next window that has any.

        Raises:
            RequestError: the dataset cannot be read, or has nothing to learn.
        """
        self.at += 1
        while self.at >= len(self._samples):
            try:
                self.window, self._samples = next(self._windows)
            except RequestError as error:
                raise (error.renamed(self._field) if error.field == "dataset" else error) from error
            self.at = 0
