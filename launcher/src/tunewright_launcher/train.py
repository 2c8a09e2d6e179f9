"""`train`: one rank of the training. torchrun starts it on all ranks."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from tunewright import environment, runner
from tunewright.errors import ExitCode, FetchError, PluginError, RequestError
from tunewright.events import Event, Phase, emit
from tunewright.providers.base import TrainRun
from tunewright_launcher.checking_rank import Refused, check_first
from tunewright_launcher.failure import Secrets, failure_of, traceback_of
from tunewright_launcher.job_object import job_object, noted
from tunewright_launcher.metrics import served
from tunewright_launcher.outputs import CheckpointUploads, load_output
from tunewright_launcher.provider import TRAINER, document_file, load_trainer, read_document
from tunewright_launcher.ranks import while_others_wait
from tunewright_launcher.step import Step, log
from tunewright_launcher.supervised import plugins_of
from tunewright_launcher.train_run import number, train_run
from tunewright_launcher.training_report import EventFile, write_report


def train(env: Mapping[str, str]) -> int:
    """Run the command.

    Returns:
        The exit code of the process: 0; after an error that no new attempt can fix, the code of the verdict that it left
        for `run`; 1 after any other error, so that `run` lets the workers be restarted.
    """
    secrets = Secrets()
    rank, folder = number(env, "RANK", 0), runner.Settings.read(env).run
    name = f"train (rank {rank})"
    try:
        _check_world(env)
        step = Step.read(env, secrets)
        _train(step, name)
    except Refused as refused:
        return refused.code
    except (RequestError, FetchError, PluginError) as error:
        log(name, secrets.redact(str(error)))
        return _final(error, secrets, folder)
    except (
        BaseException
    ) as error:  # also a library's exit or panic: the next attempt resumes from the newest checkpoint
        log(name, secrets.redact(traceback_of(error)))
        failure = failure_of(error, secrets)
        if failure.code == ExitCode.NO_SPACE:  # the next attempt would find none either
            return _final(error, secrets, folder)
        if folder:
            with contextlib.suppress(OSError):
                runner.write_error(folder, failure.cause)
        return int(ExitCode.FAILURE)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a trainer may have deferred it until its error was reported
        if folder:
            runner.end_work(folder, rank)
    return 0


def _final(error: BaseException, secrets: Secrets, folder: Path | None) -> int:
    """Leave a verdict, so that the workers are not started again; return its exit code."""
    failure = failure_of(error, secrets)
    if folder:
        runner.write_verdict(folder, failure)
    return failure.code


def _train(step: Step, name: str) -> None:
    first = number(step.env, "RANK", 0) == 0
    _note(step, TRAINER)
    if first and not step.env.get(environment.IMPORTED):
        emit(Phase(name="import", text="importing the trainer and its libraries"))
    if step.env.get(environment.CHECK_BY_RANK):
        check_first(step)
    output = load_output(step, lambda text: log(name, text)) if first else None
    uploads = output if step.env.get(environment.UPLOAD_CHECKPOINTS) else None
    run = train_run(step, emit=emit if first else _say_nothing)
    events = EventFile(run) if first else None
    with _told(step, run, events, name) as run, CheckpointUploads(uploads, run.checkpoints):
        load_trainer(step).train(run)
    if events:
        _check_result(step, run.result)
        write_report(step, run.result, events)
    if document_file(step, environment.OUTPUT_SLOT).is_file():
        _note(step, environment.OUTPUT_SLOT)
        while_others_wait(step.env, lambda: output.upload_model(run.result) if output else None, "upload")


@contextlib.contextmanager
def _told(step: Step, run: TrainRun, events: EventFile | None, name: str) -> Iterator[TrainRun]:
    """Yield the run with all who are told of its events: the log, the event file, Prometheus, and the job's object."""
    if events is None:
        yield run
        return

    def log_and_file(event: Event) -> None:
        run.emit(event)
        events.add(event)

    with served(step.env, log_and_file, name) as tell, noted(job_object(step.env), tell, name) as emit_all:
        yield attrs.evolve(run, emit=emit_all)


def _note(step: Step, slot: str) -> None:
    """Say whose code this rank runs from here on, in case that it ends the process."""
    if folder := runner.Settings.read(step.env).run:
        with contextlib.suppress(OSError):  # it is about a message
            runner.begin_work(folder, number(step.env, "RANK", 0), f"the code of {plugins_of((slot,), step.env)}")


def _check_result(step: Step, result: Path) -> None:
    """Refuse a training that has ended without a model.

    Raises:
        PluginError: the trainer has not written one.
    """
    if result.is_dir() and any(result.iterdir()):
        return
    trainer = read_document(step, TRAINER)
    problem = f"The trainer {trainer.provider!r} has ended without an error, and without a model in {result}."
    remedy = f"It has to write the finished model to run.result: tell the author of {trainer.distribution}."
    raise PluginError(f"{problem} {remedy}", name=trainer.provider, dist=trainer.distribution)


def _check_world(env: Mapping[str, str]) -> None:
    expected, world = env.get(environment.WORLD_SIZE), number(env, "WORLD_SIZE", 1)
    if expected and int(expected) != world:
        problem = f"the job has {expected} ranks, but the program that started this one created {world}"
        remedy = "Start the ranks with torchrun: it reads the PET_* variables, which other launchers ignore."
        raise RequestError(problem, field="WORLD_SIZE", value=world, remedy=remedy)


def _say_nothing(_: Event) -> None:
    """Drop the event: only rank 0 sends events."""
