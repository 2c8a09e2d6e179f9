"""Check a model's folder without heavy libraries."""

from __future__ import annotations

import json
from pathlib import Path

from tunewright.errors import RequestError


def check_model(folder: Path) -> None:
    """Raise RequestError unless the folder contains a model's `config.json`."""
    if not (folder / "config.json").is_file():
        is_adapter = (folder / "adapter_config.json").is_file()
        adapter = " It contains an adapter: give the model that it belongs to." if is_adapter else ""
        remedy = f"Give a folder as save_pretrained() writes it: config.json, weights and tokenizer.{adapter}"
        raise RequestError("has no config.json", field="model", value=str(folder), remedy=remedy)


def check_result(folder: Path) -> None:
    """Raise RequestError unless the folder contains a finished model or adapter with all of its weights."""
    value, configs = str(folder), ("config.json", "adapter_config.json")
    if not any((folder / name).is_file() for name in configs):
        inner = folder / "model"
        below = f"Give {inner}." if any((inner / name).is_file() for name in configs) else "Give a result's folder."
        problem = f"is not a result: it has neither {' nor '.join(configs)}"
        raise RequestError(problem, field="result", value=value, remedy=below)
    if (folder / "trainer_state.json").is_file():
        remedy = "Give the folder of the finished model: output/model in the job's folder."
        raise RequestError("is a checkpoint", field="result", value=value, remedy=remedy)
    if missing := _missing_weights(folder):
        remedy = "Fetch or copy the result again."
        raise RequestError(f"is incomplete: it lacks {missing}", field="result", value=value, remedy=remedy)


def _missing_weights(folder: Path) -> str:
    """Return what is missing of a folder's weights, for people; "" if they are complete."""
    for index in sorted(folder.glob("*.index.json")):
        parts = set(json.loads(index.read_text("utf-8")).get("weight_map", {}).values())
        if lost := sorted(part for part in parts if not (folder / part).is_file()):
            return ", ".join(lost)
    weights = [path for kind in ("*.safetensors", "*.bin") for path in folder.glob(kind)]
    return "" if any(path.name != "training_args.bin" for path in weights) else "its weights"
