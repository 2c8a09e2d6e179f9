"""Save the result: the model, its tokenizer and its card."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub
import transformers

from tunewright.events import Saved
from tunewright.providers import TrainRun
from tunewright_hf.config.train_params import TrainParams
from tunewright_hf.data.prepare import Prepared
from tunewright_hf.distributed import barrier
from tunewright_hf.phases import say
from tunewright_hf.train import model_card


def save(trainer: transformers.Trainer, params: TrainParams, run: TrainRun, data: Prepared) -> None:
    """Write the model, its tokenizer and its card to `run.result`, all of it or nothing. Call it on every rank."""
    say(run, "save", "merging the adapter and saving the model" if params.merge else "saving the model")
    stage = run.output / ".model-saving"
    if run.rank == 0:
        shutil.rmtree(stage, ignore_errors=True)
    barrier()
    _write_model(trainer, params, stage)
    barrier()
    if run.rank == 0:
        _finish(stage, trainer, model_card.render(trainer, params, run, data))
        shutil.rmtree(run.result, ignore_errors=True)
        stage.rename(run.result)
        if trainer.args.push_to_hub:
            say(run, "upload", f"uploading the model to {trainer.hub_model_id}")
            push(trainer, run.result)
        run.emit(Saved(path=str(run.result)))


def _write_model(trainer: transformers.Trainer, params: TrainParams, stage: Path) -> None:
    if trainer.is_fsdp_enabled:  # merge the shards of all ranks, as the documentation of transformers says
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    if not params.merge:
        trainer.save_model(str(stage), _internal_call=True)  # without it, push_to_hub uploads the checkpoints' folder
    elif trainer.args.should_save:
        trainer.model.merge_and_unload().save_pretrained(stage)
        trainer.processing_class.save_pretrained(stage)


def _finish(stage: Path, trainer: transformers.Trainer, text: str) -> None:
    (stage / "training_args.bin").unlink(missing_ok=True)  # a pickle; the card has the same as readable text
    if getattr(trainer.model, "generation_config", None) is not None:
        trainer.model.generation_config.save_pretrained(stage)
    (stage / "README.md").write_text(text, encoding="utf-8")


def push(trainer: transformers.Trainer, folder: Path) -> None:
    """Upload the result to the Hub, once the Trainer's own upload of checkpoints has finished."""
    trainer._finish_current_push()
    args = trainer.args
    huggingface_hub.HfApi(token=args.hub_token).upload_folder(
        repo_id=trainer.hub_model_id, folder_path=folder, revision=args.hub_revision, commit_message="End of training"
    )
