"""Which files of an earlier result a new one supersedes: what is loaded with it, whoever has put it there, and what its marker names.

A file that only resembles weights stays: `embeddings.safetensors` may be a user's own.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection

from tunewright.runner.checkpoints import CHECKPOINTS, MARKER

# What transformers, PEFT, diffusers and servers load as soon as it is beside a model, whatever else is there.
_WEIGHTS = (
    "model.safetensors", "model.*.safetensors", "*-?????-of-?????.safetensors", "consolidated*.safetensors",
    "pytorch_model*.bin", "diffusion_pytorch_model.*", "pytorch_lora_weights.*", "adapter_config.json", "adapter_model.*",
    "adapter_model-*", "tf_model.h5", "tf_model-*.h5", "flax_model.msgpack", "flax_model-*.msgpack", "training_args.bin",
    "*.safetensors.index*.json", "*.bin.index*.json", "*.h5.index*.json", "*.msgpack.index*.json",
)  # fmt: skip
# File of a result → what is read with it if it is there.
_READ_WITH = {
    "config.json": ("generation_config.json",),
    "tokenizer_config.json": (
        "tokenizer.json", "added_tokens.json", "special_tokens_map.json", "chat_template.jinja", "chat_template.json"
    ),
}  # fmt: skip


def superseded(there: Collection[str], named: Collection[str], new: Collection[str]) -> set[str]:
    """Return the paths to remove.

    Args:
        there: what the store holds.
        named: what the marker of the earlier result names.
        new: what the new result consists of.
    """
    loaded = {p for p in there if "/" not in p and any(fnmatch.fnmatchcase(p, name) for name in _WEIGHTS)}
    read = {path for name, paths in _READ_WITH.items() if name in new for path in paths}
    return (loaded | ({*named, *read} & {*there})) - {*new}


def is_beside_model(path: str) -> bool:
    """Return whether a file is one that Tunewright or the service keeps beside a model, or a licence."""
    return path == MARKER or path.startswith((f"{CHECKPOINTS}/", ".", "LICENSE"))
