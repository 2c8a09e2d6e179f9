"""Save the result: the model, its tokenizer and its card."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

import huggingface_hub
import peft
import torch
import transformers

from tunewright.events import Saved
from tunewright.providers import TrainRun
from tunewright_hf.config.train_params import TrainParams
from tunewright_hf.data.prepare import Prepared
from tunewright_hf.distributed import barrier
from tunewright_hf.model.dtypes import SavedDtypes, saved_dtypes
from tunewright_hf.model.folder import needed_model
from tunewright_hf.model.language import copy_processor
from tunewright_hf.model.saved_files import ADAPTER_CONFIG, cast_adapters, finish_files, name_base, name_dtype
from tunewright_hf.phases import say
from tunewright_hf.train import model_card
from tunewright_hf.train.card_origins import base_of

# Files that are loaded as soon as they are beside a model.
_LOADED = ("*.safetensors", "*.bin", "*.index.json", "adapter_config.json")


def save(trainer: transformers.Trainer, params: TrainParams, run: TrainRun, data: Prepared) -> None:
    """Write the model, its tokenizer and its card to `run.result`, all of it or nothing. Call it on every rank."""
    say(run, "save", "merging the adapter and saving the model" if params.merge else "saving the model")
    stage = run.output / ".model-saving"
    if run.rank == 0:
        shutil.rmtree(stage, ignore_errors=True)
    barrier()
    dtypes = saved_dtypes(needed_model(run), params.save_dtype)
    _write_model(trainer, params, stage, dtypes)
    barrier()
    if run.rank == 0:
        _finish(stage, trainer, run, dtypes, params)
        (stage / "README.md").write_text(model_card.render(trainer, params, run, data), encoding="utf-8")
        finish_files(stage, trainer.processing_class)
        shutil.rmtree(run.result, ignore_errors=True)
        stage.rename(run.result)
        if trainer.args.push_to_hub:
            say(run, "upload", f"uploading the model to {trainer.hub_model_id}")
            push(trainer, run.result)
        run.emit(Saved(path=str(run.result)))


def _write_model(trainer: transformers.Trainer, params: TrainParams, stage: Path, dtypes: SavedDtypes) -> None:
    if trainer.is_fsdp_enabled:  # merge the shards of all ranks, as the documentation of transformers says
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    if not params.merge:
        trainer.saved_dtypes = None if _is_adapter(trainer.model) else dtypes
        trainer.save_model(str(stage), _internal_call=True)  # without it, push_to_hub uploads the checkpoints' folder
        trainer.saved_dtypes = None
        if trainer.args.should_save:
            _remove_references(stage)
    elif trainer.args.should_save:
        merged = trainer.model.merge_and_unload()
        merged.save_pretrained(stage, state_dict=dtypes.cast(merged.state_dict()))
        trainer.processing_class.save_pretrained(stage)


def _remove_references(stage: Path) -> None:
    """Remove copies of an adapter that a Trainer class keeps to compare with, as TRL's "ref": PEFT saves all adapters."""
    for config in stage.glob(f"*/{ADAPTER_CONFIG}"):
        shutil.rmtree(config.parent)


def _finish(
    stage: Path, trainer: transformers.Trainer, run: TrainRun, dtypes: SavedDtypes, params: TrainParams
) -> None:
    (stage / "training_args.bin").unlink(missing_ok=True)  # a pickle; the card has the same as readable text
    if getattr(trainer.model, "generation_config", None) is not None:
        trainer.model.generation_config.save_pretrained(stage)
    if params.save_dtype is not None and _is_adapter(trainer.model):
        cast_adapters(stage, dtypes)
    name_dtype(stage, trainer.model.dtype, dtypes.default)
    if not _is_adapter(trainer.model) or params.merge:
        copy_processor(needed_model(run), stage)
    base = base_of(run)
    name_base(stage, base.name, base.revision if base.on_hub else None)


def _is_adapter(model: torch.nn.Module) -> bool:
    return isinstance(model, peft.PeftModel)


def push(trainer: transformers.Trainer, folder: Path) -> None:
    """Upload the result to the Hub, once the Trainer's own upload of checkpoints has finished."""
    trainer._finish_current_push()
    args = trainer.args
    api = huggingface_hub.HfApi(token=args.hub_token)
    there = api.list_repo_files(trainer.hub_model_id, revision=args.hub_revision)
    api.upload_folder(
        repo_id=trainer.hub_model_id,
        folder_path=folder,
        revision=args.hub_revision,
        commit_message="End of training",
        delete_patterns=superseded(there, folder) or None,
    )


def superseded(there: Iterable[str], folder: Path) -> list[str]:
    """Return the files of an earlier result in a repository that the new one lacks: its shards or adapter would be loaded too."""
    weights = [path for path in there if "/" not in path and any(fnmatch(path, name) for name in _LOADED)]
    return [path for path in weights if not (folder / path).exists()]
