"""The commands that use a finished model: chat, generate and merge."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeVar

import attrs
import click

from tunewright.cli import completion
from tunewright.cli.options import Connection, connected
from tunewright.errors import RequestError

if TYPE_CHECKING:
    from tunewright.providers.trained import Message, Sampling, TrainedModel

_F = TypeVar("_F", bound=Callable[..., None])


@attrs.frozen(kw_only=True)
class Result:
    """The finished model that a command is about.

    Attributes:
        target: a job's name, or a folder.
        model: folder of the model that was trained, for adapters; None: the one that the adapter names.
        trainer: name of the trainer that made it.
        connection: where jobs are looked up.
    """

    target: str
    model: Path | None
    trainer: str
    connection: Connection

    @property
    def folder(self) -> Path:
        """The folder of the result.

        Raises:
            RequestError: it is not on this machine.
            JobError: there is neither such a folder nor such a job.
        """
        if "/" in self.target or "\\" in self.target or Path(self.target).is_dir():
            if not Path(self.target).is_dir():
                raise RequestError(
                    "is not a folder", field="TARGET", value=self.target, remedy="Give a result's folder."
                )
            return Path(self.target)
        job = self.connection.job(self.target)
        if (folder := job.result) is not None:
            return folder
        where = job.status().result
        remedy = (
            f"Fetch it first: tunewright fetch {where} ./result, and use ./result/model."
            if where and "://" in where
            else f"See what became of the job: tunewright status {self.target}"
        )
        raise RequestError("has no result on this machine", field="job", value=self.target, remedy=remedy)

    def load(self) -> TrainedModel:
        """Load the model with the trainer that made it.

        Raises:
            RequestError: it cannot be loaded.
        """
        from tunewright.plugins.registry import Registry

        plugin, folder = Registry().get(self.trainer), self.folder
        provider = plugin.provider("trainer")()
        try:
            return provider.load_result(folder, self.model)
        except ImportError as error:
            remedy = f"Install the trainer's libraries: pip install '{plugin.dist}[{provider.extra}]'"
            problem = f"requires a library that is not installed here: {error}"
            raise RequestError(problem, field="trainer", value=self.trainer, remedy=remedy) from error


def of_result(command: _F) -> _F:
    """Add the argument TARGET and the options of a `Result`, and pass it to the command as `result`."""

    @click.argument("target", shell_complete=completion.jobs)
    @click.option(
        "--model",
        type=click.Path(path_type=Path),
        help="Folder of the model that an adapter belongs to; defaults to the one that it was trained on.",
    )
    @click.option("--trainer", default="hf", show_default=True, help="The trainer that made the result.")
    @connected
    @functools.wraps(command)
    def with_result(
        *, target: str, model: Path | None, trainer: str, connection: Connection, **arguments: object
    ) -> None:
        command(result=Result(target=target, model=model, trainer=trainer, connection=connection), **arguments)

    return with_result  # type: ignore[return-value]


def of_sampling(command: _F) -> _F:
    """Add the options of a `Sampling`, and pass it to the command as `sampling`."""

    @click.option("--max-tokens", type=click.IntRange(min=1), default=512, show_default=True, help="Of an answer.")
    @click.option(
        "--temperature",
        type=click.FloatRange(min=0),
        default=0.0,
        show_default=True,
        help="0 always takes the most likely token.",
    )
    @click.option("--seed", type=int, help="Of the random choices.")
    @click.option("--text", "as_text", is_flag=True, help="Continue the text as it is, without the chat template.")
    @functools.wraps(command)
    def with_sampling(
        *, max_tokens: int, temperature: float, seed: int | None, as_text: bool, **arguments: object
    ) -> None:
        from tunewright.providers.trained import Sampling

        sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed, as_text=as_text)
        command(sampling=sampling, **arguments)

    return with_sampling  # type: ignore[return-value]


@click.command()
@of_result
@click.option("--system", help="A system prompt to begin with.")
@of_sampling
def chat(*, result: Result, system: str | None, sampling: Sampling) -> None:
    r"""Talk to the model that a job has trained. TARGET is a job's name, or the folder of a result.

    \b
    tunewright chat quickstart
    tunewright chat ./result/model --model ./base --temperature 0.7
    """
    model = result.load()
    start: list[Message] = [{"role": "system", "content": system}] if system else []
    messages = list(start)
    click.echo("Type a message. /new starts again, Ctrl-D ends.", err=True)
    while (said := _read()) is not None:
        if said == "/new":
            messages = list(start)
        elif said:
            messages.append({"role": "user", "content": said})
            messages.append({"role": "assistant", "content": _print(model.answer(messages, sampling))})


def _read() -> str | None:
    """Return a line that the user types; None at the end of the input. A pipe gets no prompt."""
    if sys.stdin.isatty():
        click.secho("you: ", bold=True, nl=False)
    line = sys.stdin.readline()
    return line.strip() if line else None


def _print(pieces: Iterator[str]) -> str:
    said = ""
    for piece in pieces:
        click.echo(piece, nl=False)
        said += piece
    click.echo("")
    return said.strip()


@click.command()
@of_result
@click.argument("prompts", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--output", "-o", type=click.File("w", encoding="utf-8", lazy=True), default="-", help="Write here.")
@of_sampling
def generate(*, result: Result, prompts: Path, output: TextIO, sampling: Sampling) -> None:
    r"""Answer PROMPTS, and print each with its answer as a line of JSON.

    PROMPTS is JSONL: {"prompt": "…"} or {"messages": [{"role": "user", "content": "…"}]} in each line; - reads standard input.

    \b
    tunewright generate quickstart prompts.jsonl -o answers.jsonl
    """
    with click.open_file(str(prompts), encoding="utf-8") as lines:
        rows = [_row(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    model = result.load()
    for row, messages in rows:
        answer = "".join(model.answer(messages, sampling)).strip()
        output.write(json.dumps({**row, "answer": answer}, ensure_ascii=False) + "\n")
        output.flush()


def _row(number: int, line: str) -> tuple[dict[str, object], list[Message]]:
    """Return a row of prompts, and its messages.

    Raises:
        RequestError: it is neither a prompt nor a conversation.
    """
    field, remedy = f"PROMPTS:{number}", 'Write {"prompt": "…"} or {"messages": [{"role": "user", "content": "…"}]}.'
    try:
        row = json.loads(line)
    except ValueError as error:
        raise RequestError(f"is not JSON: {error}", field=field, remedy=remedy) from error
    prompt = row.get("prompt") if isinstance(row, dict) else None
    messages = row.get("messages") if isinstance(row, dict) else None
    if isinstance(prompt, str):
        return row, [{"role": "user", "content": prompt}]
    if isinstance(messages, list) and messages and all(_is_message(m) for m in messages):
        return row, messages
    raise RequestError("has neither a prompt nor messages", field=field, remedy=remedy)


def _is_message(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in ("role", "content"))


@click.command()
@of_result
@click.argument("folder", type=click.Path(path_type=Path))
def merge(*, result: Result, folder: Path) -> None:
    r"""Merge an adapter into its model, and write a model to FOLDER that needs no adapter library.

    \b
    tunewright merge quickstart ./merged
    """
    result.load().merge(folder)
    click.echo(f"The merged model is in {folder}.")


COMMANDS = (chat, generate, merge)
