"""What is changed in the files that transformers and PEFT have saved, before they are a result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
import transformers

from tunewright_hf.model.dtypes import SavedDtypes

ADAPTER_CONFIG = "adapter_config.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_DTYPE_KEYS = ("dtype", "torch_dtype")


def finish_files(folder: Path, tokenizer: transformers.PreTrainedTokenizerBase) -> None:
    """Let transformers 4 read the tokenizer, and give all files the mode that the umask gives to new ones."""
    _rewrite(folder / _TOKENIZER_CONFIG, lambda config: _portable(config, tokenizer))
    probe = folder / ".mode"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.chmod(mode)  # safetensors writes files that only their owner may read


def _portable(config: dict[str, object], tokenizer: transformers.PreTrainedTokenizerBase) -> dict[str, object]:
    """Return a tokenizer's configuration in words that transformers 4 and 5 both read."""
    changed = {name: value for name, value in config.items() if name not in ("is_local", "local_files_only")}
    if changed.get("tokenizer_class") == "TokenizersBackend":
        changed["tokenizer_class"] = "PreTrainedTokenizerFast"
        changed.setdefault("model_input_names", tokenizer.model_input_names)  # transformers 4 adds token_type_ids
    if isinstance(changed.get("extra_special_tokens"), list):  # a dict in transformers 4
        changed["additional_special_tokens"] = changed.pop("extra_special_tokens")
    return changed


def name_dtype(folder: Path, before: torch.dtype, after: torch.dtype | None) -> None:
    """Write the dtype that weights were saved in into a model's configuration, in place of the one that it was trained in."""
    if after is not None:
        _rewrite(folder / transformers.utils.CONFIG_NAME, lambda config: _renamed(config, _word(before), _word(after)))


def _renamed(config: dict[str, object], before: str, after: str) -> dict[str, object]:
    """Return a configuration with another dtype, those of its parts included."""
    changed = {k: _renamed(v, before, after) if isinstance(v, dict) else v for k, v in config.items()}
    return {k: after if k in _DTYPE_KEYS and v == before else v for k, v in changed.items()}


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def cast_adapters(folder: Path, dtypes: SavedDtypes) -> None:
    """Convert the weights of all adapters below a folder."""
    for file in folder.rglob("adapter_model.safetensors"):
        state = dtypes.cast(safetensors.torch.load_file(file))
        safetensors.torch.save_file(state, file, metadata={"format": "pt"})


def name_base(folder: Path, name: str, revision: str | None) -> None:
    """Write the base model into the configurations of all adapters below a folder.

    It is not set before PEFT saves: PEFT would look for the model on the Hub, from a container that may not reach it.
    """
    for file in folder.rglob(ADAPTER_CONFIG):
        _rewrite(file, lambda config: {**config, "base_model_name_or_path": name, "revision": revision})


def _rewrite(file: Path, change: Callable[[dict[str, object]], dict[str, object]]) -> None:
    """Change a JSON file, where it exists."""
    if file.is_file():
        changed = change(json.loads(file.read_text("utf-8")))
        file.write_text(json.dumps(changed, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
