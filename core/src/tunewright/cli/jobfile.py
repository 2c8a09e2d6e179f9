"""Job files: YAML with the keywords of `train()` or `create_job()`, and those of `TrainingClient`."""

from __future__ import annotations

import contextlib
import copy
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import attrs

from tunewright.cli import places, yaml_text
from tunewright.environment import INPUT_SLOTS, OUTPUT_SLOT, user_variable
from tunewright.errors import RequestError, TunewrightError
from tunewright.plan.secrets import SecretRef, SecretValue

Keywords = dict[str, object]

CLIENT_KEYS = ("backend", "kind", "namespace", "context")

DOTTED_KEY = r"[a-zA-Z_]\w*(\.[a-zA-Z_]\w*)+"
"""A key that stands for one below others: `trainer.data.format`."""

_KEYWORDS = "Write one `keyword: value` per line, with the keywords of train(): model, dataset, trainer, …"


@attrs.frozen(kw_only=True)
class JobFile:
    """A job file with the changes of `--set`.

    Attributes:
        keywords: the keywords, with references to secrets resolved.
        written: the same with the references, as in the file.
        places: where each of them is written.
    """

    keywords: Keywords
    written: Keywords
    places: places.Places

    @contextlib.contextmanager
    def located(self, argument: str = "") -> Iterator[None]:
        """Make errors about a field say where it is written.

        Args:
            argument: the argument that an error is about if it does not say so.

        Raises:
            TunewrightError: as inside, with its `place`.
        """
        try:
            yield
        except RequestError as error:
            error.argument = error.argument or argument
            raise self.places.locate(error) from error.__cause__
        except TunewrightError as error:
            error.place = error.place or self.places.of(error.argument or argument)
            raise


def read(path: Path, assignments: Iterable[str] = (), *, changes: Mapping[str, str] = MappingProxyType({})) -> JobFile:
    """Read a job file.

    Args:
        path: path of the job file.
        assignments: values of `--set`, each of the form `a.b=c`. The part after `=` is parsed as YAML.
        changes: values of other options: key → value.

    Raises:
        RequestError: the file is a script, cannot be read or is not a mapping, or an assignment cannot be applied.
    """
    if path.suffix == ".py":
        remedy = f"Run it with: tunewright run {path}"
        raise RequestError("is a script", field="job file", value=str(path), remedy=remedy)
    try:
        text = path.read_bytes()
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        raise RequestError(problem, field="job file", value=str(path), remedy="Pass a YAML file.") from error
    parsed = yaml_text.parse(text, str(path))
    if not isinstance(parsed.value, dict):
        raise RequestError("is not a mapping", field="job file", value=str(path), remedy=_KEYWORDS)
    parsed = _nested(parsed, str(path))
    where = places.Places.of_file(str(path), parsed)
    for key in changes:
        where.forget((key,))
    return _made({**cast("Keywords", parsed.value), **changes}, where, assignments)


def _nested(parsed: yaml_text.Parsed, name: str) -> yaml_text.Parsed:
    """Return a document in which `trainer.data.format: chat` is what it means: messages name keys so, and people paste them.

    Raises:
        RequestError: a key is given in both forms, or there is something else than a mapping around it.
    """
    document = copy.deepcopy(cast("Keywords", parsed.value))
    dotted = {key: document.pop(key) for key in list(document) if re.fullmatch(DOTTED_KEY, key)}
    for key, value in dotted.items():
        try:
            _put(document, key.split("."), value, anew=True)
        except _NoPlace as found:
            line, column = parsed.positions[(key,)].key
            problem, remedy = f"cannot be applied: {found.problem}", "Write it once, below those keys."
            raise RequestError(problem, field=key, remedy=remedy).located(f"{name}:{line}:{column}", key) from found

    def moved(path: yaml_text.Path) -> yaml_text.Path:
        return (*str(path[0]).split("."), *path[1:]) if path and path[0] in dotted else path

    parents = {moved((key,))[:n]: parsed.positions[(key,)] for key in dotted for n in range(1, key.count(".") + 1)}
    positions = {**parents, **{moved(path): at for path, at in parsed.positions.items()}}
    return attrs.evolve(
        parsed, value=document, positions=positions, words={moved(path): word for path, word in parsed.words.items()}
    )


def of_options(keywords: Mapping[str, object], assignments: Iterable[str]) -> JobFile:
    """Return what a job file with these keywords would be; raises as `read`."""
    return _made(dict(keywords), places.Places(), assignments)


def _made(document: Keywords, where: places.Places, assignments: Iterable[str]) -> JobFile:
    for assignment in assignments:
        where.forget(_assign(document, assignment))
    where.know(document)
    found = JobFile(keywords={}, written=document, places=where)
    with found.located():
        resolved = {k: _resolve(v, k, as_env=k in ("env", "init_env")) for k, v in document.items()}
    return attrs.evolve(found, keywords=resolved)


def _assign(document: Keywords, assignment: str) -> yaml_text.Path:
    """Change a value of a document, and return its path."""
    path, equals, text = assignment.partition("=")
    *parents, last = path.split(".")
    if not equals or not all((*parents, last)):
        remedy = "Write --set num_workers=2 or --set trainer.training_parameters.max_steps=100."
        raise RequestError("is not an assignment", field="--set", value=assignment, remedy=remedy)
    try:
        return _put(document, (*parents, last), _assigned_value(path, text, assignment))
    except _NoPlace as found:
        remedy = f"{found.problem}. {found.remedy}"
        raise RequestError("cannot be applied", field="--set", value=assignment, remedy=remedy) from found


