"""Where a training is in its stream: kept in each checkpoint, so that a resumed one reads on at the very next sample."""

from __future__ import annotations

import json
import os
from pathlib import Path

import attrs
import transformers

from tunewright.errors import RequestError
from tunewright.providers import TrainRun
from tunewright_hf.data.streaming import Course, Stream, Streamed, Window
from tunewright_hf.train.checkpoints import checkpoint_folder

FILE = "stream.json"


def stream_of(
    source: Streamed,
    args: transformers.TrainingArguments,
    run: TrainRun,
    config: transformers.PreTrainedConfig,
    notes: Path,
) -> Stream:
    """What a training reads, from where its checkpoint was.

    Args:
        source: the data.
        args: the resolved arguments; accelerate is told to give each rank its part.
        run: the job's.
        config: the model's, which says what tokens it has.
        notes: folder for what is read and not yet trained on.

    Raises:
        RequestError: the checkpoint was made of other data, or of data that was read in another way.
    """
    args.accelerator_config.dispatch_batches = False  # rank 0 would read, and cut batches as if they were padded
    args.accelerator_config.split_batches = False
    batch = args.train_batch_size * run.world_size
    notes.mkdir(parents=True, exist_ok=True)
    seed = args.seed if args.data_seed is None else args.data_seed
    course = Course(
        step=batch * args.gradient_accumulation_steps,
        steps=args.max_steps,
        seed=None if args.train_sampling_strategy == "sequential" else seed,
        vocabulary=config.get_text_config().vocab_size,
        # accelerate is a batch ahead, and a reading process as many as it is told to be.
        ahead=batch * (3 + args.dataloader_num_workers * (args.dataloader_prefetch_factor or 2)),
        notes=notes / f"stream-{run.rank}.json",
        tells=run.rank == 0,
    )
    if run.resume_from is not None:
        course = resumed(course, source, run.resume_from)
    return Stream(source, course)


def resumed(course: Course, source: Streamed, checkpoint: Path) -> Course:
    """From where a checkpoint was.

    Raises:
        RequestError: it was made of something else.
    """
    file = checkpoint / FILE
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if found.get("stream") != _name(course, source):
        problem = f"{checkpoint.name} was made with other data, or with data that was read in another way"
        remedy = "Give the same files, DataParams and data_seed again, or another output to begin anew."
        raise RequestError(problem, field="DataParams.streaming", value=True, remedy=remedy)
    step = transformers.TrainerState.load_from_json(str(checkpoint / "trainer_state.json")).global_step
    return attrs.evolve(course, passed=step, window=Window.of(found["window"]), skipped=found["skipped"])


def _name(course: Course, source: Streamed) -> list[object]:
    return [source.digest, course.seed]


class Position(transformers.TrainerCallback):  # type: ignore[misc]
    """Writes into each checkpoint where the stream is."""

    def __init__(self, stream: Stream, run: TrainRun) -> None:
        self._stream = stream
        self._run = run

    def on_save(
        self, args: transformers.TrainingArguments, state: transformers.TrainerState, *_: object, **__: object
    ) -> None:
        """Write it beside the weights; pods may have volumes of their own."""
        if self._run.local_rank == 0:
            window, skipped = self._stream.window_at(state.global_step)
            name = _name(self._stream.course, self._stream.source)
            found = {"stream": name, "window": attrs.asdict(window), "skipped": skipped}
            file = checkpoint_folder(args, state) / FILE
            written = file.with_name(f".{FILE}-{os.getpid()}")
            written.write_text(json.dumps(found), encoding="utf-8")
            written.replace(file)
