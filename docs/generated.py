"""The parts of the reference that are made from the code: keys of job files, fields, commands, events."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import attrs
import click
from griffe import Docstring, DocstringSectionKind

_FAMILIES = Path(__file__).with_name("model-families.json")
_REQUIRED = ("model", "dataset", "trainer")


def job_keys() -> str:
    """Return the table of the keywords that all jobs share."""
    from tunewright._client.options import JobOptions

    return _keywords(JobOptions.__annotations__)


def train_keys() -> str:
    """Return the table of the keywords that only `train()` has."""
    from tunewright._client.options import JobOptions, TrainOptions

    return _keywords({k: v for k, v in TrainOptions.__annotations__.items() if k not in JobOptions.__annotations__})


def code_keys() -> str:
    """Return the table of the keywords that only `create_job()` has."""
    from tunewright._client.options import CodeOptions, JobOptions

    return _keywords({k: v for k, v in CodeOptions.__annotations__.items() if k not in JobOptions.__annotations__})


def storage_fields() -> str:
    """Return the table of the fields of `Storage`."""
    from tunewright import Storage

    return _fields(Storage)


def data_fields() -> str:
    """Return the table of the fields of `DataParams`."""
    from tunewright_hf import DataParams

    return _fields(DataParams)


def trainer_fields() -> str:
    """Return the table of the fields of `HuggingFaceTrainParams`."""
    from tunewright_hf import HuggingFaceTrainParams

    return _fields(HuggingFaceTrainParams)


def commands() -> str:
    """Return every command with its usage, its arguments and its options."""
    from tunewright.cli.commands import cli

    return "\n".join(_command(name, command) for name, command in _with_subcommands(cli))


def _with_subcommands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _with_subcommands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def events() -> str:
    """Return every event with its fields."""
    from tunewright.events import EVENTS

    return "\n".join(_event(name, event) for name, event in EVENTS.items())


def model_families() -> str:
    """Return what becomes of each family of models: trained, refused with the reason, or not tried out with the reason."""
    found = json.loads(_FAMILIES.read_text("utf-8"))
    parts = (_loader(name, families) for name, families in found["families"].items())
    return f"As of transformers {found['transformers']}.\n\n" + "\n".join(parts)


def _loader(name: str, families: Mapping[str, str]) -> str:
    kinds = {kind: [f for f, text in families.items() if text.partition(":")[0] == kind] for kind in _kinds(families)}
    lines = [f"## `{name}`: {len(families)} families", ""]
    for kind, members in kinds.items():
        lines += [f"**{kind.capitalize()}: {len(members)}**", ""]
        reasons = [(f"`{member}`", families[member].partition(": ")[2].replace("|", "/")) for member in members]
        if all(reason for _, reason in reasons):
            lines += [
                _table(("Family", "Reason"), ((m, f"`{r}`" if kind == "not built" else r) for m, r in reasons)),
                "",
            ]
        else:
            lines += [", ".join(member for member, _ in reasons), ""]
    return "\n".join(lines)


def _kinds(families: Mapping[str, str]) -> list[str]:
    return sorted(
        {text.partition(":")[0] for text in families.values()}, key=lambda kind: (kind[:7] != "trained", kind)
    )


PARTS: Mapping[str, Callable[[], str]] = {
    "job-keys": job_keys,
    "train-keys": train_keys,
    "code-keys": code_keys,
    "storage-fields": storage_fields,
    "data-fields": data_fields,
    "trainer-fields": trainer_fields,
    "cli": commands,
    "events": events,
    "model-families": model_families,
}


def _keywords(annotations: Mapping[str, object]) -> str:
    """Return the table of keywords, which are described where they are declared, or by the class that takes them."""
    from tunewright import CodeRequest, TrainRequest
    from tunewright._client.options import CodeOptions, TrainOptions
    from tunewright.plan import RunPolicy, Scheduling

    classes = (Scheduling, RunPolicy, CodeRequest, TrainRequest)
    described = {k: v for cls in (*classes, CodeOptions, TrainOptions) for k, v in _attributes(cls).items()}
    defaults = {a.name: _default(a) for cls in classes for a in attrs.fields(cls) if a.default is not attrs.NOTHING}
    defaults |= dict.fromkeys(_REQUIRED, "required")
    rows = ((f"`{k}`", f"`{_type(kind)}`", defaults.get(k, ""), described[k]) for k, kind in annotations.items())
    return _table(("Key", "Type", "Default", "Meaning"), rows)


def _fields(cls: type[attrs.AttrsInstance]) -> str:
    described = _attributes(cls)
    rows = (
        (f"`{a.name}`", f"`{_type(a.type)}`", _default(a), described.get(a.name, ""))
        for a in attrs.fields(cls)
        if a.init and not a.name.startswith("_")
    )
    return _table(("Field", "Type", "Default", "Meaning"), rows)


def _attributes(cls: type) -> dict[str, str]:
    """Return attribute → its description, from the docstrings of a class and those that it derives from."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        for section in Docstring(inspect.cleandoc(base.__dict__.get("__doc__") or "")).parse("google", warnings=False):
            if section.kind is DocstringSectionKind.attributes:
                found |= {a.name: _sentence(a.description) for a in section.value}
    return found


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _type(annotation: object) -> str:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__forward_arg__", None)
    text = text or (annotation.__name__ if isinstance(annotation, type) else str(annotation))
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", text)


