"""`python -m tunewright_launcher`: how the process ends."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.servers.step import step_environment

from tunewright.providers.wire import WireDocument

# A command that does nothing but end, in place of the launcher's.
_ENDING = """
import atexit, runpy, sys
from tunewright_launcher import cli

def main(arguments):
    atexit.register(print, "cleaned up", end="")
    return 7

cli.main = main
sys.argv = ["tunewright_launcher", *sys.argv[1:]]
runpy.run_module("tunewright_launcher", run_name="__main__")
"""

# Of the client, of providers with other fields than plain ones, and of the trainer.
_FOR_OTHERS = {"tunewright.plan.plan", "tunewright._client.client", "cattrs", "kubernetes", "torch"}


@pytest.mark.parametrize("words", [["fetch"], ["check"], ["train"]], ids=str)
def test_a_step_ends_with_its_code_after_what_libraries_have_registered_and_with_all_that_was_printed(
    words: list[str],
) -> None:
    env = {**os.environ, "PYTHONUNBUFFERED": ""}  # what is printed waits in a buffer, as it does by default
    command = [sys.executable, "-c", _ENDING, *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "cleaned up", "")


def test_a_fetch_imports_nothing_that_it_has_no_use_for(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_text("a", encoding="utf-8")
    uri = (tmp_path / "source").as_uri()
    document = WireDocument(
        kind="model",
        provider="file",
        distribution="tunewright",
        version=version("tunewright"),
        params={"uri": uri, "policy": "Always"},
    )
    env = step_environment(tmp_path, tmp_path / "workspace")
    (tmp_path / "config" / "model.json").write_text(document.dumps(), encoding="utf-8")
    code = f"import sys; from tunewright_launcher.cli import main; main(['fetch', 'model']); print({_FOR_OTHERS} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert (tmp_path / "workspace" / "model" / "a").read_text("utf-8") == "a"
    assert ended.stdout.splitlines()[-1] == "set()"


def test_a_fetch_whose_arguments_are_wrong_ends_as_any_program_does() -> None:
    command = [sys.executable, "-m", "tunewright_launcher", "fetch", "nothing"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "not an input: 'nothing'" in ended.stderr


@pytest.mark.slow
def test_a_step_does_not_wait_for_a_thread_that_never_ends() -> None:
    left = _ENDING.replace(
        "    return 7",
        "    import threading\n    threading.Thread(target=threading.Event().wait, name='acme').start()\n    return 7",
    )
    command = [sys.executable, "-c", left, "fetch"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 7
    assert "without waiting for what a plugin left running: acme" in ended.stderr
