"""The training itself, on every rank: read from top to bottom.

Needs torch, transformers, peft and datasets: the extra `train`.
"""

from __future__ import annotations

import logging

import attrs
import datasets
import pyarrow.compute
import torch
import transformers

from tunewright.providers import TrainRun
from tunewright_hf import distributed
from tunewright_hf.config.tasks import CAUSAL
from tunewright_hf.config.train_params import CONTINUE, TrainParams
from tunewright_hf.data import prepare as data_
from tunewright_hf.data.inputs import resolve_max_length
from tunewright_hf.data.loader_process import unwrap_carried_errors
from tunewright_hf.data.mixed_stream import MixedStream, StreamedMixture
from tunewright_hf.data.mixture import prepare_all
from tunewright_hf.data.samples.encode import check_highest
from tunewright_hf.data.samples.preference import PREFERENCE
from tunewright_hf.data.streaming import Stream, Streamed
from tunewright_hf.distributed import are_several, barrier, check_same_checkpoint, check_world
from tunewright_hf.model.config import longest_input, needs_unused_parameter_search, without_cache
from tunewright_hf.model.continued import continued
from tunewright_hf.model.folder import load_config, load_tokenizer, needed_model, tokenizer_folder
from tunewright_hf.model.generation import goal_of, stop_at_turn_ends, warn_of_untrained
from tunewright_hf.model.load import drop_unknown_pad, load_model
from tunewright_hf.phases import say
from tunewright_hf.train import activation_memory, arguments, build, deepspeed, export, extensions, sample_answers
from tunewright_hf.train.build import build_trainer
from tunewright_hf.train.checkpoints import clear_incomplete, owes_evaluation
from tunewright_hf.train.failures import explain_machine_errors, explain_too_large_model
from tunewright_hf.train.stop import stopping_on_sigterm
from tunewright_hf.train.stream_state import stream_of

logger = logging.getLogger(__name__)


def train(params: TrainParams, run: TrainRun) -> None:
    """Train `run.model` on `run.dataset`, and write the result to `run.result`.

    Raises:
        RequestError: the inputs or parameters do not allow a training, or the loss became NaN or infinite.
    """
    transformers.utils.logging.disable_progress_bar()  # the log is not a terminal, and events report the progress
    folder = needed_model(run)
    params = continued(params, run)
    config, tokenizer = load_config(folder, params), load_tokenizer(tokenizer_folder(run), params)
    max_length = resolve_max_length(params.data, longest_input(config, tokenizer, params.task))
    goal = goal_of(params, folder, config, tokenizer)
    data = prepare_all(run, params.data, tokenizer, max_length, goal)
    params.check_format(data.format)
    check_vocabulary(data, config)
    drop_unknown_pad(tokenizer, config)

    args = _join(params, run, config, data)
    if isinstance(data.train, Streamed | StreamedMixture):
        say(run, "read", "reading the first rows of the stream")
        data = attrs.evolve(data, train=stream_of(data.train, args, run, config, data_.scratch(run)))
    cls = extensions.trainer_class(params.transformer_class)
    pairs = data.format == PREFERENCE
    continues = run.adapter is not None and params.adapter_mode == CONTINUE
    class_lora = params.lora_config if pairs and build.creates_adapter(cls) and not continues else None
    say(run, "load", "loading the model")
    with explain_too_large_model(args):
        model = load_model(folder, params, args, data.classes, adapts=class_lora is None, adapter=run.adapter)
    stop_at_turn_ends(model, tokenizer, goal.stops, turns=data.turns)
    warn_of_untrained(model, tokenizer, turns=data.turns)
    restore_cache = without_cache(model.config)
    args.eval_on_start |= owes_evaluation(args, run.resume_from)
    say(run, "tokenise" if pairs else "probe", "tokenising the pairs" if pairs else "trying out the model")
    trainer = build_trainer(
        cls, run, args, task=params.task, model=model, tokenizer=tokenizer, data=data, lora=class_lora
    )
    if not pairs:  # the Trainer classes of pairs monkey-patch models themselves
        build.fuse_layers(trainer, params)
    for callback in extensions.build_callbacks(params):
        trainer.add_callback(callback)
    if params.task is CAUSAL and not pairs:
        say(run, "probe", "measuring the memory of a step")
        activation_memory.decide(trainer, params.training_parameters)

    with explain_machine_errors(args, run, lambda: trainer.evaluating), unwrap_carried_errors():
        sample_answers.answer_samples_before(trainer, params, data.format, run)
        with stopping_on_sigterm(trainer):
            trainer.train(resume_from_checkpoint=str(run.resume_from) if run.resume_from else None)
        restore_cache()  # the saved configuration would disable it for everybody who loads the result
        report_stream(trainer, run)
        export.save(trainer, params, run, data)
        sample_answers.answer_samples(trainer, params, data.format, run)
        barrier()
    _clean_up(run)


def _join(
    params: TrainParams, run: TrainRun, config: transformers.PreTrainedConfig, data: data_.Prepared
) -> transformers.TrainingArguments:
    """Wait for the other ranks, and return the resolved arguments.

    Raises:
        RequestError: the arguments, the ranks and the checkpoint do not allow a training.
    """
    intervals = arguments.default_intervals(params, data.known_samples, run.world_size)
    defaults = {**intervals, "ddp_find_unused_parameters": needs_unused_parameter_search(config, params.task)}
    if run.world_size > 1:
        say(run, "ranks", f"waiting for all {run.world_size} processes")
    distributed.join_ranks(params.training_parameters, run.world_size)
    args = arguments.build_arguments(params, run.checkpoints, evaluates=data.evaluation is not None, defaults=defaults)
    check_world(args, run)
    arguments.check_drop_last(args, data.known_samples)
    check_same_checkpoint(run)
    deepspeed.check_start(args, run.world_size, run.resume_from)
    clear_incomplete(run)
    return args


def report_stream(trainer: transformers.Trainer, run: TrainRun) -> None:
    """Emit what became of the rows of streamed data."""
    stream, step = trainer.train_dataset, trainer.state.global_step
    if isinstance(stream, Stream):
        data_.report_counts({"train": stream.counts_at(step)}, run)
    if isinstance(stream, MixedStream):
        data_.report_counts({f"{name}: train": c for name, c in stream.part_counts_at(step).items()}, run)


def _clean_up(run: TrainRun) -> None:
    """Remove the tokenised data, and leave the process group."""
    if run.local_rank == 0:
        data_.discard(run)
    if are_several():
        torch.distributed.destroy_process_group()


def check_vocabulary(data: data_.Prepared, config: transformers.PreTrainedConfig) -> None:
    """Raise RequestError if the data has tokens that the model lacks; a stream is checked while it is read."""
    if data.format == PREFERENCE:  # the Trainer class tokenises it
        return
    names = ["input_ids"] if data.classes else ["input_ids", "labels"]
    tokenised = [d for d in (data.train, data.evaluation) if isinstance(d, datasets.Dataset)]
    columns = [d.data.column(name) for d in tokenised for name in names]
    highest = (pyarrow.compute.max(pyarrow.compute.list_flatten(column)).as_py() for column in columns)
    check_highest(max(highest, default=0), config.get_text_config().vocab_size)
