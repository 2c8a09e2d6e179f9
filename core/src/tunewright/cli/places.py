"""From the field that an error names to the key that the user wrote, and to its line if that is in a job file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import attrs

from tunewright.cli.yaml_text import Parsed, Path, Position, scalar_problem_hint
from tunewright.errors import RequestError

# A step of a field: `.name`, `['name']` or `[0]`.
_STEP = re.compile(r"""\[(?:'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<index>\d+))\]|(?P<name>[^.\[\]]+)""")


@attrs.define(kw_only=True)
class Places:
    """Where the values of a document are written.

    Attributes:
        file: the path of the job file, as the user wrote it.
        values: path of each value → the value.
        positions: path of each value in the file → its position; those that options give have none.
        words: path of each text without quotes → the text.
    """

    file: str = ""
    values: Mapping[Path, object] = attrs.field(factory=dict)
    positions: Mapping[Path, Position] = attrs.field(factory=dict)
    words: Mapping[Path, str] = attrs.field(factory=dict)

    @classmethod
    def of_file(cls, file: str, parsed: Parsed) -> Places:
        """Return the places of a parsed file."""
        return cls(file=file, positions=parsed.positions, words=parsed.words)

    def forget(self, path: Path) -> None:
        """Note that an option gives this value, so that it is not the file's any more."""
        self.positions = {p: at for p, at in self.positions.items() if p[: len(path)] != path}
        self.words = {p: word for p, word in self.words.items() if p[: len(path)] != path}

    def know(self, document: Mapping[str, object]) -> None:
        """Take the values of the whole document, wherever they are written."""
        self.values = {path: value for path, value in _values(document, ()) if path}

    def of(self, argument: str) -> str:
        """Return where an argument of `train()` is written: "job.yaml:3:14"; "" if it is not in the file."""
        return self._place((argument,), of_key=False)

    def locate(self, error: RequestError) -> RequestError:
        """Return the error with its place and with the field by the keys that the user wrote; unchanged if there are none."""
        path = None if error.place else self._find(error)
        if path is None:
            return error
        names = _steps(error.field)
        # A provider names the field of its class, which is not a key of the file where only the URI is given.
        same = repr(self.values.get(path)) == error.shown_value
        searched = names[: len(path)] != path and (same or path[-1:] == names[-1:])
        hint = scalar_problem_hint(self.words.get(path, ""))
        place = self._place(path, of_key=error.shown_value is None)
        return error.located(place, _dotted(path) if searched else error.field, hint=hint)

    def _place(self, path: Path, *, of_key: bool) -> str:
        found = self.positions.get(path)
        if found is None:
            return ""
        line, column = found.key if of_key else found.value
        return f"{self.file}:{line}:{column}"

    def _find(self, error: RequestError) -> Path | None:
        names = _steps(error.field)
        if names[:1] in self.values:
            return next(names[:n] for n in range(len(names), 0, -1) if names[:n] in self.values)
        of_class = isinstance(names[0], str) and names[0][:1].isupper()
        return self._search(names, error, of_class=of_class) or ((error.argument,) if error.argument else None)

    def _search(self, names: Path, error: RequestError, *, of_class: bool) -> Path | None:
        """Find a field of a provider, or of an object inside one: "LoraConfig.r" is "trainer.lora_config.r"."""
        tail = names[1:] if of_class else names
        for length in range(len(tail), 0, -1):
            ends = [p for p in self.values if p[-length:] == tail[:length] and len(p) > length]
            if error.argument:
                ends = [p for p in ends if p[0] == error.argument]
            same = [p for p in ends if repr(self.values.get(p)) == error.shown_value and length == len(tail)]
            if same or not (error.argument or of_class):  # a common word, such as "name", may be anybody's
                ends = same
            if ends:
                return min(ends, key=lambda p: (-_likeness(names[0], p) if of_class else 0, len(p)))
        return None


def _likeness(name: str | int, path: Path) -> int:
    """Return how many first letters the name of a class shares with a key on the path: LoraConfig and lora_config all."""
    word = str(name).lower()
    keys = [str(key).replace("_", "").lower() for key in path[:-1]]
    return max((_shared(word, key) for key in keys), default=0)


def _shared(one: str, other: str) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _steps(field: str) -> Path:
    found = [(m["single"] or m["double"] or m["name"], m["index"]) for m in _STEP.finditer(field)]
    return tuple(name if index is None else int(index) for name, index in found) or (field,)


def _dotted(path: Path) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).removeprefix(".")


def _values(value: object, path: Path) -> Iterator[tuple[Path, object]]:
    yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _values(item, (*path, key))
