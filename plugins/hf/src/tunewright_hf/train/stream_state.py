"""The position in a stream, saved in each checkpoint, so that a resumed training continues with the very next sample."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import attrs
import transformers

from tunewright.errors import RequestError
from tunewright.providers import TrainRun
from tunewright_hf.data.mixed_stream import StreamedMixture
from tunewright_hf.data.shared_windows import Sharing
from tunewright_hf.data.streaming import Stream, Streamed, StreamPlan
from tunewright_hf.distributed import barrier, ranks_on_node
from tunewright_hf.train.checkpoints import checkpoint_folder

FILE = "stream.json"


def stream_of(
    source: Streamed | StreamedMixture,
    args: transformers.TrainingArguments,
    run: TrainRun,
    config: transformers.PreTrainedConfig,
    notes: Path,
) -> Stream:
    """Return the stream to train on, from the position in the checkpoint on.

    Args:
        source: the data.
        args: the resolved arguments; they are changed so that each rank reads its own part.
        run: the training run.
        config: the model's configuration, for the size of its vocabulary.
        notes: folder for the positions of windows that are read ahead.

    Raises:
        RequestError: the checkpoint was made with other data, or with data that was read in another way.
    """
    args.accelerator_config.dispatch_batches = (
        False  # else rank 0 reads for all, and slices batches as if they were padded
    )
    args.accelerator_config.split_batches = False
    batch = args.train_batch_size * run.world_size
    notes.mkdir(parents=True, exist_ok=True)
    seed = args.seed if args.data_seed is None else args.data_seed
    plan = StreamPlan(
        step=batch * args.gradient_accumulation_steps,
        steps=args.max_steps,
        seed=None if args.train_sampling_strategy == "sequential" else seed,
        vocabulary=config.get_text_config().vocab_size,
        # accelerate prefetches one batch, and a loader's process as many as it is configured to.
        ahead=batch * (3 + args.dataloader_num_workers * (args.dataloader_prefetch_factor or 2)),
        notes=notes / f"stream-{run.rank}.json",
        logs=run.rank == 0,
        sharing=_sharing(run, notes),
        window=source.begin(),  # type: ignore[arg-type] # of its own kind, with a mixture
    )
    if run.resume_from is not None:
        plan = resume_plan(plan, source, run.resume_from)
    return source.stream(plan)


def _sharing(run: TrainRun, notes: Path) -> Sharing | None:
    """Return how this rank shares the stream with those of its node. Call it on all ranks."""
    ranks, folder = ranks_on_node(run), notes / f"windows-{run.rank - run.local_rank}"
    if run.local_rank == 0:  # what an attempt that was killed has left
        shutil.rmtree(folder, ignore_errors=True)
    barrier()
    return Sharing(folder=folder, rank=run.local_rank, ranks=ranks) if ranks > 1 else None


def resume_plan(plan: StreamPlan, source: Streamed | StreamedMixture, checkpoint: Path) -> StreamPlan:
    """Return the plan that continues at a checkpoint.

    Raises:
        RequestError: the checkpoint was made with other data.
    """
    file = checkpoint / FILE
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if found.get("stream") != _identity(plan, source):
        problem = f"{checkpoint.name} was made with other data, or with data that was read in another way"
        remedy = "Give the same files, DataParams and data_seed as before, or another output to start again."
        raise RequestError(problem, field="DataParams.streaming", value=True, remedy=remedy)
    step = transformers.TrainerState.load_from_json(str(checkpoint / "trainer_state.json")).global_step
    window = source.window_of(found["window"])
    return attrs.evolve(plan, passed=step, window=window, skipped=found["skipped"])  # type: ignore[arg-type] # as above


def _identity(plan: StreamPlan, source: Streamed | StreamedMixture) -> list[object]:
    return [source.digest, plan.seed]


class StreamStateCallback(transformers.TrainerCallback):  # type: ignore[misc]
    """Writes the position in the stream into each checkpoint."""

    def __init__(self, stream: Stream, run: TrainRun) -> None:
        self._stream = stream
        self._run = run

    def on_save(
        self, args: transformers.TrainingArguments, state: transformers.TrainerState, *_: object, **__: object
    ) -> None:
        """Write it beside the weights, once in each pod, since pods may have volumes of their own."""
        if self._run.local_rank == 0:
            window, skipped = self._stream.window_at(state.global_step)
            identity = _identity(self._stream.plan, self._stream.source)
            found = {"stream": identity, "window": attrs.asdict(window), "skipped": skipped}
            file = checkpoint_folder(args, state) / FILE
            written = file.with_name(f".{FILE}-{os.getpid()}")
            written.write_text(json.dumps(found), encoding="utf-8")
            written.replace(file)
