"""The check of a job by its first rank, where nobody waits for a GPU: in a fork, which has the libraries that the rank imports anyway.

What a check sets up in libraries, such as a process group of one, is gone with the fork.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping

from tunewright import runner
from tunewright.environment import LAUNCHERS_OWN, PARENT
from tunewright_launcher.check import check_trainer, missing_library
from tunewright_launcher.provider import TRAINER, load_trainer
from tunewright_launcher.ranks import while_others_wait
from tunewright_launcher.step import Step, run_init_step
from tunewright_launcher.supervised import died, plugins_of, slots_of, tell, told

_OF_A_RANK = re.compile(LAUNCHERS_OWN)


class Refused(Exception):  # noqa: N818 - an outcome
    """The check has failed, and left its verdict.

    Attributes:
        code: the verdict's exit code.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def check_first(step: Step) -> None:
    """Check the job on rank 0, and let the other ranks wait for it. Call it on all ranks, before anything else.

    Raises:
        Refused: the job cannot be trained.
        FetchError: a library of the trainer is missing.
        RuntimeError: the check was terminated.
    """
    trainer = load_trainer(step)
    try:
        trainer.import_libraries()
    except ModuleNotFoundError as error:
        raise missing_library(step, trainer, error) from error
    while_others_wait(step.env, lambda: _check(step.env), "check")


def _check(env: Mapping[str, str]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        ended = _in_child(env, parent)
        tell(writer, ended)
        os._exit(ended)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    code, folder = told(reader), runner.Settings.read(env).run
    os.close(reader)
    if code is None:
        code = died("check", slots_of("check", None), runner.ending(os.waitstatus_to_exitcode(status)), env)
    if folder and (verdict := runner.read_verdict(folder)):
        raise Refused(verdict.code)
    if code:
        raise RuntimeError(f"The check ended with exit code {code}.")


def _in_child(env: Mapping[str, str], parent: int) -> int:
    """Run the check as an init container would: as a process of its own, without a GPU."""
    own = {name: value for name, value in env.items() if not _OF_A_RANK.fullmatch(name)}
    own |= {PARENT: str(parent), "CUDA_VISIBLE_DEVICES": ""}
    os.environ.clear()
    os.environ.update(own)
    code = 1
    try:
        code = run_init_step("check", check_trainer, own, lambda: plugins_of((TRAINER,), own))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return code
