"""Packing: short samples share a row of the longest sample's length. Done once, when the data is tokenised."""

from __future__ import annotations

import bisect
import logging
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import pyarrow.compute

logger = logging.getLogger(__name__)

SEGMENTS = "segments"
"""The column of packed rows that has the lengths of their samples, in tokens."""

_MEMBERS = "members"


def plan(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Which samples share a row: each, from the longest to the shortest, goes where it leaves the least room.

    Best-fit decreasing needs at most 11/9 of the fewest rows that are possible (Johnson 1973, "Near-optimal bin packing
    algorithms").

    Args:
        lengths: of the samples, in tokens; none is longer than `size`.
        size: tokens that fit into a row.

    Returns:
        Rows as indices of samples, both in the order of the dataset: rows by their first sample.
    """
    rows: list[list[int]] = []
    with_room: dict[int, list[int]] = {}  # rows by the tokens that still fit in
    rooms: list[int] = []  # its keys, sorted
    for sample in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[sample]
        at = bisect.bisect_left(rooms, length)
        if at < len(rooms):
            room = rooms[at]
            row = with_room[room].pop()
            if not with_room[room]:
                del with_room[room], rooms[at]
        else:
            room, row = size, len(rows)
            rows.append([])
        rows[row].append(sample)
        left = room - length
        if left not in with_room:
            bisect.insort(rooms, left)
        with_room.setdefault(left, []).append(row)
    return sorted(sorted(row) for row in rows)


def pack(samples: datasets.Dataset, size: int, cache_file: Path) -> datasets.Dataset:
    """Rows of at most `size` tokens, with the columns `input_ids`, `labels`, `length` and `segments`.

    Args:
        samples: with the columns `input_ids`, `labels` and `length`, of which none is longer than `size`.
        size: tokens that fit into a row.
        cache_file: where to write the rows to.
    """
    lengths = samples["length"][:]
    rows = plan(lengths, size)
    ids = samples.features["input_ids"]
    features = datasets.Features({"input_ids": ids, "labels": ids, "length": samples.features["length"], SEGMENTS: ids})
    logger.info(
        "%d samples in %d rows of %d tokens, %.1f%% full", len(samples), len(rows), size, _full(lengths, rows, size)
    )
    return (
        datasets.Dataset.from_dict({_MEMBERS: rows})
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


def _full(lengths: Sequence[int], rows: Sequence[object], size: int) -> float:
    return 100 * sum(lengths) / (len(rows) * size)


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
