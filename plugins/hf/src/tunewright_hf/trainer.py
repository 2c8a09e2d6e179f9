"""The training itself, on every rank: read from top to bottom.

Needs torch, transformers, peft and datasets: the extra `train`.
"""

from __future__ import annotations

import collections
import logging
import shutil
from pathlib import Path

import attrs
import datasets
import peft
import pyarrow.compute
import torch
import transformers
from peft.tuners.tuners_utils import BaseTunerLayer

from tunewright.errors import RequestError
from tunewright.providers import TrainRun
from tunewright.runner import is_complete
from tunewright_hf import data as data_
from tunewright_hf import fast, memory, preference, real, result, unpadded, zero
from tunewright_hf.callbacks import (
    Events,
    Pauses,
    Unlogged,
    are_several,
    barrier,
    check_sharding,
    is_sharded,
    quiet,
    with_speed,
)
from tunewright_hf.classification import Classes, with_head
from tunewright_hf.collate import Collator, level
from tunewright_hf.configs import is_known, known_labels, longest_input, may_pass_over_weights
from tunewright_hf.endings import stopping_on_sigterm, telling_of_the_machine
from tunewright_hf.objective import objective_of
from tunewright_hf.packing import SEGMENTS
from tunewright_hf.params import HuggingFaceTrainParams
from tunewright_hf.position import Position, stream_of, telling_of_reading
from tunewright_hf.preference import PREFERENCE
from tunewright_hf.record import Recorded, record
from tunewright_hf.standins import LoraConfig
from tunewright_hf.stream import Stream, Streamed, check_highest
from tunewright_hf.tasks import CAUSAL, TASKS, Task
from tunewright_hf.telemetry import shape_of

logger = logging.getLogger(__name__)


def train(params: HuggingFaceTrainParams, run: TrainRun) -> None:
    """Train `run.model` on `run.dataset` and leave the result in `run.result`.

    Raises:
        RequestError: the inputs or parameters cannot be trained with, or the loss is no number any more.
    """
    transformers.utils.logging.disable_progress_bar()  # the log is no terminal; the events tell the progress
    folder = needed_model(run)
    config = load_config(folder, params)
    tokenizer = load_tokenizer(folder, params)
    max_length = data_.resolve_max_length(params.data, longest_input(config, tokenizer, params.task))
    goal = data_.Goal(task=params.task, num_labels=params.num_labels, known=known_labels(config, params.task))
    data = data_.prepare(run, params.data, tokenizer, max_length, goal)
    params.check_format(data.format)
    check_vocabulary(data, config)
    drop_unknown_pad(tokenizer, config)

    pace = real.pace(params, data.known_samples, run.world_size)
    defaults = {**pace, "ddp_find_unused_parameters": may_pass_over_weights(config, params.task)}
    real.join_ranks(params.training_parameters, run.world_size)
    args = real.build_arguments(params, run.checkpoints, evaluates=data.evaluation is not None, defaults=defaults)
    check_world(args, run)
    real.check_drop_last(args, data.known_samples)
    check_same_checkpoint(run)
    zero.check_start(args, run.world_size, run.resume_from)
    clear_incomplete(run)
    if isinstance(data.train, Streamed):
        data = attrs.evolve(data, train=stream_of(data.train, args, run, config, data_.scratch(run)))
    cls = real.trainer_class(params.transformer_class)
    pairs = data.format == PREFERENCE
    left = params.lora_config if pairs and preference.takes_adapter(cls) else None  # for the class to make
    model = load_model(folder, params, args, data.classes, adapts=left is None)
    use_cache = getattr(model.config, "use_cache", None)
    args.eval_on_start |= owes_evaluation(args, run.resume_from)
    trainer = build_trainer(cls, run, args, task=params.task, model=model, tokenizer=tokenizer, data=data, lora=left)
    if params.fused_layers and not pairs:  # their classes replace forwards themselves
        fast.fuse(trainer)
    for callback in real.build_callbacks(params):
        trainer.add_callback(callback)
    if params.task is CAUSAL and not pairs:
        memory.decide(trainer, params.training_parameters)

    with telling_of_the_machine(args, run), telling_of_reading():
        with stopping_on_sigterm(trainer):
            trainer.train(resume_from_checkpoint=str(run.resume_from) if run.resume_from else None)
        if use_cache is not None:
            # Trainer switches it off, and it would stay off for who loads the result.
            model.config.use_cache = use_cache
        result.save(trainer, params, run, data)
        if run.rank == 0:
            result.answer_samples(trainer, params, data.format, run)
        barrier()
    if run.local_rank == 0:
        data_.discard(run)
    if are_several():
        torch.distributed.destroy_process_group()


