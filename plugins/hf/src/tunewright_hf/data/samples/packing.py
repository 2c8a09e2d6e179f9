"""Packing: concatenate short samples into rows of `max_length`, once, after tokenisation."""

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
"""The column of packed rows with the lengths of their samples, in tokens."""

_MEMBERS = "members"
_CHUNK = 1 << 16  # samples whose lengths are Python integers at a time


def plan(lengths: npt.NDArray[np.int64], size: int) -> pyarrow.ListArray:
    """Assign samples to rows by best-fit decreasing: from the longest on, each goes where it leaves the least room.

    This needs at most 11/9 of the smallest possible number of rows (Johnson 1973, "Near-optimal bin packing algorithms").
    Numbers for each sample are in arrays, as Python lists may not fit into memory.

    Args:
        lengths: lengths of the samples, in tokens; none is longer than `size`.
        size: tokens that fit into a row.

    Returns:
        Rows as lists of sample indices; both rows (by their first sample) and samples are in the dataset's order.
    """
    row_of = np.empty(len(lengths), np.int32)
    below = np.empty(len(lengths), np.int32)  # linked lists: for each row, the next one with the same room
    top: dict[int, int] = {}  # heads of the lists: room in tokens → a row
    rooms: list[int] = []  # its keys, sorted
    count = 0
    for part in np.array_split(np.argsort(-lengths, kind="stable"), len(lengths) // _CHUNK + 1):
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
    """Return the samples of each row, given the row of each sample."""
    sizes = np.bincount(row_of)
    first = np.unique(row_of, return_index=True)[1]
    order = np.argsort(first)
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    members = np.argsort(place[row_of], kind="stable").astype(np.int32)
    return pyarrow.ListArray.from_arrays(np.append(0, np.cumsum(sizes[order])).astype(np.int32), pyarrow.array(members))


def pack(samples: datasets.Dataset, size: int, cache_file: Path) -> datasets.Dataset:
    """Return rows of at most `size` tokens, with the columns `input_ids`, `labels`, `length` and `segments`.

    Args:
        samples: dataset with the columns `input_ids`, `labels` and `length`; none is longer than `size`.
        size: tokens that fit into a row.
        cache_file: the file to write the rows to.
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
            _concatenate,
            batched=True,
            fn_kwargs={"samples": samples.with_format("arrow")},
            remove_columns=_MEMBERS,
            features=features,
            cache_file_name=str(cache_file),
            new_fingerprint=cache_file.stem,  # hashing the samples takes long
            load_from_cache_file=False,
        )
        .with_format(None)  # the format would be saved with the rows
    )


def pack_at_once(samples: datasets.Dataset, size: int) -> list[dict[str, list[int]]]:
    """Pack a few samples in memory; see `pack`."""
    if not len(samples):
        return []
    rows = plan(samples.data.column("length").to_numpy(), size)
    return list(_concatenate(pyarrow.table({_MEMBERS: rows}), samples.with_format("arrow")).to_pylist())


def _concatenate(batch: pyarrow.Table, samples: datasets.Dataset) -> pyarrow.Table:
    members = batch[_MEMBERS].combine_chunks()
    found = samples[members.flatten().to_pylist()]
    ends = np.cumsum([0, *found["length"].to_pylist()], dtype=np.int32)
    rows = np.cumsum([0, *members.value_lengths().to_pylist()], dtype=np.int32)
    bounds = pyarrow.array(ends[rows])
    tokens = {name: pyarrow.compute.list_flatten(found[name]).combine_chunks() for name in ("input_ids", "labels")}
    columns = {name: pyarrow.ListArray.from_arrays(bounds, values) for name, values in tokens.items()}
    segments = pyarrow.ListArray.from_arrays(pyarrow.array(rows), pyarrow.array(np.diff(ends)))
    return pyarrow.table({**columns, "length": np.diff(ends[rows]).astype(np.int64), SEGMENTS: segments})
