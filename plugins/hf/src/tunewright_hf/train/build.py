"""Build the Trainer: its arguments, callbacks, collator and data."""

from __future__ import annotations

import inspect

import datasets
import peft
import transformers

from tunewright.errors import RequestError
from tunewright.providers import TrainRun
from tunewright_hf import errors
from tunewright_hf.config.library_arguments import LoraConfig
from tunewright_hf.config.tasks import CAUSAL, Task
from tunewright_hf.data import collators
from tunewright_hf.data import prepare as data_
from tunewright_hf.data.collators import Collator, level
from tunewright_hf.data.packing import SEGMENTS
from tunewright_hf.data.preference import PREFERENCE
from tunewright_hf.data.streaming import Stream
from tunewright_hf.distributed import check_sharding, is_sharded
from tunewright_hf.kernels import recognise
from tunewright_hf.model import adapters, attention
from tunewright_hf.train.checkpoints import Recorded, Unlogged
from tunewright_hf.train.events import Events, Pauses, quiet
from tunewright_hf.train.objective import objective_of
from tunewright_hf.train.provenance import record
from tunewright_hf.train.stream_state import Position
from tunewright_hf.train.trainer import with_speed


def takes_adapter(cls: type[transformers.Trainer]) -> bool:
    """Whether a class makes the adapter itself, so that it can do without it where it compares with the base model."""
    return "peft_config" in inspect.signature(cls.__init__).parameters


def build(
    cls: type[transformers.Trainer],
    args: transformers.TrainingArguments,
    *,
    model: transformers.PreTrainedModel | peft.PeftModel,
    tokenizer: transformers.PreTrainedTokenizerBase,
    train: datasets.Dataset,
    evaluation: datasets.Dataset | None,
    adapter: peft.LoraConfig | None,
) -> transformers.Trainer:
    """A Trainer that is given pairs.

    Args:
        cls: its class; its constructor takes `model`, `args`, `train_dataset`, `eval_dataset` and `processing_class`.
        args: its arguments.
        model: the model.
        tokenizer: the model's own.
        train: pairs.
        evaluation: pairs, or None.
        adapter: for classes that make it themselves, as `peft_config`.
    """
    more = {} if adapter is None else {"peft_config": adapter}
    return cls(model=model, args=args, train_dataset=train, eval_dataset=evaluation, processing_class=tokenizer, **more)


def build_trainer(
    cls: type[transformers.Trainer],
    run: TrainRun,
    args: transformers.TrainingArguments,
    *,
    task: Task,
    model: transformers.PreTrainedModel | peft.PeftModel,
    tokenizer: transformers.PreTrainedTokenizerBase,
    data: data_.Prepared,
    lora: LoraConfig | None = None,
) -> transformers.Trainer:
    """A Trainer of a class, with events, exact counting, and checkpoints that are whole."""
    keep = args.save_total_limit
    args.save_total_limit = None  # `Events` removes older ones, but only once the new one is complete
    args.remove_unused_columns = False  # all columns are ours
    if data.format == PREFERENCE:
        adapter = None if lora is None else adapters.build_lora(lora, task.lora)
        with errors.refused("transformer_class", "Change the argument that it names, or name another class."):
            trainer = build(
                with_speed(cls),
                args,
                model=model,
                tokenizer=tokenizer,
                train=data.train,
                evaluation=data.evaluation,
                adapter=adapter,
            )
    else:
        trainer = _build_our_own(cls, args, task=task, model=model, tokenizer=tokenizer, data=data)
    check_sharding(trainer)
    quiet(trainer)
    recorded = Recorded(run, record(args, data, run))
    # Events declares the checkpoint complete
    position = [Position(data.train, run)] if isinstance(data.train, Stream) else []
    for callback in (Pauses(), Unlogged(trainer, run), recorded, *position, Events(run, keep)):
        trainer.add_callback(callback)
    return trainer


def _build_our_own(
    cls: type[transformers.Trainer],
    args: transformers.TrainingArguments,
    *,
    task: Task,
    model: transformers.PreTrainedModel | peft.PeftModel,
    tokenizer: transformers.PreTrainedTokenizerBase,
    data: data_.Prepared,
) -> transformers.Trainer:
    """A Trainer of samples that were tokenised here."""
    pad_id = collators.pad_id(tokenizer)
    if task is not CAUSAL:
        pad_id = pad_with_known(tokenizer, model.config)
    objective = objective_of(task, model, data.classes, pad_id=pad_id, smoothing=args.label_smoothing_factor)
    with errors.refused("training_parameters", "Change the argument that it names."):
        trainer = with_speed(cls)(
            model=model,
            args=args,
            data_collator=objective.collator,
            train_dataset=data.train,
            eval_dataset=data.evaluation,
            processing_class=tokenizer,
            compute_loss_func=objective.loss,
            compute_metrics=objective.means,
            preprocess_logits_for_metrics=objective.scores,
        )
    if task is CAUSAL:
        trainer.data_collator = collator(trainer, data, pad_id)
    if data.evaluation is not None:  # else the last batch's losses of some ranks would be taken for repeated samples
        trainer.eval_dataset = level(data.evaluation, args.eval_batch_size * args.world_size, pad_id, objective.blank)
    # Only a loss that is divided by the learnt tokens of all ranks can take samples without any.
    divided = trainer.model_accepts_loss_kwargs or objective.loss is not None
    if (
        divided
        and cls.compute_loss is transformers.Trainer.compute_loss  # others may divide by those of a batch
        and isinstance(data.train, datasets.Dataset)
        and args.average_tokens_across_devices
        and not args.dataloader_drop_last
    ):
        step = args.train_batch_size * args.world_size * args.gradient_accumulation_steps
        trainer.train_dataset = level(data.train, step, pad_id, objective.blank)
    return trainer


def pad_with_known(tokenizer: transformers.PreTrainedTokenizerBase, config: transformers.PreTrainedConfig) -> int:
    """The tokenizer's pad, which the model is told: classifiers look for the last token that is none."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    config.pad_token_id = config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return int(tokenizer.pad_token_id)


def collator(trainer: transformers.Trainer, data: data_.Prepared, pad_id: int) -> Collator:
    """Batches without padding where the model allows them.

    Raises:
        RequestError: the data is packed, and the model does not.
    """
    model = trainer.model
    joined = Collator(pad_id, joined=True)
    packed = SEGMENTS in data.train.column_names
    # The noise of NEFTune is scaled by the length of a batch's rows.
    wanted = packed or (attention.is_by_sample(model) and trainer.args.neftune_noise_alpha is None)
    if wanted and attention.keeps_apart(model, joined, sharded=is_sharded(trainer)):
        return joined
    if packed:
        problem = f"does not work with this {type(recognise.base_of(model)).__name__}, which does not keep the samples of a row apart"
        raise RequestError(problem, field="DataParams.packing", value=True, remedy="Leave packing out.")
    return Collator(pad_id)
