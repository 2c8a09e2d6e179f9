"""The dtypes that a result's weights are saved in: those that the model's own files have, or one that the user names."""

from __future__ import annotations

import collections
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import safetensors
import torch
import transformers

from tunewright.errors import RequestError

# By their names in the headers of safetensors. Weights in other dtypes are quantised, and stay as they are.
_NAMES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@attrs.frozen(kw_only=True)
class SavedDtypes:
    """The dtype of each floating-point weight in a result.

    Attributes:
        default: of weights that are not named; None leaves them as they are.
        named: by the names of weights.
    """

    default: torch.dtype | None = None
    named: Mapping[str, torch.dtype] = attrs.field(factory=dict)

    def cast(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return a state dict in these dtypes. What is converted is in CPU memory, and tied weights stay tied."""
        done: dict[object, torch.Tensor] = {}
        return {name: self._converted(name, tensor, done) for name, tensor in state.items()}

    def _converted(self, name: str, tensor: torch.Tensor, done: dict[object, torch.Tensor]) -> torch.Tensor:
        wanted = self.named.get(name, self.default)
        if wanted is None or tensor.dtype == wanted or tensor.dtype not in _NAMES.values():
            return tensor
        if type(tensor) not in (torch.Tensor, torch.nn.Parameter):  # a DTensor, which is gathered later
            return tensor.detach().to(wanted)
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.device, wanted)
        if key not in done:
            done[key] = tensor.detach().to("cpu", wanted)
        return done[key]


def saved_dtypes(folder: Path, wanted: str | None) -> SavedDtypes:
    """Return the dtypes for a result.

    Args:
        folder: the folder of the model that was trained.
        wanted: the name of a dtype of torch for all weights; None for the model's own.
    """
    if wanted is not None:
        return SavedDtypes(default=getattr(torch, wanted))
    named, sizes = _in_files(folder)
    usual = max(sizes, key=lambda dtype: sizes[dtype], default=None)
    return SavedDtypes(default=_in_config(folder) or usual, named=named)


def _in_files(folder: Path) -> tuple[dict[str, torch.dtype], Mapping[torch.dtype, int]]:
    """Return the dtypes of the weights in a folder's safetensors by name, and the bytes in each dtype."""
    named: dict[str, torch.dtype] = {}
    sizes: collections.Counter[torch.dtype] = collections.Counter()
    for file in sorted(folder.glob("*.safetensors")):
        for name, tensor in header(file).items():
            if (dtype := _NAMES.get(str(tensor.get("dtype")))) is not None:
                start, stop = tensor["data_offsets"]
                named[name] = dtype
                sizes[dtype] += stop - start
    return named, sizes


def header(file: Path) -> dict[str, dict[str, Any]]:
    """Return the header of a file of safetensors, by tensor: `dtype`, `shape` and `data_offsets`."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        return dict(json.loads(stream.read(length)))


def shapes_in(file: Path, field: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors in a file of safetensors by name, without reading them.

    Args:
        file: the file.
        field: the input that it belongs to.

    Raises:
        RequestError: the file is damaged.
    """
    try:
        with safetensors.safe_open(file, "pt") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        problem = f"has a damaged file, {file.name}: {error}"
        raise RequestError(problem, field=field, value=str(file.parent), remedy="Fetch or copy it again.") from error


def _in_config(folder: Path) -> torch.dtype | None:
    """Return the dtype that a model's configuration names. It is read as JSON, as the model's own code is not needed."""
    config = json.loads((folder / transformers.utils.CONFIG_NAME).read_text("utf-8"))
    name = config.get("dtype") or config.get("torch_dtype")
    dtype = getattr(torch, str(name).removeprefix("torch."), None) if name else None
    return dtype if dtype in _NAMES.values() else None
