"""Signatures and documented arguments of callables that take the fields of classes as keywords.

`train(**options)` passes its keywords on, so that Python knows nothing of them. Here they get into `inspect.signature()`,
`help()` and an IDE's tooltip: their types from a `TypedDict`, their defaults from attrs fields, and their meanings from the
"Attributes:" sections of docstrings. Nothing is written twice.
"""

from __future__ import annotations

import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from inspect import Parameter, Signature
from typing import Any, TypeVar

import attrs

_F = TypeVar("_F", bound=Callable[..., object])

_WIDTH = 100

# A recursive alias cannot be resolved: its value would contain its name, and be longer than a screen.
_RECURSIVE = {"Json": Any}

# An entry of a section: "    name: meaning", or "    name (type): meaning".
_ENTRY = re.compile(r" {4}(\w+)(?: \(.*\))?: (.*)")


@attrs.frozen(kw_only=True)
class Argument:
    """One keyword argument, as `help()` shows it.

    Attributes:
        name: the keyword.
        type: its type as people write it: "int | None".
        annotation: its type for the signature; by default the text in `type`.
        default: its default; `inspect.Parameter.empty` if it is required.
        meaning: what it does; "" if nothing is known of that.
    """

    name: str
    type: str
    annotation: object = attrs.field(default=attrs.Factory(lambda self: self.type, takes_self=True))
    default: object = None
    meaning: str = ""

    @property
    def parameter(self) -> Parameter:
        """The keyword-only parameter of a signature."""
        return Parameter(self.name, Parameter.KEYWORD_ONLY, default=self.default, annotation=self.annotation)

    @property
    def entry(self) -> str:
        """The lines of an "Args:" section, indented as Google's style has them."""
        required = self.default is Parameter.empty
        default = "" if required else ", optional" if self.default is None else f", default {self.default!r}"
        text = f"{self.name} ({self.type}{default}):{f' {self.meaning}' if self.meaning else ''}"
        return textwrap.fill(text, _WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 8, break_long_words=False)


