"""Completion in real shells, installed as the documents say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pexpect = pytest.importorskip("pexpect", reason="pexpect is not installed here")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parent.parent
FILES = {"bash": ".bashrc", "zsh": ".zshrc", "fish": ".config/fish/completions/tunewright.fish"}
_TIMEOUT = 60  # seconds

Complete = Callable[[str], str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one job and one folder."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "quick.py").write_text("print('done')\n")
    (folder / "answers").mkdir()
    run = [str(BIN / "tunewright"), "run", "--backend", "local", "--name", "nightly-sums", str(folder / "quick.py")]
    subprocess.run(run, env=env_of(folder), check=True, capture_output=True)
    return folder


def env_of(home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("LANG", "VIRTUAL_ENV") if name in os.environ}
    path = f"{BIN}:{os.environ['PATH']}"
    return {**kept, "HOME": str(home), "PATH": path, "TERM": "dumb", "TUNEWRIGHT_HOME": str(home / "jobs"), "PS1": "> "}


def install(shell: str, home: Path) -> None:
    """Do what the page says, which is an example of `tunewright completion --help`, too."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here")
    target = home / FILES[shell]
    target.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    page = (ROOT / "docs" / "reference" / "cli.md").read_text("utf-8")
    (line,) = re.findall(rf"^tunewright completion {shell} .*$", page, re.MULTILINE)
    subprocess.run(["bash", "-c", line], env=env_of(home), check=True)


@pytest.fixture(params=["bash", "zsh"])
def complete(request: pytest.FixtureRequest, home: Path) -> Iterator[Complete]:
    """Types a line and a tab into an interactive shell, and says what the shell makes of it."""
    shell = request.param
    install(shell, home)
    options = ["--noprofile", "-i"] if shell == "bash" else ["-i"]
    terminal = pexpect.spawn(
        shell, options, env=env_of(home), cwd=str(home), encoding="utf-8", dimensions=(50, 300), timeout=_TIMEOUT
    )
    terminal.sendline("PS1='ready> '; echo be''gun")
    terminal.expect_exact("begun")  # not the echo of the line
    terminal.expect_exact("ready> ")

    def typed(line: str) -> str:
        terminal.send(f"{line}\t")
        terminal.expect_exact(line)
        time.sleep(0.1)
        terminal.send("#end")  # comes after what the shell has inserted
        terminal.expect_exact("#end")
        made = f"{line}{terminal.before}".replace("\a", "")
        made = re.sub(r"(.)\x08\1", r"\1", made)  # zsh draws an end that the next key may remove twice
        terminal.send("\x15")  # forgets the line
        return made

    yield typed
    terminal.close()


def test_commands_options_jobs_containers_and_keys_are_completed(complete: Complete) -> None:
    assert complete("tunewright prev") == "tunewright preview "
    assert complete("tunewright train --eval-d") == "tunewright train --eval-dataset "
    assert complete("tunewright status night") == "tunewright status nightly-sums "
    assert complete("tunewright push night") == "tunewright push nightly-sums "
    assert complete("tunewright logs nightly-sums --container fetch-m") == (
        "tunewright logs nightly-sums --container fetch-model "
    )
    assert complete("tunewright train --model ans") == "tunewright train --model answers/"


def test_a_key_goes_on_behind_its_dot_and_its_equals_sign(complete: Complete) -> None:
    start = "tunewright train job.yaml --set trainer"
    assert complete(f"{start}.data.max_le") == f"{start}.data.max_length="
    assert complete(f"{start}.lora_con") == f"{start}.lora_config", "it may go on with . and with ="
    assert complete(f"{start}.lora_config.lora_al") == f"{start}.lora_config.lora_alpha="


def test_fish_completes_commands_jobs_and_keys(home: Path) -> None:
    install("fish", home)

    def completed(line: str) -> list[str]:
        code = f"complete -C '{line}'"
        done = subprocess.run(["fish", "-c", code], env=env_of(home), capture_output=True, text=True, check=True)
        return [found.partition("\t")[0] for found in done.stdout.splitlines()]

    assert completed("tunewright prev") == ["preview"]
    assert completed("tunewright status night") == ["nightly-sums"]
    assert completed("tunewright logs nightly-sums --container fetch-m") == ["fetch-model"]
    assert completed("tunewright train --set trainer.data.max_le") == ["trainer.data.max_length="]
    assert sorted(completed("tunewright train --set trainer.lora_con")) == [
        "trainer.lora_config.",
        "trainer.lora_config=",
    ]
