"""YAML 1.2's core schema, with the line and column of each value. Duplicate keys are refused.

PyYAML reads the syntax. What a plain word means is decided here, because PyYAML follows YAML 1.1, in which `off` is False, `2e-4` is
text and `1:30` is the number 90.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from tunewright.errors import RequestError

if TYPE_CHECKING:
    import yaml

Path = tuple[str | int, ...]
"""The keys and indices that lead to a value: ("tolerations", 0, "key")."""

_TAG = "tag:yaml.org,2002:"
_MOST_VALUES = 100_000  # aliases of aliases grow exponentially

# https://yaml.org/spec/1.2.2/#103-core-schema; the first characters spare most words the regular expression.
_CORE: tuple[tuple[str, str, str | None], ...] = (
    ("null", r"~|null|Null|NULL|", None),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+0123456789."),
    ("merge", r"<<", "<"),
)  # fmt: skip


@attrs.frozen
class Position:
    """Where a value is written: line and column, both from 1, of the value and of its key."""

    value: tuple[int, int]
    key: tuple[int, int]


@attrs.frozen(kw_only=True)
class Parsed:
    """A document, and where each of its values is.

    Attributes:
        value: the document, of dicts, lists, text, numbers, booleans and None.
        positions: path of each value → its position.
        words: path of each text without quotes → the text.
    """

    value: object
    positions: Mapping[Path, Position]
    words: Mapping[Path, str]


def parse(text: str | bytes, name: str) -> Parsed:
    """Parse one document.

    Args:
        text: the document; bytes may be UTF-8 or UTF-16.
        name: what messages call it: the path of the file.

    Raises:
        RequestError: it is not YAML, it has a key twice or a key that is not text, or it uses tags of its own.
    """
    import yaml

    try:
        loader = _loader_class()(text)
        node = loader.get_single_node()
        builder = _Builder(name)
        return Parsed(value=builder.build(node, (), None), positions=builder.positions, words=builder.words)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = " ".join(f"is wrong: {error.problem or error.context}".split())
        raise _refusal(name, place, "syntax", problem, _remedy(problem)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        remedy = "Save it as a text file in UTF-8."
        raise _refusal(name, (1, 1), "job file", f"cannot be read: {_first_line(error)}", remedy) from error
    except RecursionError as error:
        remedy = "Write it with fewer brackets."
        raise _refusal(name, (1, 1), "syntax", "is nested too deeply", remedy) from error


def scalar_problem_hint(word: str) -> str:
    """Return a sentence on a word that YAML 1.1 reads as a boolean or a number and YAML 1.2 as text; "" for others."""
    if word.lower() in ("yes", "no", "on", "off", "y", "n"):
        return f"In a job file, {word} is text: the booleans are true and false."
    if re.fullmatch(r"[-+]?\d[\d_]*_[\d_]*(\.\d*)?", word):
        return f"In a job file, {word} is text: write {word.replace('_', '')}."
    return ""


def is_text(word: str) -> bool:
    """Return whether a word without quotes is text in YAML 1.2."""
    return not any(re.fullmatch(pattern, word) for _, pattern, _ in _CORE)


def dump(document: Mapping[str, object]) -> str:
    """Return a document as YAML that means the same in versions 1.1 and 1.2, keys in their order."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - people read it
            return True

    def represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        style = "|" if "\n" in text else None if is_text(text) else "'"
        return dumper.represent_scalar(f"{_TAG}str", text, style=style)

    Dumper.add_representer(str, represent)
    return yaml.dump(dict(document), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100)


@functools.cache
def _loader_class() -> type[Any]:
    from yaml.composer import Composer
    from yaml.parser import Parser
    from yaml.reader import Reader
    from yaml.resolver import BaseResolver
    from yaml.scanner import Scanner

    class Loader(Reader, Scanner, Parser, Composer, BaseResolver):
        def __init__(self, text: str | bytes) -> None:
            Reader.__init__(self, text)
            Scanner.__init__(self)
            Parser.__init__(self)
            Composer.__init__(self)
            BaseResolver.__init__(self)

    for tag, pattern, first in _CORE:
        starts = ["~", "n", "N", ""] if first is None else list(first)
        Loader.add_implicit_resolver(f"{_TAG}{tag}", re.compile(rf"(?:{pattern})\Z"), starts)
    return Loader


