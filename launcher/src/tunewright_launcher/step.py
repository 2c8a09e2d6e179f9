"""Steps: what `fetch` and `check` have in common as init containers.

A failed init container would be restarted forever, or lose the job's state, whatever the restart policy is. So a step that
fails leaves a verdict in the pod's own scratch folder and exits 0; later steps see the verdict and do nothing; and `run`, the
main container, exits with the verdict's code, which is final.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType

import attrs

from tunewright import environment, runner
from tunewright.environment import Paths
from tunewright.errors import ExitCode, FetchError, Interrupted, Terminated
from tunewright.plugins.registry import Registry
from tunewright_launcher.failure import Secrets, failure_of, is_expected, traceback_of
from tunewright_launcher.redacted_output import RedactedOutput


@attrs.frozen(kw_only=True)
class Step:
    """The context of a step.

    Attributes:
        paths: folders and files of the container.
        env: the container's environment.
        registry: the plugins that are installed in the container.
        secrets: what must not be shown.
    """

    paths: Paths
    env: Mapping[str, str]
    registry: Registry = attrs.field(factory=Registry)
    secrets: Secrets = attrs.field(factory=Secrets)

    @classmethod
    def read(cls, env: Mapping[str, str], secrets: Secrets) -> Step:
        """Read the environment; variables that only a backend needs are optional, so that steps can be run by hand.

        Raises:
            FetchError: the variables of the workspace or the configuration are missing.
        """
        secrets.learn_named(env)
        optional = {environment.RUN: "", environment.PACKAGES: "", environment.TERMINATION_LOG: ""}
        try:
            return cls(paths=Paths.read({**optional, **env}), env=env, secrets=secrets)
        except KeyError as error:
            cause = f"The environment variable {error.args[0]} is not set."
            raise FetchError(
                cause, remedy="Backends set it; set it too when you run a step by hand.", code=ExitCode.USAGE
            ) from error


def run_init_step(
    container: str, work: Callable[[Step], None], env: Mapping[str, str], whose: Callable[[], str] | None = None
) -> int:
    """Run a step under the contract of init containers.

    Args:
        container: name of the container.
        work: the step.
        env: the container's environment.
        whose: returns the plugins whose code it runs, in words.

    Returns:
        The exit code of the process: 0, also after a failure that left a verdict; 143 after SIGTERM.
    """
    settings = runner.Settings.read(env)
    if settings.run and runner.read_verdict(settings.run):
        log(container, "an earlier step has failed, so this one does nothing")
        return 0
    secrets = Secrets()
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, _interrupt)
    end_with_parent(settings.parent)
    with RedactedOutput(secrets):
        try:
            work(Step.read(env, secrets))
        except Terminated:
            return runner.TERMINATED
        except Interrupted:
            raise KeyboardInterrupt from None  # itself: Python ends as shells expect it for no subclass
        except BaseException as error:  # libraries exit, as kaggle's does, or panic, as those in Rust do
            return fail(container, error, settings, secrets, whose)
    return 0


def log(name: str, text: str) -> None:
    """Print a plain line to the container's log."""
    sys.stderr.write(f"tunewright {name}: {text}\n")
    sys.stderr.flush()


def fail(
    container: str,
    error: BaseException,
    settings: runner.Settings,
    secrets: Secrets,
    whose: Callable[[], str] | None = None,
) -> int:
    """Report the failure of a step, and leave its verdict; return the exit code of the process."""
    failure = failure_of(error, secrets, container)
    if not is_expected(error):
        log(container, secrets.redact(traceback_of(error)))
        if whose is not None and failure.code == ExitCode.SOFTWARE:
            failure = dataclasses.replace(failure, cause=f"{failure.cause.rstrip('.')}, in the code of {whose()}.")
    log(container, str(failure))
    runner.report(failure, settings.termination_log)
    if settings.run is None:
        return failure.code
    try:
        runner.write_verdict(settings.run, failure)
    except OSError as problem:
        log(container, f"the verdict could not be written to {settings.run}: {problem}")
        return failure.code
    return 0


def _terminate(signum: int, _: FrameType | None) -> None:
    signal.signal(signum, signal.SIG_IGN)  # a second one, of the process group, would disturb the end
    raise Terminated


def _interrupt(signum: int, _: FrameType | None) -> None:
    signal.signal(signum, signal.SIG_IGN)
    raise Interrupted


def end_with_parent(parent: int | None) -> None:
    """End this process soon after another one is no longer its parent; None for none."""
    if parent is not None:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(runner.TERMINATED)  # the next fetch resumes from what was staged
