"""Check a model's folder without heavy libraries."""

from __future__ import annotations

from pathlib import Path

from tunewright.errors import RequestError


def check_model(folder: Path) -> None:
    """Raise RequestError unless the folder contains a model's `config.json`."""
    if not (folder / "config.json").is_file():
        is_adapter = (folder / "adapter_config.json").is_file()
        adapter = " It contains an adapter: give the model that it belongs to." if is_adapter else ""
        remedy = f"Give a folder as save_pretrained() writes it: config.json, weights and tokenizer.{adapter}"
        raise RequestError("has no config.json", field="model", value=str(folder), remedy=remedy)