def _default(attribute: attrs.Attribute[object]) -> str:
    value = attribute.default
    if value is attrs.NOTHING:
        return "required"
    plain = isinstance(value, (str, int, float)) and value != ""
    return f"`{value!r}`" if plain else ""


def _command(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=f"tunewright {name}")
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    rows = [
        (
            ", ".join(f"`{word}`" for word in (*p.opts, *p.secondary_opts)),
            f"`{_values(p)}`" if _values(p) else "",
            _help(p),
        )
        for p in command.params
        if isinstance(p, click.Option) and not p.hidden
    ]
    options = _table(("Option", "Value", "Meaning"), rows) if rows else ""
    examples = "".join(f"# {meaning}\ntunewright {line}\n" for line, meaning in getattr(command, "examples", ()))
    shown = f"```sh\n{examples}```\n\n" if examples else ""
    return f"## `{name}`\n\n{inspect.cleandoc(command.help or '')}\n\n```text\n{usage}\n```\n\n{shown}{options}\n"


def _values(option: click.Option) -> str:
    return "" if option.is_flag else option.metavar or option.type.name.upper()


def _help(option: click.Option) -> str:
    shown = option.show_default and not option.is_flag
    return f"{option.help or ''}{f' Default: `{option.default}`.' if shown else ''}{' Repeatable.' if option.multiple else ''}"


def _event(name: str, event: type[attrs.AttrsInstance]) -> str:
    from tunewright.events import Event, Failed
    from tunewright.runner.failure import Failure

    common = {a.name for a in attrs.fields(Event)}
    described = _attributes(Failure if event is Failed else event)
    fields = inspect.get_annotations(Failure if event is Failed else event)
    rows = (
        (f"`{k}`", f"`{_type(kind)}`", described[k]) for k, kind in fields.items() if k in described.keys() - common
    )
    text = inspect.cleandoc(event.__doc__ or "").partition("\n\nAttributes:")[0]
    about = f"{text}\n\nClass: [`{event.__name__}`][tunewright.events.{event.__name__}]"
    return f"## `{name}`\n\n{about}\n\n{_table(('Field', 'Type', 'Meaning'), rows)}\n"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(_lines(tuple(head), rows))


def _lines(head: tuple[str, ...], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    yield _line(head)
    yield _line("---" for _ in head)
    yield from map(_line, rows)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    # A line break ends a row of a table, and a bar ends a cell, but not in code; "<step>" would be an element of HTML.
    pieces = re.split("(`[^`]*`)", " ".join(text.split()))
    pieces[::2] = [piece.replace("|", "\\|").replace("<", "&lt;") for piece in pieces[::2]]
    return "".join(pieces)
