"""The commands of a plan: `fetch` and `check` in init containers, `run` as process 1, `train` on every rank; `upload` by hand."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from tunewright import runner
from tunewright.environment import fetch_container, is_input_slot
from tunewright_launcher.step import run_init_step


def main(argv: Sequence[str]) -> int:
    """Run one command; return the exit code of the process."""
    if argv[:1] == ["run"]:  # the rest, options included, belongs to the command that it starts
        return runner.main(argv[1:])
    arguments = _parser().parse_args(argv)
    # Each command imports only what it needs: every worker waits for its init containers.
    slot = arguments.slot if arguments.command == "fetch" else None

    def whose() -> str:
        from tunewright_launcher.supervised import plugins_of, slots_of

        return plugins_of(slots_of(arguments.command, slot), os.environ)

    if arguments.command == "train":
        from tunewright_launcher.train import train

        return train(os.environ)
    if arguments.command == "check":
        from tunewright_launcher.check import check

        return run_init_step("check", check, os.environ, whose)
    if arguments.command == "upload":
        from tunewright_launcher.outputs import upload

        return run_init_step(
            "upload", lambda step: upload(step, arguments.folder, replace=arguments.replace), os.environ, whose
        )
    from tunewright_launcher.fetch import fetch

    return run_init_step(fetch_container(arguments.slot), lambda step: fetch(step, arguments.slot), os.environ, whose)


def _slot(name: str) -> str:
    if not is_input_slot(name):
        raise argparse.ArgumentTypeError(f"not an input: {name!r}")
    return name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tunewright_launcher", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    fetching = commands.add_parser("fetch", help="download a model or dataset into its slot")
    fetching.add_argument(
        "slot", type=_slot, help="model, adapter, dataset, eval_dataset, or dataset_1, … of a mixture"
    )
    commands.add_parser("check", help="refuse a job that cannot be trained, before the ranks start")
    commands.add_parser("run", help="run -- COMMAND …: start the ranks, pass signals on, count attempts")
    commands.add_parser("train", help="train as one rank; started by torchrun")
    uploading = commands.add_parser("upload", help="upload a finished model, as train does at its end")
    uploading.add_argument("folder", type=Path, help="the model's folder")
    uploading.add_argument("--replace", action="store_true", help="overwrite the files of another model")
    return parser
