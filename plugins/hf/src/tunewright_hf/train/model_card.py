"""The model card of a result: how to load it, and how it was trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import attrs
import transformers

from tunewright.providers import TrainRun
from tunewright_hf.config.library_arguments import LoraConfig, differing_fields
from tunewright_hf.config.tasks import Task
from tunewright_hf.config.train_params import TrainParams
from tunewright_hf.data.mixed_stream import MixedStream
from tunewright_hf.data.mixing.mixture_order import Mixture
from tunewright_hf.data.prepare import Prepared
from tunewright_hf.data.samples.encode import Counts
from tunewright_hf.data.streaming import Stream
from tunewright_hf.model.adapters import build_lora
from tunewright_hf.model.config import auto_class_of
from tunewright_hf.train import card_origins
from tunewright_hf.train.by_source import of_each
from tunewright_hf.train.card_origins import base_of
from tunewright_hf.train.provenance import record
from tunewright_hf.train.usage_example import Usage

_PROMPT = "Hello"
_MEANS = ("eval_loss", "eval_accuracy", "eval_mae")


def render(trainer: transformers.Trainer, params: TrainParams, run: TrainRun, data: Prepared) -> str:
    """Return the text of the model card."""
    adapter = params.lora_config is not None and not params.merge
    lora = _lora(params.lora_config, params.task) if params.lora_config is not None else None
    labels = data.classes.names if data.classes else ()
    counts, train = data.counts, trainer.train_dataset
    parts = data.parts
    if isinstance(train, Stream):
        counts = {"train": train.counts_at(trainer.state.global_step), **counts}
    if isinstance(train, MixedStream):
        read = train.part_counts_at(trainer.state.global_step)
        parts = {name: {"train": read[name], **more} for name, more in parts.items()}
    sections = {
        "Result": _losses(trainer.state.log_history) | {"steps": trainer.state.global_step},
        "Data": {
            "format": data.format,
            "max_length": data.max_length,
            **({"labels": labels} if labels else {}),
            **{name: attrs.asdict(c) for name, c in counts.items()},
        },
        "Mixture": _mixture(run, data.mixture, parts, trainer.state.log_history) if data.mixture else None,
        "Data parameters": attrs.asdict(params.data),
        "TrainingArguments that differ from transformers' defaults": resolved_arguments(trainer.args),
        "LoraConfig that differs from peft's defaults": lora,
        "Run": {
            "trainer": params.transformer_class,
            "weights": str(next(trainer.model.parameters()).dtype),
            **record(trainer.args, data, run),
        },
    }
    body = "\n".join(f"## {title}\n\n```json\n{_json(s)}\n```\n" for title, s in sections.items() if s)
    base = base_of(run)
    usage = Usage(
        task=params.task,
        adapter=adapter,
        base=base,
        labels=labels,
        prompt=next(iter(params.sample_prompts), _PROMPT),
        turns=data.turns,
        trusted=params.trust_remote_code,
        loader=auto_class_of(trainer.model.config, params.task),
    )
    made = card_origins.section(params, base, run, data.format)
    head = card_origins.head(params, base, run)
    return f"{head}\n# Model trained with Tunewright\n\n{usage.section()}\n{made}\n{body}"


def _mixture(
    run: TrainRun, mixture: Mixture, parts: Mapping[str, Mapping[str, Counts]], history: Sequence[Mapping[str, float]]
) -> dict[str, object]:
    """Return, by dataset, its share, how it is read, and what was trained on, over all attempts."""
    logs = [of_each(entry, mixture.names) for entry in history if "loss" in entry]
    trained = {
        m: {name: sum(int(log[name].get(m, 0)) for log in logs) for name in mixture.names}
        for m in ("samples", "tokens")
    }
    found: dict[str, object] = {}
    for part in run.mixture:
        losses = [log[part.name]["loss"] for log in logs if "loss" in log[part.name]]
        found[part.name] = {
            "share": mixture.shares[part.name],
            "repeat": part.repeat,
            "data": dict(part.data),
            **{name: attrs.asdict(counts) for name, counts in parts[part.name].items()},
            **{f"trained_{m}": by_name[part.name] for m, by_name in trained.items()},
            **{f"share_of_{m}": by_name[part.name] / max(sum(by_name.values()), 1) for m, by_name in trained.items()},
            **({"first_loss": losses[0], "last_loss": losses[-1]} if losses else {}),
        }
    return found


def _lora(given: LoraConfig, task: Task) -> dict[str, object]:
    # Built anew, because PEFT replaces "all-linear" by the names of all layers when it applies a configuration.
    config = build_lora(given, task.lora)
    return differing_fields(config, type(config), LoraConfig.derived)


def _losses(history: list[dict[str, float]]) -> dict[str, float]:
    """Return the first and last training loss and the last evaluation's metrics, over all attempts."""
    losses = [entry["loss"] for entry in history if "loss" in entry]
    found = {"first_loss": losses[:1], "last_loss": losses[-1:]}
    for name in _MEANS:
        found[name] = [entry[name] for entry in history if name in entry][-1:]
    return {name: values[0] for name, values in found.items() if values}


def resolved_arguments(args: transformers.TrainingArguments) -> dict[str, object]:
    """Return the arguments that differ from their class's defaults, as resolved, without tokens and paths."""
    hidden = frozenset({"output_dir", "local_rank", "logging_dir"})
    found = differing_fields(args, type(args), hidden)
    return {name: value for name, value in found.items() if not name.endswith("_token")}


def _json(section: Mapping[str, object]) -> str:
    return json.dumps(section, indent=2, sort_keys=True, default=str)