def needed_model(run: TrainRun) -> Path:
    """The model's folder.

    Raises:
        RequestError: the job has none.
    """
    if run.model is None:
        raise RequestError("is needed to train", field="model", remedy="Give model=…, for example hf://org/name.")
    return run.model


def load_config(folder: Path, params: HuggingFaceTrainParams) -> transformers.PreTrainedConfig:
    """The model's configuration.

    Raises:
        RequestError: it cannot be read, needs code that may not run, or is of no model of the task.
    """
    able = f"Give a model folder that transformers {transformers.__version__} can load"
    trust = "" if params.trust_remote_code else ", or trust_remote_code=True if you trust the Python code in it"
    with real.refused("model", f"{able}{trust}."):
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=params.trust_remote_code)
    task = params.task
    own_code = task.auto_class in (getattr(config, "auto_map", None) or {})
    if not is_known(config, task) and not own_code:
        others = [t.auto_class for t in TASKS.values() if is_known(config, t)]
        remedy = f"Give transformer_type={others[0]!r}." if others else f"Give one of the {task.models}."
        problem = f"has a {type(config).__name__}, which {task.auto_class} does not load"
        raise RequestError(problem, field="model", value=str(folder), remedy=remedy)
    return config


def load_tokenizer(folder: Path, params: HuggingFaceTrainParams) -> transformers.PreTrainedTokenizerBase:
    """The model's tokenizer.

    Raises:
        RequestError: the folder has none.
    """
    with real.refused("model", "Save the tokenizer into the model's folder with save_pretrained()."):
        return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=params.trust_remote_code)


def drop_unknown_pad(tokenizer: transformers.PreTrainedTokenizerBase, config: transformers.PreTrainedConfig) -> None:
    """Trainer writes the tokenizer's pad token into the model's configuration, which then could not be loaded."""
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id >= config.get_text_config().vocab_size:
        logger.warning("the model has no embedding for the pad token %s: the result does without", tokenizer.pad_token)
        tokenizer.pad_token = tokenizer.eos_token


def check_vocabulary(data: data_.Prepared, config: transformers.PreTrainedConfig) -> None:
    """Raise RequestError if data has tokens that the model does not have; a stream's are looked at as they come."""
    if data.format == PREFERENCE:  # not tokenised yet
        return
    names = ["input_ids"] if data.classes else ["input_ids", "labels"]
    tokenised = [d for d in (data.train, data.evaluation) if isinstance(d, datasets.Dataset)]
    columns = [d.data.column(name) for d in tokenised for name in names]
    highest = (pyarrow.compute.max(pyarrow.compute.list_flatten(column)).as_py() for column in columns)
    check_highest(max(highest, default=0), config.get_text_config().vocab_size)


def check_world(args: transformers.TrainingArguments, run: TrainRun) -> None:
    """A job of several processes in which each believes to be alone would train as many models."""
    if args.world_size != run.world_size:
        found = f"transformers sees {args.world_size} process(es), the job has {run.world_size}"
        raise RuntimeError(f"{found}. Start the ranks with torchrun.")


def check_same_checkpoint(run: TrainRun) -> None:
    """Pods with volumes of their own may have fetched different checkpoints, one before and one after an upload.

    Raises:
        RuntimeError: they would train apart from each other. Started again, they all fetch the newest one.
    """
    if not are_several():
        return
    names: list[str | None] = [None] * run.world_size
    torch.distributed.all_gather_object(names, run.resume_from.name if run.resume_from else None)
    if len(set(names)) > 1:
        found = ", ".join(f"rank {rank} from {name or 'the beginning'}" for rank, name in enumerate(names))
        raise RuntimeError(f"The ranks would resume from different checkpoints: {found}.")


def clear_incomplete(run: TrainRun) -> None:
    """Remove checkpoints that were cut off, so that their numbers are free, and rotation counts complete ones only."""
    if run.rank == 0:
        for folder in run.checkpoints.glob("checkpoint-*"):
            if not is_complete(folder):
                logger.warning("removing the incomplete %s", folder)
                shutil.rmtree(folder)
    barrier()


def owes_evaluation(args: transformers.TrainingArguments, resume_from: Path | None) -> bool:
    """Whether a training was cut off between an epoch's last checkpoint and the evaluation that is due behind it."""
    if resume_from is None or args.eval_strategy != "epoch":
        return False
    state = transformers.TrainerState.load_from_json(str(resume_from / "trainer_state.json"))
    evaluated = any("eval_loss" in e and e["step"] == state.global_step for e in state.log_history)
    return float(state.epoch).is_integer() and state.epoch >= args.eval_delay and not evaluated