class _Builder:
    """Make values of PyYAML's nodes, and keep their positions."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: set[int] = set()
        self._count = 0
        self.positions: dict[Path, Position] = {}
        self.words: dict[Path, str] = {}

    def build(self, node: yaml.Node | None, path: Path, key: yaml.Node | None) -> object:
        import yaml

        if node is None:
            return None
        self._count += 1
        if id(node) in self._open or self._count > _MOST_VALUES:
            problem = "refers to itself" if id(node) in self._open else f"has more than {_MOST_VALUES} values"
            raise self._refuse(node, _dotted(path), problem, "Write the values out, without & and *.")
        if path:
            self.positions[path] = Position(_position(node), _position(key or node))
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                self._check_tag(node, path, "map")
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                self._check_tag(node, path, "seq")
                return [self.build(item, (*path, i), None) for i, item in enumerate(node.value)]
            return self._scalar(node, path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.Node, path: Path) -> dict[str, object]:
        import yaml

        first: dict[str, yaml.Node] = {}
        merged: list[yaml.Node] = []
        for key, value in node.value:
            if key.tag == f"{_TAG}merge":
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
                continue
            name = self._key(key, path)
            if name in first:
                problem = f"is given twice: it is also in line {first[name].start_mark.line + 1}"
                raise self._refuse(key, _dotted((*path, name)), problem, "Leave one of them out.")
            first[name] = key
        inherited: dict[str, object] = {}
        for source in merged:
            if not isinstance(source, yaml.MappingNode):
                raise self._refuse(
                    source, _dotted(path), "merges something that is not a mapping", "Write <<: *anchor."
                )
            found = self.build(source, path, None)
            inherited = {**found, **inherited} if isinstance(found, dict) else inherited
        own = {k.value: self.build(v, (*path, k.value), k) for k, v in node.value if k.tag != f"{_TAG}merge"}
        return {**inherited, **own}

    def _key(self, key: yaml.Node, path: Path) -> str:
        if isinstance(key.value, str) and key.tag == f"{_TAG}str":
            return key.value
        word = key.value if isinstance(key.value, str) else None
        field = _dotted(path if word is None else (*path, word))
        shown = "a word" if word is None else f'"{word}"'
        raise self._refuse(key, field, "is a key, but not text", f"Write {shown}, in quotes, as the key.")

    def _scalar(self, node: yaml.Node, path: Path) -> object:
        text, tag = str(node.value), node.tag.removeprefix(_TAG)
        if tag == "str":
            if getattr(node, "style", None) is None:
                self.words[path] = text
            return text
        if tag in ("null", "bool", "int", "float") and re.fullmatch({t: p for t, p, _ in _CORE}[tag], text):
            return _plain_value(tag, text)
        if tag == "float" and re.fullmatch(_CORE[2][1], text):  # !!float 1
            return float(text)
        raise self._refuse(
            node, _dotted(path), f"has the tag {node.tag}, which a job file does not use", "Leave it out."
        )

    def _check_tag(self, node: yaml.Node, path: Path, expected: str) -> None:
        if node.tag not in (f"{_TAG}{expected}", "!"):
            problem = f"has the tag {node.tag}, which a job file does not use"
            raise self._refuse(node, _dotted(path), problem, "Leave it out.")

    def _refuse(self, node: yaml.Node, field: str, problem: str, remedy: str) -> RequestError:
        return _refusal(self._name, _position(node), field or "job file", problem, remedy)


def _plain_value(tag: str, text: str) -> object:
    if tag == "null":
        return None
    if tag == "bool":
        return text.lower() == "true"
    if tag == "int":
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text[2:], base) if base != 10 else int(text)  # noqa: PLR2004 - the usual base
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _refusal(name: str, at: tuple[int, int], field: str, problem: str, remedy: str) -> RequestError:
    error = RequestError(problem, field=field, remedy=remedy)
    error.place = f"{name}:{at[0]}:{at[1]}"
    return error


def _remedy(problem: str) -> str:
    if "'\\t'" in problem:
        return "Indent with spaces."
    if "mapping values" in problem:
        return "Write one `key: value` per line; put a text that contains ': ' in quotes."
    return "Check indentation, brackets and quotes; put a text with ': ', ' #', { or [ in quotes."


def _position(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _dotted(path: Path) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).removeprefix(".")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].removesuffix(".")
