"""What a training leaves: the model folder with its card, and answers to the sample prompts."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import huggingface_hub
import transformers

from tunewright.events import Saved
from tunewright.providers import TrainRun
from tunewright_hf.config.train_params import TrainParams
from tunewright_hf.data.prepare import Prepared
from tunewright_hf.distributed import barrier
from tunewright_hf.train.model_card import card

logger = logging.getLogger(__name__)


def save(trainer: transformers.Trainer, params: TrainParams, run: TrainRun, data: Prepared) -> None:
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
        run.emit(Saved(path=str(run.result)))


def _write_model(trainer: transformers.Trainer, params: TrainParams, stage: Path) -> None:
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
