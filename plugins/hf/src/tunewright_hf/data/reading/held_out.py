"""A share of rows to evaluate on, chosen at random but always alike; rows that are equal stay on one side."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import datasets
import numpy as np

from tunewright.errors import RequestError

_SALT = b"tunewright"
_ROWS = 1000  # that are in memory at once


def divide(rows: datasets.Dataset, fraction: float, cache: Path, *, held_out: bool) -> datasets.Dataset:
    """Return the share of the rows, or the rest, in the order of the files.

    Args:
        rows: all of them.
        fraction: the share that is held out.
        cache: folder in which to note the choice, as both sides are asked for.
        held_out: whether to return the share.

    Raises:
        RequestError: one of the sides would be empty.
    """
    return rows.select(side(rows, fraction, cache, held_out=held_out))


def side(rows: datasets.Dataset, fraction: float, cache: Path, *, held_out: bool) -> np.ndarray:
    """Return the indices of the rows that `divide` returns."""
    noted = cache / f"held-out-{rows._fingerprint}-{fraction}.npy"
    if noted.is_file():
        chosen = np.load(noted)
    else:
        chosen = choose(digests(rows), fraction)
        cache.mkdir(parents=True, exist_ok=True)
        np.save(noted, chosen)
    if not chosen.any() or chosen.all():
        problem = f"leaves no row to {'evaluate' if not chosen.any() else 'train'} on, of {len(rows)}"
        remedy = "Rows that are equal are never on both sides. Give an eval_dataset, or leave it out."
        raise RequestError(problem, field="DataParams.eval_fraction", value=fraction, remedy=remedy)
    return np.flatnonzero(chosen == held_out)


def digests(rows: datasets.Dataset) -> np.ndarray:
    """Return 64 bits for each row; the same for rows that are equal."""
    found = np.empty(len(rows), np.uint64)
    at = 0
    for table in rows.with_format("arrow").iter(_ROWS):
        for row in table.to_pylist():
            text = json.dumps(row, sort_keys=True, default=str)
            found[at] = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=_SALT).digest(), "big")
            at += 1
    return found


def choose(digests: np.ndarray, fraction: float) -> np.ndarray:
    """Return which rows are held out: whole groups of equal ones, in the order of their digests, and at least one."""
    unique, group, sizes = np.unique(digests, return_inverse=True, return_counts=True)
    wanted = max(1, round(fraction * len(digests)))
    taken, left = np.zeros(len(unique), bool), wanted
    for number, size in enumerate(sizes.tolist()):
        if size <= left:
            taken[number], left = True, left - size
        if not left:
            break
    if left == wanted and len(unique) > 1:  # all groups are larger than the share
        taken[int(sizes.argmin())] = True
    return np.asarray(taken[group])
