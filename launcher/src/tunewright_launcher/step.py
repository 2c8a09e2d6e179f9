"""Steps: what `fetch` and `check` have in common as init containers.

An init container that fails would be started again for ever, or would take the job's state with it, whatever the restart
policy. So a step that fails leaves its verdict in the pod's own scratch folder and exits 0; the steps after it see the
verdict and do nothing; and `run`, as the main container, ends with the verdict's exit code, which is final.
"""

from __future__ import annotations

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
from tunewright.errors import ExitCode, FetchError
from tunewright.events import emit
from tunewright.plugins.registry import Registry
from tunewright_launcher.failure import Secrets, as_verdict, is_expected, traceback_of


class Terminated(BaseException):
    """SIGTERM came. Process 1 has no default action for it; a BaseException passes a provider's `except Exception`."""


@attrs.frozen(kw_only=True)
class Step:
    """What a step works with.

    Attributes:
        paths: where things are.
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
        """From the environment; what only a backend needs may be missing, so that steps can be run by hand.

        Raises:
            FetchError: it does not say where the workspace and the configuration are.
        """
        secrets.learn_named(env)
        optional = {environment.RUN: "", environment.PACKAGES: "", environment.TERMINATION_LOG: ""}
        try:
            return cls(paths=Paths.read({**optional, **env}), env=env, secrets=secrets)
        except KeyError as error:
            cause = f"The environment variable {error.args[0]} is not set."
            raise FetchError(cause, remedy="A backend sets it; by hand, set it too.", code=ExitCode.USAGE) from error


def run_init_step(name: str, work: Callable[[Step], None], env: Mapping[str, str]) -> int:
    """Run a step under the contract of init containers.

    Args:
        name: what logs call it.
        work: the step.
        env: the container's environment.

    Returns:
        The process's exit code: 0 also for a failure of which a verdict was left, 143 after SIGTERM.
    """
    settings = runner.Settings.read(env)
    if settings.run and runner.read_verdict(settings.run):
        log(name, "an earlier step has failed, so this one does nothing")
        return 0
    secrets = Secrets()
    signal.signal(signal.SIGTERM, _terminate)
    _end_with_parent(settings.parent)
    try:
        work(Step.read(env, secrets))
    except Terminated:
        return runner.TERMINATED
    except (Exception, SystemExit) as error:  # libraries exit, too: kaggle's does
        return _fail(name, error, settings, secrets)
    return 0


def log(name: str, text: str) -> None:
    """A plain line of the container's log."""
    sys.stderr.write(f"tunewright {name}: {text}\n")
    sys.stderr.flush()


def _fail(name: str, error: BaseException, settings: runner.Settings, secrets: Secrets) -> int:
    if not is_expected(error):
        log(name, secrets.redact(traceback_of(error)))
    code, cause, remedy = as_verdict(error)
    verdict = runner.Verdict(int(code), secrets.redact(cause), secrets.redact(remedy))
    log(name, f"{verdict.cause} {verdict.remedy}")
    runner.report(verdict, settings.termination_log, emit)
    if settings.run is None:
        return verdict.code
    try:
        runner.write_verdict(settings.run, *verdict)
    except OSError as problem:
        log(name, f"the verdict could not be left in {settings.run}: {problem}")
        return verdict.code
    return 0


def _terminate(_: int, __: FrameType | None) -> None:
    raise Terminated


def _end_with_parent(parent: int | None) -> None:
    if parent is not None:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(runner.TERMINATED)  # the next fetch goes on with what was staged
