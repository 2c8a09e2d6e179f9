"""The commands that use a finished model: chat, generate, merge and push."""

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
from tunewright.cli.grouped import Command
from tunewright.cli.options import Connection, connected, json_option
from tunewright.errors import RequestError, TunewrightError
from tunewright.status.state import JobState

if TYPE_CHECKING:
    from tunewright._client.job import Job
    from tunewright.plugins.registry import Plugin
    from tunewright.providers.trained import Message, Sampling, TrainedModel

_F = TypeVar("_F", bound=Callable[..., None])


@attrs.frozen(kw_only=True)
class Found:
    """A result on this machine.

    Attributes:
        folder: its folder.
        job: the job that made it; None for a folder that the user named.
    """

    folder: Path
    job: Job | None


@attrs.frozen(kw_only=True)
class Result:
    """The finished model that a command is about.

    Attributes:
        target: a job's name, or a folder.
        trainer: name of the trainer that made it; None: the job's, or "hf".
        connection: where jobs are looked up.
    """

    target: str
    trainer: str | None
    connection: Connection

    def find(self) -> Found:
        """Return where it is.

        Raises:
            RequestError: it is not on this machine.
            JobError: there is neither such a folder nor such a job.
        """
        folder = Path(self.target)
        if "/" in self.target or "\\" in self.target:
            if not folder.is_dir():
                remedy = "Give a result's folder."
                raise RequestError("is not a folder", field="TARGET", value=self.target, remedy=remedy)
            return Found(folder=folder, job=None)
        # A bare name is a job's if there is one: beside the file of a job often lies a folder of its name, with its inputs.
        try:
            job = self.connection.client().get_job(self.target)
        except TunewrightError:
            if not folder.is_dir():
                raise
            return Found(folder=folder, job=None)
        if (result := job.result) is not None:
            return Found(folder=result, job=job)
        raise RequestError("has no result on this machine", field="job", value=self.target, remedy=_remedy(job))

    def load(self, model: Path | None) -> TrainedModel:
        """Load the model with the trainer that made it.

        Args:
            model: folder of the model that was trained, for adapters; None: the one that the adapter names.

        Raises:
            RequestError: it cannot be loaded.
        """
        found = self.find()
        name, plugin = self._trainer_of(found)
        provider = plugin.provider("trainer")()
        try:
            return provider.load_result(found.folder, model)
        except ImportError as error:
            remedy = f"Install the trainer's libraries: pip install '{plugin.dist}[{provider.extra}]'"
            problem = f"requires a library that is not installed here: {error}"
            raise RequestError(problem, field="trainer", value=name, remedy=remedy) from error

    def finished(self) -> Path:
        """Return the folder of a result that is known to be complete.

        Raises:
            RequestError: the job has not succeeded, or the folder has something else.
        """
        found = self.find()
        if found.job is not None and (state := found.job.state) is not JobState.SUCCEEDED:
            follow = found.job.command_for("follow")
            remedy = (
                f"If its training has finished, give its folder instead: {found.folder}"
                if state.at_rest
                else f"Wait for its end: {follow}"
            )
            raise RequestError(f"is {state}, not {JobState.SUCCEEDED}", field="job", value=self.target, remedy=remedy)
        if found.job is None or found.job.trainer is not None:  # what a job of the user's own code writes is up to it
            self._trainer_of(found)[1].provider("trainer")().check_result(found.folder)
        return found.folder

    def _trainer_of(self, found: Found) -> tuple[str, Plugin]:
        from tunewright._client.next_commands import DEFAULT_TRAINER
        from tunewright.plugins.registry import Registry

        name = self.trainer or (found.job and found.job.trainer) or DEFAULT_TRAINER
        return name, Registry().get(name)


def _remedy(job: Job) -> str:
    """Return how to get a result that is not on this machine."""
    status = job.status()
    if status.result and status.result.startswith("pvc://"):
        claim, _, folder = status.result.removeprefix("pvc://").partition("/")
        return f"Copy {folder} from a pod that mounts the claim {claim} (kubectl cp), and give that folder."
    if status.result and "://" in status.result:
        return f"Fetch it first: tunewright fetch {status.result} ./result, and use ./result/model."
    return f"See what became of the job: {job.command_for('status')}"