def load_model(
    folder: Path,
    params: HuggingFaceTrainParams,
    args: transformers.TrainingArguments,
    classes: Classes | None = None,
    *,
    adapts: bool = True,
) -> transformers.PreTrainedModel | peft.PeftModel:
    """The model, with its adapter if there is to be one, and with a head for the classes if there are some.

    Args:
        folder: of the model.
        params: the user's.
        args: the resolved arguments.
        classes: what a classifier tells apart.
        adapts: whether to make the adapter; False where the Trainer class does.
    """
    dtype = real.weights_dtype(params, args)
    transformers.set_seed(args.seed)  # an adapter begins with random numbers, and so does a head
    head = {**classes.config, "ignore_mismatched_sizes": True} if classes else {}
    head |= quantised(params, args, dtype)
    model, loading = getattr(transformers, params.task.auto_class).from_pretrained(
        folder, dtype=dtype, trust_remote_code=params.trust_remote_code, output_loading_info=True, **head
    )
    if params.quantization_config is not None:
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)  # Trainer switches it on
    if params.task is CAUSAL:
        unpadded.choose_attention(model, params.attn_implementation, half=args.bf16 or args.fp16)
    elif params.attn_implementation != "auto":
        with real.refused("attn_implementation", "Give another name, or leave it out."):
            model.set_attn_implementation(params.attn_implementation)
    if params.lora_config is not None and adapts:
        with real.refused("lora_config", "Change the field that it names."):
            lora = real.build_lora(params.lora_config, params.task.lora)
            model = peft.get_peft_model(model, with_head(lora, model, loading) if classes else lora)
            if params.merge:
                check_merge(model)
        if classes:  # peft makes adapters fp32, and leaves a head as it was loaded
            for weight in model.parameters():
                weight.data = weight.data.float() if weight.requires_grad else weight.data
        if args.activation_checkpointing:
            model.enable_input_require_grads()  # else nothing in a checkpointed block of frozen weights gets a gradient
    if args.deepspeed and not transformers.integrations.is_deepspeed_zero3_enabled():
        model.to(args.device)  # for what is tried before training, when DeepSpeed does it
    trained = sum(shape_of(p).numel() for p in model.parameters() if p.requires_grad)
    everything = sum(shape_of(p).numel() for p in model.parameters())
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"
    logger.info("%d of %d weights are trained, in %s; loaded as %s", trained, everything, precision, dtype)
    return model


def check_merge(model: peft.PeftModel) -> None:
    """Merged into a weight that two layers share, as tied embeddings do, an adapter of one would change both.

    Raises:
        RequestError: there is such a layer.
    """
    owners = collections.Counter(id(w) for m in model.modules() for w in m.parameters(recurse=False))
    layers = [(n, m.get_base_layer()) for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)]
    shared = [n for n, layer in layers if any(owners[id(w)] > 1 for w in layer.parameters(recurse=False))]
    if shared:
        problem = (
            f"does not work with LoRA on {shared[0].rpartition('.')[2]}, which shares its weight with another layer"
        )
        remedy = "Leave merge out, or name the layer in modules_to_save instead of target_modules."
        raise RequestError(problem, field="merge", value=True, remedy=remedy)


def quantised(
    params: HuggingFaceTrainParams, args: transformers.TrainingArguments, dtype: torch.dtype
) -> dict[str, object]:
    """Arguments of from_pretrained(): weights are quantised on the way to the device that computes with them."""
    config = real.build_quantization(params.quantization_config, dtype)
    return {} if config is None else {"quantization_config": config, "device_map": {"": args.device}}


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
        adapter = None if lora is None else real.build_lora(lora, task.lora)
        with real.refused("transformer_class", "Change the argument that it names, or name another class."):
            trainer = preference.build(
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
    pad_id = result.pad_id(tokenizer)
    if task is not CAUSAL:
        pad_id = pad_with_known(tokenizer, model.config)
    objective = objective_of(task, model, data.classes, pad_id=pad_id, smoothing=args.label_smoothing_factor)
    with real.refused("training_parameters", "Change the argument that it names."):
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
    wanted = packed or (unpadded.is_by_sample(model) and trainer.args.neftune_noise_alpha is None)
    if wanted and unpadded.keeps_apart(model, joined, sharded=is_sharded(trainer)):
        return joined
    if packed:
        problem = f"does not work with this {type(real.base_of(model)).__name__}, which does not keep the samples of a row apart"
        raise RequestError(problem, field="DataParams.packing", value=True, remedy="Leave packing out.")
    return Collator(pad_id)
