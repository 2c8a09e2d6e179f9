"""Build the Trainer: its callbacks, collator and data."""

from __future__ import annotations

import inspect
import logging

import datasets
import peft
import transformers

from tunewright.errors import RequestError
from tunewright.providers import TrainRun
from tunewright_hf import errors
from tunewright_hf.config.library_arguments import LoraConfig
from tunewright_hf.config.tasks import CAUSAL, Task
from tunewright_hf.config.train_params import TrainParams
from tunewright_hf.data import prepare as data_
from tunewright_hf.data.mixing.mixture_order import SOURCE, Order
from tunewright_hf.data.samples.collators import Collator, fill_up
from tunewright_hf.data.samples.packing import SEGMENTS
from tunewright_hf.data.samples.preference import PREFERENCE
from tunewright_hf.data.streaming import Stream
from tunewright_hf.data.tokenize import pad_token_id
from tunewright_hf.distributed import check_sharding, is_sharded
from tunewright_hf.kernels import fuse
from tunewright_hf.model import adapters, attention, probe
from tunewright_hf.train import activation_memory
from tunewright_hf.train.by_source import SourceCollator, SourceMeter, measure_loss
from tunewright_hf.train.checkpoints import ProvenanceCallback, UnloggedLoss
from tunewright_hf.train.events import EventCallback, TrainingClock, remove_printer
from tunewright_hf.train.extensions import uses_models_loss
from tunewright_hf.train.objective import objective_of
from tunewright_hf.train.provenance import record
from tunewright_hf.train.stream_state import StreamStateCallback
from tunewright_hf.train.trainer import computes_loss_as_usual, instrumented

logger = logging.getLogger(__name__)


def creates_adapter(cls: type[transformers.Trainer]) -> bool:
    """Return whether a Trainer class creates the adapter itself, to use the bare model as its reference."""
    return "peft_config" in inspect.signature(cls.__init__).parameters


