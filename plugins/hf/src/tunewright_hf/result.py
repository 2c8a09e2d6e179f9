"""What a training leaves: the model folder with its card, and answers to the sample prompts."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import huggingface_hub
import torch
import transformers

from tunewright.providers import TrainRun
from tunewright_hf.callbacks import barrier, is_sharded
from tunewright_hf.data import Prepared
from tunewright_hf.labels import Encoder
from tunewright_hf.params import HuggingFaceTrainParams
from tunewright_hf.preference import PREFERENCE, is_conversation
from tunewright_hf.real import build_lora, context
from tunewright_hf.record import record
from tunewright_hf.seq2seq import PairEncoder
from tunewright_hf.standins import LoraConfig, differing_fields
from tunewright_hf.stream import Stream
from tunewright_hf.tasks import CLASSIFICATION, SEQ2SEQ, Task

logger = logging.getLogger(__name__)

_ANSWER_TOKENS = 128
_MEANS = ("eval_loss", "eval_accuracy", "eval_mae")


def save(trainer: transformers.Trainer, params: HuggingFaceTrainParams, run: TrainRun, data: Prepared) -> None:
    """Write the model, its tokenizer and its card into `run.result`: all of it or nothing. Called on every rank."""
    stage = run.output / ".model-saving"
    if run.rank == 0:
        shutil.rmtree(stage, ignore_errors=True)
    barrier()
    _write_model(trainer, params, stage)
    barrier()
    if run.rank == 0:
        _finish(stage, trainer, card(trainer, params, run, data))
        shutil.rmtree(run.result, ignore_errors=True)
        stage.rename(run.result)
        if trainer.args.push_to_hub:
            push(trainer, run.result)
        run.emit({"event": "saved", "path": str(run.result)})


def _write_model(trainer: transformers.Trainer, params: HuggingFaceTrainParams, stage: Path) -> None:
    if trainer.is_fsdp_enabled:  # the shards of all ranks become one model, as transformers' documentation does it
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    if not params.merge:
        trainer.save_model(str(stage), _internal_call=True)  # else it would push the checkpoints' folder
    elif trainer.args.should_save:
        trainer.model.merge_and_unload().save_pretrained(stage)
        trainer.processing_class.save_pretrained(stage)


def _finish(stage: Path, trainer: transformers.Trainer, text: str) -> None:
    (stage / "training_args.bin").unlink(missing_ok=True)  # a pickle; the card says the same for people to read
    if getattr(trainer.model, "generation_config", None) is not None:
        trainer.model.generation_config.save_pretrained(stage)
    (stage / "README.md").write_text(text, encoding="utf-8")


def push(trainer: transformers.Trainer, folder: Path) -> None:
    """Upload the result to the Hub, after what the Trainer itself may still be uploading of the checkpoints."""
    trainer._finish_current_push()
    args = trainer.args
    huggingface_hub.HfApi(token=args.hub_token).upload_folder(
        repo_id=trainer.hub_model_id, folder_path=folder, revision=args.hub_revision, commit_message="End of training"
    )


def answer_samples(trainer: transformers.Trainer, params: HuggingFaceTrainParams, form: str, run: TrainRun) -> None:
    """Answer the sample prompts with the trained model, greedily, and send each as a `sample` event. For rank 0.

    The model is saved by now: an answer that fails is logged, and costs nothing else.
    """
    prompts = params.sample_prompts
    if prompts and is_sharded(trainer):
        logger.warning("no samples: the model is sharded over the ranks; load the result to ask it")
        return
    model = trainer.accelerator.unwrap_model(trainer.model).eval()
    for prompt in prompts:
        try:
            text = answer(model, _encoder(trainer, params, form), prompt)
        except Exception as error:  # whatever a model's generate() raises
            logger.warning("no answer to %r: %s: %s", prompt, type(error).__name__, error)
        else:
            run.emit({"event": "sample", "prompt": prompt, "text": text})


def _encoder(trainer: transformers.Trainer, params: HuggingFaceTrainParams, form: str) -> Encoder | PairEncoder:
    tokenizer = trainer.processing_class
    if params.task is SEQ2SEQ:
        return PairEncoder(tokenizer, params.data)
    if form == PREFERENCE:
        form = "chat" if is_conversation(trainer.train_dataset) else "prompt_completion"
    return Encoder(tokenizer, form, params.data)


def answer(model: transformers.PreTrainedModel, encoder: Encoder | PairEncoder, prompt: str) -> str:
    """What the model says to a prompt: at most 128 tokens, and no more than it has room for."""
    tokenizer = encoder.tokenizer
    ids = torch.tensor([encoder.prompt(prompt)], device=model.device)
    asked = 0 if model.config.is_encoder_decoder else ids.shape[1]  # of the tokens that the answer begins with
    room = (context(model.config) or math.inf) - ids.shape[1]
    if room < 1:
        logger.warning("no answer to %r: it fills the model's context", prompt)
        return ""
    settings = model.generation_config
    ends = settings.eos_token_id if settings and settings.eos_token_id is not None else []
    stops = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None}
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        generation_config=transformers.GenerationConfig(
            max_new_tokens=int(min(_ANSWER_TOKENS, room)),
            do_sample=False,
            eos_token_id=sorted(stops) or None,
            pad_token_id=pad_id(tokenizer),
            decoder_start_token_id=getattr(settings, "decoder_start_token_id", None),
        ),
    )
    return str(tokenizer.decode(output[0, asked:], skip_special_tokens=True)).strip()


def pad_id(tokenizer: transformers.PreTrainedTokenizerBase) -> int:
    """What to pad with: pads are masked everywhere, so any token will do that the model has.

    It need not have the tokenizer's own: people add one to a tokenizer, and leave the embeddings as they are.
    """
    return 0 if tokenizer.eos_token_id is None else int(tokenizer.eos_token_id)


def card(trainer: transformers.Trainer, params: HuggingFaceTrainParams, run: TrainRun, data: Prepared) -> str:
    """The model card: how to load the model, and how it came to be."""
    adapter = params.lora_config is not None and not params.merge
    lora = _lora(params.lora_config, params.task) if params.lora_config is not None else None
    labels = data.classes.names if data.classes else ()
    counts, train = data.counts, trainer.train_dataset
    if isinstance(train, Stream):
        counts = {"train": train.window_at(trainer.state.global_step)[0].counts, **counts}
    sections = {
        "Result": _losses(trainer.state.log_history) | {"steps": trainer.state.global_step},
        "Data": {
            "format": data.format,
            "max_length": data.max_length,
            **({"labels": labels} if labels else {}),
            **{name: attrs.asdict(c) for name, c in counts.items()},
        },
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
    loads = _how_to_load(adapter, run, params.task, labels)
    return f"{_head(adapter, params.task)}\n# Model trained with Tunewright\n\n{loads}\n{body}"


def _lora(given: LoraConfig, task: Task) -> dict[str, object]:
    # As it was built: peft puts every single layer's name in the place of "all-linear" when it takes it into use.
    config = build_lora(given, task.lora)
    return differing_fields(config, type(config), LoraConfig.derived)


def _head(adapter: bool, task: Task) -> str:
    tags = "base_model_relation: adapter\n" if adapter else ""
    library = "peft" if adapter else "transformers"
    return f"---\nlibrary_name: {library}\npipeline_tag: {task.pipeline}\n{tags}---\n"


def _how_to_load(adapter: bool, run: TrainRun, task: Task, labels: Sequence[str]) -> str:
    name = task.auto_class
    if not adapter:
        code = f"from transformers import {name}\n\nmodel = {name}.from_pretrained(FOLDER)"
        return f"`FOLDER` is the folder of this file.\n\n```python\n{code}\n```\n"
    # The adapter's folder has no configuration of the model, which would say how many labels there are.
    head = "" if task is not CLASSIFICATION else f", num_labels={len(labels) or 1}"
    head += f", id2label={dict(enumerate(labels))}" if labels else ""
    code = (
        f"from peft import PeftModel\nfrom transformers import {name}\n\n"
        f"base = {name}.from_pretrained(BASE{head})\nmodel = PeftModel.from_pretrained(base, FOLDER)"
    )
    by_itself = (
        f"Where the base model still lies there,\n`peft.{name.replace('AutoModel', 'AutoPeftModel')}.from_pretrained(FOLDER{head})` "
        f"finds it by itself. "
    )
    return (
        f"This is a LoRA adapter. `FOLDER` is the folder of this file, `BASE` the model that it was trained on, which the\n"
        f"job had at `{run.model}`. {by_itself}Train with `merge: true` for a\n"
        f"model that needs no base.\n\n```python\n{code}\n```\n"
    )


def _losses(history: list[dict[str, float]]) -> dict[str, float]:
    """First and last training loss, and the last evaluation's means, of all attempts together."""
    losses = [entry["loss"] for entry in history if "loss" in entry]
    found = {"first_loss": losses[:1], "last_loss": losses[-1:]}
    for name in _MEANS:
        found[name] = [entry[name] for entry in history if name in entry][-1:]
    return {name: values[0] for name, values in found.items() if values}


def resolved_arguments(args: transformers.TrainingArguments) -> dict[str, object]:
    """The arguments that differ from their class's defaults, "automatic" ones resolved; no tokens, no paths."""
    hidden = frozenset({"output_dir", "local_rank", "logging_dir"})
    found = differing_fields(args, type(args), hidden)
    return {name: value for name, value in found.items() if not name.endswith("_token")}


def _json(section: Mapping[str, object]) -> str:
    return json.dumps(section, indent=2, sort_keys=True, default=str)
