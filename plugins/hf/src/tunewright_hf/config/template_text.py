"""The chat template that the user gives: a name, a text in Jinja, or a file with one, which is read on the client."""

from __future__ import annotations

from pathlib import Path

from tunewright.errors import RequestError, did_you_mean
from tunewright_hf.config.named_templates import NAMED

_FIELD = "DataParams.chat_template"
_MARKS = ("{{", "{%")


def read_template(value: object) -> str | None:
    """Return a name, or the text of a template; a file is read, because containers do not see it.

    Raises:
        RequestError: it is none of them, or its Jinja is broken.
    """
    if value is None:
        return None
    if not isinstance(value, str | Path):
        remedy = "Give a template in Jinja, the path of a file with one, or one of: " + ", ".join(NAMED) + "."
        raise RequestError("must be a text", field=_FIELD, value=value, remedy=remedy)
    given = isinstance(value, str) and (value in NAMED or _is_template(value))
    text = str(value) if given else _read(Path(value))
    if text not in NAMED:
        _check_syntax(text)
    return text


def _is_template(text: str) -> bool:
    return any(mark in text for mark in _MARKS)


def _read(path: Path) -> str:
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        problem = f"is neither Jinja, nor a file that can be read ({error}), nor a name that is known"
        known = did_you_mean(str(path), list(NAMED))
        remedy = f"Give a template in Jinja, the path of a file with one, or one of: {', '.join(NAMED)}. {known}"
        raise RequestError(problem, field=_FIELD, value=str(path), remedy=remedy) from error
    if not _is_template(text):
        problem = "is a file without {{ … }} and {% … %}: all conversations would be alike"
        raise RequestError(problem, field=_FIELD, value=str(path), remedy="Give a file with a template in Jinja.")
    return text


def _check_syntax(text: str) -> None:
    """Refuse broken Jinja, where jinja2 is installed: in the trainer's image always, on clients often."""
    try:
        import jinja2
    except ImportError:
        return
    from tunewright_hf.config.template_syntax import check

    try:
        check(text)
    except jinja2.TemplateSyntaxError as error:
        problem = f"is broken Jinja: {error.message}, in its line {error.lineno}"
        line = (text.splitlines()[error.lineno - 1 :] or [""])[0].strip()
        raise RequestError(problem, field=_FIELD, value=line[:80], remedy="Correct that line.") from error
