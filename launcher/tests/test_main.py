"""`python -m tunewright_launcher`: how the process ends."""

import os
import subprocess
import sys

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


def test_a_fetch_ends_with_its_code_after_what_libraries_have_registered_and_with_all_that_was_printed() -> None:
    env = {**os.environ, "PYTHONUNBUFFERED": ""}  # what is printed waits in a buffer, as it does by default
    command = [sys.executable, "-c", _ENDING, "fetch"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "cleaned up", "")


def test_a_fetch_whose_arguments_are_wrong_ends_as_any_program_does() -> None:
    command = [sys.executable, "-m", "tunewright_launcher", "fetch", "nothing"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "invalid choice" in ended.stderr
