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


def adapter_config(folder: Path) -> dict[str, object]:
    """Return the configuration of a LoRA adapter.

    Raises:
        RequestError: the folder has something else, or lacks the weights.
    """
    file, value = folder / "adapter_config.json", str(folder)
    if not file.is_file():
        remedy = "Give a folder as PEFT saves an adapter: adapter_config.json and adapter_model.safetensors."
        whole = " A whole model is given as the model." if (folder / "config.json").is_file() else ""
        inner = f" Give {folder / 'model'}." if (folder / "model" / file.name).is_file() else ""
        raise RequestError("has no adapter_config.json", field="adapter", value=value, remedy=f"{remedy}{whole}{inner}")
    try:
        config = dict(json.loads(file.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        problem, remedy = f"has an adapter_config.json that is not JSON: {error}", "Fetch or copy the adapter again."
        raise RequestError(problem, field="adapter", value=value, remedy=remedy) from error
    if config.get("peft_type") != "LORA":
        remedy = "Merge it into its model with peft, and give the merged model as the model."
        problem = f"is an adapter of the type {config.get('peft_type')}, and only LoRA adapters are continued"
        raise RequestError(problem, field="adapter", value=value, remedy=remedy)
    if not any((folder / f"adapter_model.{kind}").is_file() for kind in ("safetensors", "bin")):
        remedy = "Fetch or copy the adapter again."
        raise RequestError("lacks its weights (adapter_model.safetensors)", field="adapter", value=value, remedy=remedy)
    return config


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
