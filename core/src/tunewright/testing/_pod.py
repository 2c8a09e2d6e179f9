"""A pod in a folder: what a step of the launcher finds in its container, and what it leaves there."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from tunewright import environment
from tunewright._kit.elsewhere import ANSWER
from tunewright.environment import Paths, fetch_container
from tunewright.plan.secrets import REDACTED, SecretValue
from tunewright.plugins.registry import Plugin
from tunewright.providers import wire
from tunewright.providers.base import Provider
from tunewright.providers.fields import secret_env
from tunewright.runner.failure import Failure
from tunewright.runner.verdicts import read_verdict

LAUNCHER = ("-m", "tunewright_launcher")
_SHORTEST_SECRET = 8  # characters
_LINGER, _LOOK = 2.0, 0.05  # seconds that a child process may take to end, and between two looks
_SHOWN = 4000  # characters of a log


def python_path() -> str:
    """Return the folders that this process imports from, for another one."""
    return os.pathsep.join(os.path.abspath(p) for p in sys.path if p)  # noqa: PTH100 - links stay


def ask_elsewhere(
    call: str, *, another_day: bool = True, limit: float = 60, **arguments: object
) -> Any:  # the answer is JSON
    """Call a function of `_elsewhere` in another process, on another machine, on another day, within a limit of seconds."""
    environment_there = {
        **os.environ,
        "PYTHONPATH": python_path(),
        "PYTHONHASHSEED": "1234",
        "HOSTNAME": "another-machine",
        "USER": "somebody-else",
        "HOME": "/home/somebody-else",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tunewright._kit.elsewhere"],
        env=environment_there,
        cwd=Path(sys.executable).parent if another_day else None,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        asked = json.dumps({"call": call, "another_day": another_day, **arguments})
        answer, said = process.communicate(asked, timeout=limit)
    except subprocess.TimeoutExpired:
        pytest.fail(f"The plugin has not answered within {limit:.0f} s in another process: what does it wait for?")
    finally:
        end(process)
    assert process.returncode == 0, f"The plugin fails in another process:\n{said[-_SHOWN:]}"
    found = [line.removeprefix(ANSWER) for line in answer.splitlines() if line.startswith(ANSWER)]
    assert found, f"The plugin ends the process that calls it, with exit code 0.\n{said[-_SHOWN:]}"
    return json.loads(found[-1])


@attrs.frozen(kw_only=True)
class Done:
    """What a step has done.

    Attributes:
        code: its exit code.
        log: what it printed.
        failure: the verdict that it left, if it failed.
        strays: what it wrote outside of the pod.
        left_running: whether processes that it started were still running when it had ended.
    """

    code: int
    log: str
    failure: Failure | None
    strays: tuple[str, ...]
    left_running: bool

    def succeeded(self, what: str) -> None:
        """Fail the test unless the step has succeeded."""
        assert self.failure is None, f"{what} has failed: {self.failure}\n{self.shown}"
        assert self.code == 0, f"{what} has ended with exit code {self.code}.\n{self.shown}"
        assert not self.left_running, f"{what} leaves processes running, which nobody ends. {self.shown}"

    @property
    def shown(self) -> str:
        """The end of the log."""
        return f"Its log ends:\n{self.log[-_SHOWN:]}"


@attrs.frozen(kw_only=True)
class Pod:
    """The folders of a pod.

    Attributes:
        folder: holds all of them.
        limit: seconds after which a step is killed, and the test fails.
    """

    folder: Path
    limit: float

    def __attrs_post_init__(self) -> None:
        """Create them."""
        for name in ("workspace", "config", "run", "packages", "cwd", "home", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    @property
    def workspace(self) -> Path:
        """The volume."""
        return self.folder / "workspace"

    def give(self, slot: str, plugin: Plugin, provider: Provider) -> None:
        """Put a provider into the pod's configuration, as a plan does."""
        document = document_of(slot, plugin, provider)
        (self.folder / "config" / f"{slot}.json").write_text(document.dumps(), "utf-8")

    def env(self, *providers: Provider) -> dict[str, str]:
        """Return the environment of a container with these providers' secrets."""
        paths = Paths(
            workspace=self.workspace,
            config=self.folder / "config",
            run=self.folder / "run",
            packages=self.folder / "packages",
            termination_log=self.folder / "termination-log",
        )
        secrets = {env: value for provider in providers for env, value in literals(provider).items()}
        tuned = {name: value for name, value in os.environ.items() if not name.startswith(("TUNEWRIGHT_", "PET_"))}
        return {
            **tuned,
            **paths.to_env(),
            **secrets,
            environment.SECRETS: ",".join(secrets),
            "TUNEWRIGHT_RETRY_FOR": "3",
            "TUNEWRIGHT_FETCH_STALL": "5",
            "TUNEWRIGHT_FETCH_LISTING": str(self.limit / 2),
            "PYTHONPATH": python_path(),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
        }

    def start(
        self, command: Collection[str], env: Mapping[str, str], name: str, *, kill: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start a target of torchrun, such as a command of the launcher, with its output in a file of that name."""
        watched = [str(self.folder), str(self.folder / f"{name}.strays"), "kill" if kill else ""]
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tunewright._kit.child", *watched, *command],
                cwd=self.folder / "cwd",
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def finish(self, process: subprocess.Popen[bytes], name: str) -> Done:
        """Wait for a command's end, and return what it has done."""
        try:
            process.wait(self.limit)
            left_running = _is_left(process.pid)
        except subprocess.TimeoutExpired:
            pytest.fail(f"The step {name} has not ended within {self.limit:.0f} s.\n{self._done(-1, name).shown}")
        finally:
            end(process)
        return self._done(process.returncode, name, left_running=left_running)

    def step(self, *command: str, env: Mapping[str, str], name: str = "") -> Done:
        """Run a command of the launcher to its end."""
        name = name or command[0]
        return self.finish(self.start((*LAUNCHER, *command), env, name), name)

    def fetch(self, slot: str, provider: Provider) -> Done:
        """Run the init container that fetches an input."""
        return self.step("fetch", slot, env=self.env(provider), name=fetch_container(slot))

    def _done(self, code: int, name: str, *, left_running: bool = False) -> Done:
        strays = self.folder / f"{name}.strays"
        lines = strays.read_text("utf-8").splitlines() if strays.exists() else []
        return Done(
            code=code,
            log=(self.folder / f"{name}.log").read_text("utf-8", errors="replace"),
            failure=read_verdict(self.folder / "run"),
            strays=tuple(what for kind, what in map(json.loads, lines) if kind == "file"),
            left_running=left_running,
        )

    def leftovers(self, *, slots: Collection[str]) -> list[str]:
        """Return what was left in the pod's working and temporary folders, and beside the slots of its volume."""
        found = [path for name in ("cwd", "tmp") for path in sorted((self.folder / name).iterdir())]
        beside = [path for path in sorted(self.workspace.iterdir()) if path.name not in slots]
        found += [path for path in beside if path.is_file()]
        found += [path for folder in beside for path in sorted(folder.rglob("*")) if not path.is_dir()]
        return [path.relative_to(self.folder).as_posix() for path in found]


def _is_left(group: int) -> bool:
    """Return whether a process group has a process, also after a moment."""
    give_up = time.monotonic() + _LINGER
    while time.monotonic() < give_up:
        try:
            os.killpg(group, 0)
        except OSError:
            return False
        time.sleep(_LOOK)
    return True


def secrets_left(pod: Pod, provider: Provider) -> list[str]:
    """Return the files, outside of the volume and of the configuration, that have a secret of a provider."""
    secrets = [secret.encode() for secret in literals(provider).values()]
    folders = (pod.folder / name for name in ("home", "cwd", "tmp"))
    files = (path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file())
    found = [path for path in files if any(secret in path.read_bytes() for secret in secrets)]
    return [path.relative_to(pod.folder).as_posix() for path in found]


def end(process: subprocess.Popen[Any]) -> None:
    """Kill a process and what it started."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def document_of(slot: str, plugin: Plugin, provider: Provider) -> wire.WireDocument:
    """Return the document of a provider, as a plan has it."""
    return wire.WireDocument(
        kind=environment.kind_of_slot(slot),
        provider=plugin.name,
        distribution=plugin.dist,
        version=plugin.version,
        params=wire.unstructure(provider, slot),
    )


def literals(provider: Provider) -> dict[str, str]:
    """Return the literal secrets of a provider, by their variables."""
    return {env: value.reveal() for env, value in secret_env(provider).items() if isinstance(value, SecretValue)}


def with_wrong_secrets(provider: Provider) -> dict[str, str]:
    """Return other secrets of the same form."""
    return {env: f"{value[:-1]}{'x' if value[-1:] != 'x' else 'y'}" for env, value in literals(provider).items()}


def check_printed(done: Done, provider: Provider, what: str) -> None:
    """Fail the test if a step printed a secret; steps redact them, but know only some of their forms."""
    secrets = literals(provider)
    short = [env for env, secret in secrets.items() if len(secret) < _SHORTEST_SECRET]
    assert not short, (
        f"{what} cannot be searched for {', '.join(short)}: give the service and the provider secrets of at least {_SHORTEST_SECRET} "
        "characters, user names too, which are not a part of other words."
    )
    forms = [form for secret in secrets.values() for form in (secret, secret.encode().hex(), *_in_base64(secret))]
    shown = REDACTED in done.log or any(form in done.log for form in forms)
    assert not shown, f"{what} prints a secret, or a repr of a provider; print neither. {done.shown}"


def _in_base64(secret: str) -> list[str]:
    """Return what Base64 shows of a secret, alone or after a user's name, whose length decides where it begins."""
    shown = (base64.b64encode(b" " * offset + secret.encode()).decode().rstrip("=") for offset in range(3))
    return [text[-(-offset * 8 // 6) : -1] for offset, text in enumerate(shown)]