def documented(
    options: type,
    *classes: type,
    shared: type | None = None,
    required: Collection[str] = (),
    more: bool = False,
) -> Callable[[_F], _F]:
    """Return a decorator that puts the keywords of a method into its signature and its docstring.

    It does so when the method is first looked up, which keeps the import of its module fast.

    Args:
        options: the `TypedDict` of the keywords, which stands in the method's own annotations for type checkers.
        classes: the classes whose fields the keywords are.
        shared: a `TypedDict` that `options` is derived from, whose keywords come last.
        required: the keywords that have no default.
        more: whether the method takes keywords that are not in `options`.
    """

    def complete(method: Callable[..., object]) -> None:
        arguments = arguments_of(options, *classes, shared=shared, required=required)
        own = inspect.signature(method, eval_str=True)
        named = [p for p in own.parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
        rest = [p for p in own.parameters.values() if p.kind is Parameter.VAR_KEYWORD]
        parameters = [*named, *(a.parameter for a in arguments), *(rest if more else ())]
        vars(method)["__signature__"] = own.replace(parameters=parameters)
        method.__doc__ = _with_arguments(method.__doc__, arguments, rest[0].name, more=more)

    def decorate(method: _F) -> _F:
        # The method itself is what any lookup finds, so type checkers may take it for that.
        return typing.cast("_F", _Incomplete(method, complete))

    return decorate


class _Incomplete:
    """A method that is completed, and takes this one's place in its class, when it is first looked up."""

    def __init__(self, method: Callable[..., object], complete: Callable[[Callable[..., object]], None]) -> None:
        self._method, self._complete = method, complete

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner, name

    def __get__(self, instance: object, owner: type) -> object:
        self._complete(self._method)
        setattr(self._owner, self._name, self._method)
        return getattr(owner if instance is None else instance, self._name)


def document_class(cls: type, arguments: Callable[[], Iterable[Argument]]) -> None:
    """Give a class whose constructor takes `**fields` a signature and a docstring with all of them.

    Both are made when either is first looked up, so that a class may read its fields from a file.

    Args:
        cls: the class. Its docstring gets an "Args:" section.
        arguments: returns its fields.
    """
    doc = cls.__dict__.get("__doc__")

    def complete() -> None:
        found = [*arguments()]
        cls.__doc__ = _with_arguments(doc, found)
        cls.__signature__ = Signature([a.parameter for a in found])  # type: ignore[attr-defined]

    # `help()` reads the docstring of a class past descriptors, but only after it has asked for the signature.
    for name in ("__doc__", "__signature__"):
        setattr(cls, name, _OfClass(name, complete))


def arguments_of(
    options: type, *classes: type, shared: type | None = None, required: Collection[str] = ()
) -> list[Argument]:
    """Return the keywords of a `TypedDict`: those of `shared` last, and otherwise in their order.

    Args:
        options: the `TypedDict`; its docstring may document keywords that are not fields.
        classes: attrs classes with the defaults and the meanings of the fields.
        shared: a `TypedDict` that `options` is derived from.
        required: the keywords that have no default.
    """
    hints = typing.get_type_hints(options, localns=_RECURSIVE)
    written = {name: _text(hint) for name, hint in options.__annotations__.items()}
    fields = {a.name: a for cls in reversed(classes) for a in attrs.fields(cls)}
    said = {k: v for cls in reversed((options, *classes)) for k, v in meanings(cls).items()}
    last, found = set(shared.__annotations__ if shared else ()), []
    for name in sorted(written, key=last.__contains__):
        default = Parameter.empty if name in required else _default(fields.get(name))
        annotation = hints[name] | None if default is None else hints[name]
        meaning = said.get(name, "")
        found.append(Argument(name=name, type=written[name], annotation=annotation, default=default, meaning=meaning))
    return found


class _OfClass:
    """An attribute of a class that is replaced by its value when it is first looked up."""

    def __init__(self, name: str, complete: Callable[[], None]) -> None:
        self._name, self._complete = name, complete

    def __get__(self, instance: object, owner: type) -> object:
        self._complete()
        return getattr(owner, self._name)


def _text(hint: object) -> str:
    """Return an annotation as it was written, under `from __future__ import annotations`."""
    if isinstance(hint, typing.ForwardRef):
        return hint.__forward_arg__
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _default(field: attrs.Attribute[Any] | None) -> object:
    """Return the default of a field. A keyword that is not one, or whose value is made later, may be None."""
    if field is None or field.default is attrs.NOTHING or isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
        return None
    return field.default


def meanings(cls: type) -> dict[str, str]:
    """Return what the "Attributes:" sections of a class and its bases say: name → text."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        doc = base.__dict__.get("__doc__")
        found |= dict(_entries(inspect.cleandoc(doc))) if isinstance(doc, str) else {}
    return found


def _entries(doc: str) -> Iterator[tuple[str, str]]:
    lines = doc.splitlines()
    if "Attributes:" not in lines:
        return
    name, words = "", [""]
    for line in [*lines[lines.index("Attributes:") + 1 :], ""]:
        entry = _ENTRY.fullmatch(line)
        if name and (entry or not line.strip()):
            yield name, " ".join(words)
        if not line.strip():
            return
        if entry:
            name, words = entry[1], [entry[2]]
        else:
            words.append(line.strip())


def _with_arguments(doc: str | None, arguments: Sequence[Argument], rest: str = "", *, more: bool = False) -> str:
    """Return a docstring with all arguments in its "Args:" section; `**rest` comes last, or is what they stand for."""
    lines = inspect.cleandoc(doc or "").splitlines()  # empty under `python -OO`
    entries = [a.entry for a in arguments]
    if "Args:" not in lines:
        at = next((i for i, line in enumerate(lines) if line in ("Raises:", "Returns:")), len(lines))
        head, tail = lines[:at], lines[at:]
        return "\n".join([*_ended(head), "Args:", *entries, *(["", *tail] if tail else [])])
    start = lines.index("Args:") + 1
    end = next((i for i, line in enumerate(lines) if i > start and not line.strip()), len(lines))
    split = next((i for i in range(start, end) if rest and lines[i].startswith(f"    {rest}:")), end)
    return "\n".join([*lines[:split], *entries, *(lines[split:] if more else lines[end:])])


def _ended(lines: list[str]) -> list[str]:
    return [*lines, ""] if lines and lines[-1].strip() else lines
