"""Our layers, and how a rank of `benchmarks.train` goes without one: `--ablate` shows what each is worth."""

from __future__ import annotations

import importlib

PREFIX = "ours_without_"

_FUSE, _ATTENTION = "tunewright_hf.kernels.fuse", "tunewright_hf.model.attention"

LAYERS: dict[str, tuple[str, str, object]] = {
    "lora": (_FUSE, "fuse_lora", 0),
    "loss": (_FUSE, "fuse_loss", False),
    "norms": (_FUSE, "fuse_norms", 0),
    "rotary": (_FUSE, "fuse_rotary", 0),
    "gates": (_FUSE, "fuse_gates", 0),
    "allocator": (_FUSE, "keep_freed_memory", None),
    "segments": (_ATTENTION, "supports_segments", False),
}
"""The module that uses each layer, the function that puts it in, and what that returns where it does not."""


def leave_out(arm: str) -> None:
    """Let this process train without the layer that an arm of ours leaves out, if any."""
    if arm.startswith(PREFIX):
        module, function, returned = LAYERS[arm.removeprefix(PREFIX)]
        setattr(importlib.import_module(module), function, lambda *_, **__: returned)
