"""Choose the files of a repository to fetch: one format of the weights, one configuration and split of the data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from tunewright import ExitCode, FetchError, RequestError
from tunewright.providers import Entry
from tunewright_hf.config.dataset_part import DatasetPart
from tunewright_hf.data.reading.bad_data import BadFileError
from tunewright_hf.data.reading.card import NAME as CARD
from tunewright_hf.data.reading.card import parse_card
from tunewright_hf.data.reading.split_files import choose_files

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


def of_part(entries: Iterable[Entry], part: DatasetPart, card: str, repository: str) -> Iterator[Entry]:
    """Yield the files that a part of a dataset needs; see `choose_files`.

    Args:
        entries: the files that may be fetched.
        part: the configuration and the split.
        card: the text of the repository's card; "" without one.
        repository: its URI, for errors.

    Raises:
        FetchError: NOT_FOUND: there is no such configuration or split, or several configurations and none is named.
            BAD_DATA: the card is not written as `datasets` reads it.
    """
    given = {PurePosixPath(entry.path): entry for entry in entries}
    try:
        found = parse_card(card, Path(CARD))
        chosen = choose_files(list(given), found, config=part.config, split=part.split, where=repository)
    except BadFileError as error:
        raise FetchError(f"{repository}: {error}.", remedy=error.remedy, code=ExitCode.BAD_DATA) from error
    except RequestError as error:
        raise FetchError(f"{repository} {error.problem}.", remedy=error.remedy, code=ExitCode.NOT_FOUND) from error
    return (entry for path, entry in given.items() if path in chosen)
