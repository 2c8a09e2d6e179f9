"""The commands that plans name: `fetch` and `check` in init containers, `run` as process 1, `train` on every rank."""

from __future__ import annotations

import argparse
import gc
import os
from collections.abc import Sequence

from tunewright import runner
from tunewright.environment import INPUT_SLOTS, fetch_container
from tunewright_launcher.step import run_init_step

# Objects from which on garbage is looked for: more than providers have when their libraries are imported. Each look at them
# takes longer than the last one, and finds nothing: with the usual 700, and then at the end, it was 0.1 s of a fetch.
_GARBAGE = 200_000


def main(argv: Sequence[str]) -> int:
    """Run one command; returns the exit code of the process."""
    if argv[:1] == ["run"]:  # what follows belongs to the command that it starts, options included
        return runner.main(argv[1:])
    arguments = _parser().parse_args(argv)
    # Each command imports its own: the seconds of an init container are every worker's.
    if arguments.command == "train":
        from tunewright_launcher.train import train

        return train(os.environ)
    if arguments.command == "check":
        from tunewright_launcher.check import check

        return run_init_step("check", check, os.environ)
    from tunewright_launcher.fetch import fetch

    gc.set_threshold(_GARBAGE)
    return run_init_step(fetch_container(arguments.slot), lambda step: fetch(step, arguments.slot), os.environ)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tunewright_launcher", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    fetching = commands.add_parser("fetch", help="bring a model or dataset into its slot")
    fetching.add_argument("slot", choices=INPUT_SLOTS)
    commands.add_parser("check", help="refuse what cannot be trained, before the ranks start")
    commands.add_parser("run", help="run -- COMMAND …: start the ranks, pass signals on, count attempts")
    commands.add_parser("train", help="train, as one rank; torchrun starts it")
    return parser