def build_preference_trainer(
    cls: type[transformers.Trainer],
    args: transformers.TrainingArguments,
    *,
    model: transformers.PreTrainedModel | peft.PeftModel,
    tokenizer: transformers.PreTrainedTokenizerBase,
    train: datasets.Dataset,
    evaluation: datasets.Dataset | None,
    adapter: peft.LoraConfig | None,
) -> transformers.Trainer:
    """Return a Trainer for preference pairs.

    Args:
        cls: a class whose constructor takes `model`, `args`, `train_dataset`, `eval_dataset` and `processing_class`.
        args: the Trainer's arguments.
        model: the model.
        tokenizer: the model's tokenizer.
        train: pairs to train on.
        evaluation: pairs to evaluate on, or None.
        adapter: passed as `peft_config` to classes that create the adapter themselves.
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
    """Return a Trainer that emits events, measures throughput, and writes complete checkpoints."""
    keep = args.save_total_limit
    args.save_total_limit = None  # `EventCallback` removes older ones, but only once the new one is complete
    args.remove_unused_columns = False  # the collator needs all of them
    if data.format == PREFERENCE:
        adapter = None if lora is None else adapters.fit_to(adapters.build_lora(lora, task.lora), model)
        with errors.as_request_error("transformer_class", "Change the argument that it names, or name another class."):
            trainer = build_preference_trainer(
                instrumented(cls),
                args,
                model=model,
                tokenizer=tokenizer,
                train=data.train,
                evaluation=data.evaluation,
                adapter=adapter,
            )
    else:
        trainer = _build_tokenised_trainer(cls, args, task=task, model=model, tokenizer=tokenizer, data=data)
    trainer.reports_to = run
    check_sharding(trainer)
    remove_printer(trainer)
    recorded = ProvenanceCallback(run, record(args, data, run))
    sources = data.mixture.names if data.mixture else ()
    # EventCallback comes last: it marks the checkpoint complete.
    stream_state = [StreamStateCallback(data.train, run)] if isinstance(data.train, Stream) else []
    for callback in (
        TrainingClock(),
        UnloggedLoss(trainer, run),
        recorded,
        *stream_state,
        EventCallback(run, keep, sources),
    ):
        trainer.add_callback(callback)
    return trainer


def _build_tokenised_trainer(
    cls: type[transformers.Trainer],
    args: transformers.TrainingArguments,
    *,
    task: Task,
    model: transformers.PreTrainedModel | peft.PeftModel,
    tokenizer: transformers.PreTrainedTokenizerBase,
    data: data_.Prepared,
) -> transformers.Trainer:
    """Return a Trainer for samples that Tunewright tokenised."""
    pad_id = pad_token_id(tokenizer)
    if task is not CAUSAL:
        pad_id = set_pad_token(tokenizer, model.config)
    meter = SourceMeter(data.mixture.names, args.device) if data.mixture else None
    smoothing = args.label_smoothing_factor
    objective = objective_of(task, model, data.classes, pad_id=pad_id, smoothing=smoothing, meter=meter)
    if meter and data.evaluation is not None and SOURCE in data.evaluation.column_names:
        objective = objective.by_source(meter)
    with errors.as_request_error("training_parameters", "Change the argument that it names."):
        trainer = instrumented(cls)(
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
        _set_collator(trainer, objective.collator, data, pad_id)
    # Else accelerate would cut losses of the last batch as those of repeated samples.
    if data.evaluation is not None and trainer.eval_dataset is data.evaluation:
        trainer.eval_dataset = fill_up(data.evaluation, args.eval_batch_size * args.world_size, pad_id, objective.blank)
    # Samples without labels are harmless only if the loss is divided by the supervised tokens of all ranks.
    divided = trainer.model_accepts_loss_kwargs or objective.loss is not None
    if (
        divided
        and uses_models_loss(cls)  # others may divide by the tokens of a batch
        and trainer.train_dataset is data.train  # and not what the Trainer class makes of it
        and isinstance(data.train, datasets.Dataset)
        and args.average_tokens_across_devices
        and not args.dataloader_drop_last
    ):
        step = args.train_batch_size * args.world_size * args.gradient_accumulation_steps
        trainer.train_dataset = fill_up(data.train, step, pad_id, objective.blank, count=data.known_samples)
    if data.mixture is not None:
        trainer.by_source = meter
        trainer.data_collator = SourceCollator(trainer.data_collator, len(data.mixture.names))
        if data.mixture.costs is not None:
            seed = args.seed if args.data_seed is None else args.data_seed
            trainer.order = Order(data.mixture, None if args.train_sampling_strategy == "sequential" else seed)
    return trainer


def _set_collator(trainer: transformers.Trainer, given: object, data: data_.Prepared, pad_id: int) -> None:
    """Give a Trainer the collator that suits the model, unless its class has one of its own instead of the given one."""
    cls = type(trainer).__mro__[2]  # below those of `instrumented`
    chosen = choose_collator(trainer, data, pad_id, models_loss=uses_models_loss(cls))
    if trainer.data_collator is given:
        trainer.data_collator = chosen
    elif SEGMENTS in data.train.column_names:
        problem = f"does not work with {cls.__name__}, which makes the batches itself"
        raise RequestError(problem, field="DataParams.packing", value=True, remedy="Leave packing out.")


def fuse_layers(trainer: transformers.Trainer, params: TrainParams) -> None:
    """Replace layers by faster ones if the user wants it, and let the loss of a mixture be measured by dataset."""
    meter, args = trainer.by_source, trainer.args
    record, usual = meter.record if meter else None, computes_loss_as_usual(trainer)
    fused = params.fused_layers and fuse.fuse(trainer, record, own_loss=not usual)
    trainer.returns_losses = fused
    trainer.loss_apart = params.task is CAUSAL and usual and not (fused or args.use_liger_kernel)
    if meter is None or fused or params.task is not CAUSAL:
        return
    replaced = args.torch_compile or args.use_liger_kernel or args.n_gpu > 1 or args.label_smoothing_factor
    if replaced or not measure_loss(trainer.model, meter):
        logger.warning(
            "no training loss by dataset: the model, an argument or a kernel computes the loss in its own way"
        )


def set_pad_token(tokenizer: transformers.PreTrainedTokenizerBase, config: transformers.PreTrainedConfig) -> int:
    """Give the tokenizer and the model the same pad token, and return it: classifiers look for the last other token."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    config.pad_token_id = config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return int(tokenizer.pad_token_id)


def choose_collator(
    trainer: transformers.Trainer, data: data_.Prepared, pad_id: int, *, models_loss: bool = True
) -> Collator:
    """Return a padding-free collator if the model supports it, else one that pads.

    Raises:
        RequestError: the model cannot be trained as a causal language model, or the data is packed, and the model does not
            support padding-free batches.
    """
    model = trainer.model
    sharded, padding_free = is_sharded(trainer), Collator(pad_id, padding_free=True)
    if not sharded:
        probe.check_causal(model, autocast=trainer.accelerator.autocast(), loss=models_loss)
    packed = SEGMENTS in data.train.column_names
    # NEFTune scales its noise by the length of a batch's rows.
    wanted = packed or (attention.attends_per_sample(model) and trainer.args.neftune_noise_alpha is None)
    autocast, row = trainer.accelerator.autocast(), activation_memory.longest_row(trainer.args, data)
    if wanted and probe.isolates_samples(model, padding_free, sharded=sharded, autocast=autocast, row=row):
        return padding_free
    if packed:
        raise probe.no_packing(model)
    return Collator(pad_id)