class _NoPlace(Exception):  # noqa: N818 - its callers make an error of it
    """A value cannot be put where a path leads."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


def _put(document: Keywords, path: Sequence[str], value: object, *, anew: bool = False) -> yaml_text.Path:
    """Put a value into a document, and return its place.

    Args:
        document: is changed.
        path: the keys that lead to the value, and the numbers of items in lists.
        value: the value.
        anew: whether the document must not have one there yet.

    Raises:
        _NoPlace: it cannot be put there.
    """
    target: Any = document
    place: list[str | int] = []
    for key, more in zip(path, (*path[1:], None), strict=True):
        at: str | int = int(key) if isinstance(target, list) and key.isdecimal() else key
        if isinstance(target, list) and not (isinstance(at, int) and at < len(target)):
            problem = f"{place[-1]} is a list with {len(target)} items, and {key} is not one of them"
            raise _NoPlace(problem, "Count its items from 0.")
        place.append(at)
        if more is None:
            break
        inner = _with_keys(target.get(at) if isinstance(target, dict) else target[at], place)
        if not isinstance(inner, dict | list):
            raise _NoPlace(f"{key} is {inner!r}, which has no keys", f"Set {key} to a mapping first.")
        target[at] = inner
        target = inner
    if anew and isinstance(target, dict) and path[-1] in target:
        raise _NoPlace(f"{path[-1]} is given there already")
    target[place[-1]] = value
    return tuple(place)


def _with_keys(value: object, place: Sequence[str | int]) -> object:
    """Return a mapping for the short form of a provider, or for nothing; anything else as it is."""
    if value is None:
        return {}
    if isinstance(value, str) and (place[-1] in (*INPUT_SLOTS, OUTPUT_SLOT) or place[-2:-1] == ["dataset"]):
        return {"uri": value}
    return {"provider": value} if isinstance(value, str) and place[-1] == "trainer" else value


def _assigned_value(path: str, text: str, assignment: str) -> object:
    try:
        return yaml_text.parse(text, "--set").value
    except RequestError as error:
        if text.startswith("*"):  # a pattern: no value has been named before, so it cannot be YAML's alias of one
            return text
        remedy = f"Quote the value for YAML: --set '{path}=\"…\"'."
        problem = f"has a value that is not YAML: it {error.problem}"
        raise RequestError(problem, field="--set", value=assignment, remedy=remedy) from error.__cause__


def _resolve(value: object, field: str, *, as_env: bool) -> object:
    """Resolve references to secrets.

    `{env: NAME}` takes a secret from the user's environment; `{secret: NAME, key: KEY}` refers to a Kubernetes Secret.
    """
    if isinstance(value, list):
        return [_resolve(item, f"{field}[{i}]", as_env=as_env) for i, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    return {key: _secret(item, f"{field}.{key}", as_env=as_env) for key, item in value.items()}


def _secret(value: object, field: str, *, as_env: bool) -> object:
    match value:
        case {"env": str(name), **rest} if not rest:
            literal = user_variable(name)
            if not literal:
                problem = f"refers to the environment variable {name}, which is not set"
                raise RequestError(problem, field=field, remedy=f"Run: export {name}=…")
            return SecretValue(literal) if as_env else literal.rstrip("\r\n")  # as a file ends, and no credential
        case {"secret": str(name), "key": str(key), **rest} if not rest:
            return SecretRef(name=name, key=key)
    return _resolve(value, field, as_env=as_env)


def written_for(job: JobFile, client: Mapping[str, str], folder: Path, file: Path) -> str:
    """Return a job as the text of a job file.

    Args:
        job: the job; references to secrets are written as references.
        client: the keywords of the client that were given.
        folder: the folder that its paths are relative to.
        file: the file to write, which they are to be relative to.
    """
    moved = os.path.relpath(folder, file.absolute().parent)
    document = {k: _moved(v, k, moved) for k, v in {**client, **job.written}.items()}
    return yaml_text.dump({k: document[k] for k in sorted(document, key=_order)})


_FIRST = ("name", *CLIENT_KEYS, "model", "adapter", "dataset", "eval_dataset", "trainer")


def _order(key: str) -> int:
    return _FIRST.index(key) if key in _FIRST else len(_FIRST)


def _moved(value: object, key: str, by: str) -> object:
    if by == "." or key not in (*INPUT_SLOTS, OUTPUT_SLOT, "script", "script_folder", "manifest"):
        return value
    if isinstance(value, dict) and "uri" in value:
        return {**value, "uri": _moved(value["uri"], key, by)}
    if not isinstance(value, str) or not (value.startswith(("./", "../")) or value in (".", "..")):
        return value
    path = Path(os.path.normpath(Path(by, value))).as_posix()
    return path if path.startswith("../") else f"./{path}"


def is_code(keywords: Mapping[str, object]) -> bool:
    """Return whether the keywords are for `create_job()` rather than `train()`."""
    return any(key in keywords for key in ("script", "base_image", "manifest", "job"))


def split(document: Mapping[str, object]) -> tuple[dict[str, str | None], Keywords]:
    """Split a job file's keywords into the client's and the job's.

    Raises:
        RequestError: a keyword of the client is not a string.
    """
    client = {key: document.get(key) for key in CLIENT_KEYS}
    for key, value in client.items():
        if value is not None and not isinstance(value, str):
            raise RequestError("must be a string", field=key, value=value, remedy="Write its name as a string.")
    return client, {key: value for key, value in document.items() if key not in client}  # type: ignore[return-value]
