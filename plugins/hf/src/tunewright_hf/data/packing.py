"""Packing: short samples share a row of the longest sample's length. Done once, when the data is tokenised."""

from __future__ import annotations

import bisect
import logging
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow.compute

logger = logging.getLogger(__name__)

SEGMENTS = "segments"
"""The column of packed rows that has the lengths of their samples, in tokens."""

_MEMBERS = "members"
_AT_ONCE = 1 << 16  # samples as Python's numbers


def plan(lengths: npt.NDArray[np.int64], size: int) -> pyarrow.ListArray:
    """Which samples share a row: each, from the longest to the shortest, goes where it leaves the least room.

    Best-fit decreasing needs at most 11/9 of the fewest rows that are possible (Johnson 1973, "Near-optimal bin packing
    algorithms"). It holds some numbers for each sample in arrays: there may be more samples than lists of them have room.

    Args:
        lengths: of the samples, in tokens; none is longer than `size`.
        size: tokens that fit into a row.

    Returns:
        Rows as indices of samples, both in the order of the dataset: rows by their first sample.
    """
    row_of = np.empty(len(lengths), np.int32)
    below = np.empty(len(lengths), np.int32)  # of each row, the next one that has the same room
    top: dict[int, int] = {}  # by room, in tokens, a row that has it
    rooms: list[int] = []  # its keys, sorted
    count = 0
    for part in np.array_split(np.argsort(-lengths, kind="stable"), len(lengths) // _AT_ONCE + 1):
        for sample, length in zip(part.tolist(), lengths[part].tolist(), strict=True):
            at = bisect.bisect_left(rooms, length)
            if at < len(rooms):
                room = rooms[at]
                row = top[room]
                if below[row] < 0:
                    del top[room], rooms[at]
                else:
                    top[room] = int(below[row])
            else:
                room, row, count = size, count, count + 1
            row_of[sample] = row
            left = room - length
            if left not in top:
                bisect.insort(rooms, left)
            below[row] = top.get(left, -1)
            top[left] = row
    return _grouped(row_of)


def _grouped(row_of: npt.NDArray[np.int32]) -> pyarrow.ListArray:
    """The samples of each row, from the row of each sample."""
    sizes = np.bincount(row_of)
    first = np.empty(len(sizes), np.int32)
    first[row_of[::-1]] = np.arange(len(row_of), dtype=np.int32)[::-1]  # the last that is written stays
    order = np.argsort(first)
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    members = np.argsort(place[row_of], kind="stable").astype(np.int32)
    return pyarrow.ListArray.from_arrays(np.append(0, np.cumsum(sizes[order])).astype(np.int32), pyarrow.array(members))


def pack(samples: datasets.Dataset, size: int, cache_file: Path) -> datasets.Dataset:
    """Rows of at most `size` tokens, with the columns `input_ids`, `labels`, `length` and `segments`.

    Args:
        samples: with the columns `input_ids`, `labels` and `length`, of which none is longer than `size`.
        size: tokens that fit into a row.
        cache_file: where to write the rows to.
    """
    lengths = samples.data.column("length").to_numpy()
    rows = plan(lengths, size)
    ids = samples.features["input_ids"]
    features = datasets.Features({"input_ids": ids, "labels": ids, "length": samples.features["length"], SEGMENTS: ids})
    full = 100 * lengths.sum() / (len(rows) * size)
    logger.info("%d samples in %d rows of %d tokens, %.1f%% full", len(samples), len(rows), size, full)
    return (
        datasets.Dataset(datasets.table.InMemoryTable(pyarrow.table({_MEMBERS: rows})))
        .with_format("arrow")
        .map(
            _join,
            batched=True,
            fn_kwargs={"samples": samples.with_format("arrow")},
            remove_columns=_MEMBERS,
            features=features,
            cache_file_name=str(cache_file),
            new_fingerprint=cache_file.stem,  # hashing the samples takes long
            load_from_cache_file=False,
        )
        .with_format(None)  # it would be saved with the rows
    )


def pack_at_once(samples: datasets.Dataset, size: int) -> list[dict[str, list[int]]]:
    """As `pack`, of a few samples, in memory."""
    if not len(samples):
        return []
    rows = plan(samples.data.column("length").to_numpy(), size)
    return list(_join(pyarrow.table({_MEMBERS: rows}), samples.with_format("arrow")).to_pylist())


def _join(batch: pyarrow.Table, samples: datasets.Dataset) -> pyarrow.Table:
    members = batch[_MEMBERS].combine_chunks()
    found = samples[members.flatten().to_pylist()]
    ends = np.cumsum([0, *found["length"].to_pylist()], dtype=np.int32)
    rows = np.cumsum([0, *members.value_lengths().to_pylist()], dtype=np.int32)
    bounds = pyarrow.array(ends[rows])
    tokens = {name: pyarrow.compute.list_flatten(found[name]).combine_chunks() for name in ("input_ids", "labels")}
    columns = {name: pyarrow.ListArray.from_arrays(bounds, values) for name, values in tokens.items()}
    segments = pyarrow.ListArray.from_arrays(pyarrow.array(rows), pyarrow.array(np.diff(ends)))
    return pyarrow.table({**columns, "length": np.diff(ends[rows]).astype(np.int64), SEGMENTS: segments})
