"""Choose the files of a repository to fetch: one format of the weights, one split of the data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tunewright import ExitCode, FetchError
from tunewright.providers import Entry
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.data.files import split_name

# Names of weights in transformers, diffusers and PEFT: `model.fp16.safetensors`, `pytorch_model-00001-of-00002.bin`,
# `flax_model.msgpack.index.json`, `adapter_model.bin`.
_WEIGHTS = re.compile(
    r"(?:pytorch_|tf_|flax_|rust_)?(?P<stem>(?:[a-z]+_)*model)(?P<variant>\.[a-z0-9_]+)?"
    r"(?:-(?P<number>\d{5})-of-(?P<count>\d{5}))?\.(?P<format>safetensors|bin|pt|pth|h5|msgpack|ot)(?P<index>\.index\.json)?"
)

_ONNX = (".onnx", ".onnx_data")

_Weights = tuple[str, str, str]
"""Folder, stem and variant: the key of weights that may exist in several formats."""


def without_duplicates(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Leave out weights that the same folder also has as safetensors.

    This concerns files named as weights in another format (`pytorch_model*.bin`, `.pt` and `.pth`, `tf_model*.h5`,
    `flax_model*.msgpack`, `rust_model.ot`, and the index files of their shards) if their folder has all shards of the
    safetensors of the same stem and variant; and `model.onnx` and the contents of a folder `onnx` beside such a `model`.
    Everything else is kept: `training_args.bin`, `optimizer.pt`, weights of another variant.
    """
    shards: dict[tuple[_Weights, int], set[str | None]] = {}
    doubtful: list[tuple[_Weights, Entry]] = []
    for entry in entries:
        folder, _, name = entry.path.rpartition("/")
        found = _WEIGHTS.fullmatch(name)
        weights = (folder, found["stem"], found["variant"] or "") if found else _exported(folder, name)
        if weights is not None and not (found and found["format"] == "safetensors"):
            doubtful.append((weights, entry))
            continue
        if weights is not None and found and not found["index"]:
            shards.setdefault((weights, int(found["count"] or 1)), set()).add(found["number"])
        yield entry
    whole = {weights for (weights, count), numbers in shards.items() if len(numbers) == count}
    yield from (entry for weights, entry in doubtful if weights not in whole)


def _exported(folder: str, name: str) -> _Weights | None:
    """Return the weights that an ONNX file was exported from; None if the file is not ONNX."""
    above, _, last = folder.rpartition("/")
    if not name.endswith(_ONNX):
        return None
    if last == "onnx":
        return above, "model", ""
    return (folder, "model", "") if name.removesuffix("_data") == "model.onnx" else None


def of_split(entries: Iterable[Entry], split: str) -> Iterator[Entry]:
    """Leave out files of other splits, as the names of files and folders tell them; what names none stays.

    Raises:
        FetchError: NOT_FOUND: no file names the split; data that names none is "train".
    """
    params, others, found = DataParams(train_split=split), set(), split == "train"
    for entry in entries:
        name = split_name(Path(entry.path), params)
        if name in (None, split):
            found = found or name == split
            yield entry
        else:
            others.add(name)
    if not found:
        there = ", ".join(sorted(map(str, others))) or "none"
        cause = f"No file is named by the split {split!r}; the splits that files are named by: {there}."
        raise FetchError(cause, remedy="Give split= one of them, or leave it out.", code=ExitCode.NOT_FOUND)