def of_result(command: _F) -> _F:
    """Add the argument TARGET and the options of a `Result`, and pass it to the command as `result`."""

    @click.argument("target", shell_complete=completion.jobs)
    @click.option("--trainer", help='The trainer that made the result: by default the job\'s, or "hf" for a folder.')
    @connected
    @functools.wraps(command)
    def with_result(*, target: str, trainer: str | None, connection: Connection, **arguments: object) -> None:
        command(result=Result(target=target, trainer=trainer, connection=connection), **arguments)

    return with_result  # type: ignore[return-value]


model_option = click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="Folder of the model that an adapter belongs to; defaults to the one that it was trained on.",
)


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


@click.command(
    cls=Command,
    examples=[
        ("chat quickstart", "Talk to the result of a job."),
        ("chat ./result/model --model ./base --temperature 0.7", "Talk to an adapter whose base model is elsewhere."),
    ],
)
@of_result
@model_option
@click.option("--system", help="A system prompt to begin with.")
@of_sampling
def chat(*, result: Result, model: Path | None, system: str | None, sampling: Sampling) -> None:
    """Talk to the model that a job has trained. TARGET is a job's name, or the folder of a result."""
    trained = result.load(model)
    start: list[Message] = [{"role": "system", "content": system}] if system else []
    messages = list(start)
    click.echo("Type a message. /new starts again, Ctrl-D ends.", err=True)
    while (said := _read()) is not None:
        if said == "/new":
            messages = list(start)
        elif said:
            messages.append({"role": "user", "content": said})
            messages.append({"role": "assistant", "content": _print(trained.answer(messages, sampling))})


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


@click.command(
    cls=Command,
    examples=[("generate quickstart prompts.jsonl -o answers.jsonl", "Answer a file of prompts, with the same rows.")],
)
@of_result
@model_option
@click.argument("prompts", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--output", "-o", type=click.File("w", encoding="utf-8", lazy=True), default="-", help="Write here.")
@of_sampling
def generate(*, result: Result, model: Path | None, prompts: Path, output: TextIO, sampling: Sampling) -> None:
    """Answer PROMPTS, and print each with its answer as a line of JSON.

    PROMPTS is JSONL: {"prompt": "…"} or {"messages": [{"role": "user", "content": "…"}]} in each line; - reads standard input.
    """
    with click.open_file(str(prompts), encoding="utf-8") as lines:
        rows = [_row(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    trained = result.load(model)
    for row, messages in rows:
        answer = "".join(trained.answer(messages, sampling)).strip()
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


@click.command(cls=Command, examples=[("merge quickstart ./merged", "Write a model that needs no adapter library.")])
@of_result
@model_option
@click.argument("folder", type=click.Path(path_type=Path))
def merge(*, result: Result, model: Path | None, folder: Path) -> None:
    """Merge an adapter into its model, and write a model to FOLDER that needs no adapter library."""
    result.load(model).merge(folder)
    click.echo(f"The merged model is in {folder}.")


@click.command(
    cls=Command,
    examples=[
        ("push quickstart hf://org/name", "Publish a job's result in a repository, which is private if it is new."),
        ("push ./merged s3://bucket/models/merged", "Upload a folder, for example what `merge` wrote."),
        ("push quickstart hf://org/name --set access_token.env=MY_TOKEN", "Take the token from another variable."),
    ],
)
@of_result
@click.argument("uri")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="A=B",
    help="Set a field of the target, as below `output` in a job file: --set endpoint_url=https://s3.example.",
)
@click.option("--replace", is_flag=True, help="Overwrite the files of another result.")
@json_option
def push(*, result: Result, uri: str, assignments: tuple[str, ...], replace: bool, as_json: bool) -> None:
    """Upload a finished result to URI, as a job with this `output` does. TARGET is a job's name, or the folder of a result."""
    from tunewright.cli.pushing import push_by_hand, select_target

    target = select_target(uri, assignments)
    push_by_hand(result.finished(), target, replace=replace, as_json=as_json)


COMMANDS = (chat, generate, merge, push)
