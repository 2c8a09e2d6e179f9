"""What a model card says of where the model, the data and the method came from: for the Hub, and for people."""

from __future__ import annotations

import yaml

from tunewright.providers import TrainRun
from tunewright_hf.config.train_params import MERGE, TrainParams
from tunewright_hf.model.origin import Origin, origin_of


def base_of(run: TrainRun) -> Origin:
    """Return where the model that is trained came from."""
    assert run.model is not None  # noqa: S101 - for the type checker: a training without one was refused
    return origin_of(run.model, run.uris.get("model"))


def datasets_of(run: TrainRun) -> list[Origin]:
    """Return where the datasets that are trained on came from."""
    folders = {"dataset": run.dataset, **{part.slot: part.folder for part in run.mixture}}
    found = {slot: folder for slot, folder in folders.items() if folder is not None}
    return [origin_of(folder, run.uris.get(slot), "dataset") for slot, folder in found.items()]


def head(params: TrainParams, base: Origin, run: TrainRun) -> str:
    """Return the metadata of the card, for the Hub. The licence is the base model's, which a result is bound by."""
    adapter = _is_adapter(params)
    fields: dict[str, object] = {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": params.task.pipeline,
    }
    if base.on_hub:
        fields["base_model"] = base.name
    if base.on_hub or adapter:
        fields["base_model_relation"] = "adapter" if adapter else "finetune"
    if datasets := list(dict.fromkeys(origin.name for origin in datasets_of(run) if origin.on_hub)):
        fields["datasets"] = datasets
    fields |= base.licence
    fields["tags"] = ["tunewright", *(["lora"] if params.lora_config is not None else [])]
    text = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, default_flow_style=False)
    return f"---\n{text}---\n"


def section(params: TrainParams, base: Origin, run: TrainRun, form: str) -> str:
    """Return the section of the card for people.

    Args:
        params: the user's parameters.
        base: the model that was trained.
        run: the run.
        form: the format of the data.
    """
    lines = [f"- Base model: {base}"]
    if run.adapter is not None:
        word = "Merged before" if params.adapter_mode == MERGE else "Continued from"
        lines.append(f"- {word}: {origin_of(run.adapter, run.uris.get('adapter'))}")
    lines += [f"- Data: {origin}" for origin in datasets_of(run)]
    lines.append(f"- Method: {_method(params, form)}")
    return "## How it was made\n\n" + "\n".join(lines) + "\n"


def _method(params: TrainParams, form: str) -> str:
    given = params.lora_config
    where = f", with `{params.transformer_class}`" if params.transformer_class != "Trainer" else ""
    if given is None:
        return f"full fine-tuning on {_NAMES.get(form, form)}{where}"
    name = "DoRA" if given.get("use_dora") else "rsLoRA" if given.get("use_rslora") else "LoRA"
    name = f"{name} on a quantised model" if params.quantization_config is not None else name
    merged = ", merged into the weights" if params.merge else ""
    return f"{name} on {_NAMES.get(form, form)}{where}{merged}"


_NAMES = {
    "chat": "conversations",
    "prompt_completion": "prompts and completions",
    "text": "text",
    "preference": "preference pairs",
    "classification": "labelled texts",
}


def _is_adapter(params: TrainParams) -> bool:
    return params.lora_config is not None and not params.merge
