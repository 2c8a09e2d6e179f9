"""The lines of a job file that would make columns train that are not recognised."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from tunewright_hf.config.data_params import DataParams
from tunewright_hf.data.rows.accounting import Columns
from tunewright_hf.data.rows.dialects import has_roles
from tunewright_hf.data.rows.vocabulary import COMPLETIONS, MEANINGFUL, PROMPTS, has_no_meaning, is_rating, plain

_DEPTH = 4
_WRONG = re.compile(r"incorrect|rejected|non_preferred|worse|negative|wrong|distractor|bad_")
_BETTER = re.compile(r"chosen|preferred|better|positive|winn|accepted")
_CONTENTS = {
    "body",
    "text",
    "content",
    "message",
    "description",
    "value",
    "comment",
    "post",
    "note",
    "notes",
    "utterance",
    "said",
}
"""Last words of names of texts."""
_QUESTIONS = ("history", "post", "description", "request", "ticket", "message", "title", "subject")
_ANSWERS = ("resolution", "fix", "outcome", "agent", "followup", "solutions", "tgt", "sql", "translation", "reference")
"""Further names of what is asked and answered, good enough to suggest."""
# What only checks or repeats what other columns say, and who says it.
_ASIDE = re.compile(r"(.*_)?(toks|tokens|tests?|test_cases|input_output|sender|recipient|username)(_list)?")
_LEAD = " Write, for example, in the job file:\n"
_FORMS = '{"messages": [{"role": "user", "content": "\u2026"}, \u2026]}, {"prompt": "\u2026", "completion": "\u2026"} or {"text": "\u2026"}'

_PAIR = '{"prompt": "\u2026", "chosen": "\u2026", "rejected": "\u2026"}'


def suggestion(columns: Columns) -> str:
    """Return lines that can be written as they are; "" if no column holds a text."""
    for name, values in columns.items():
        if values and all(has_roles(value) for value in values):
            return f"{_LEAD}trainer.data.messages_column: {json.dumps(name, ensure_ascii=False)}"
    texts = [path for name, values in columns.items() for path in _texts(name, values)]
    if not any(columns.values()):
        texts = list(columns)  # whose values are not known
    telling = [path for path in texts if tells(path)]
    if not telling:
        return f" Write rows of one of these forms: {_FORMS}."
    # Beside an answer, a title or a subject is what was asked, though elsewhere it says nothing of its own.
    asked = [path for path in texts if path not in telling and plain(path) in _QUESTIONS]
    return _lines([*telling, *asked])


def pair_suggestion(columns: Columns) -> str:
    """Return the lines that make pairs of preferences of columns, as far as their names tell."""
    rejected = next((name for name in columns if _WRONG.search(plain(name))), None)
    chosen = next((name for name in columns if name != rejected and _BETTER.search(plain(name))), None)
    if chosen is None or rejected is None:
        return f" Write rows of this form: {_PAIR}."
    named = {"chosen": chosen, "rejected": rejected}
    if asked := _best([name for name in columns if name not in (chosen, rejected)], PROMPTS):
        named |= {"prompt": asked}
    lines = [f"trainer.data.{part}_column: {json.dumps(name, ensure_ascii=False)}" for part, name in named.items()]
    return _LEAD + "\n".join(lines)


def tells(path: str) -> bool:
    """Return whether a path leads to what may be trained on: neither about the data, nor a rating, nor known to be wrong."""
    name = path.rpartition(".")[2] if not path.rpartition(".")[2].isdecimal() else path.partition(".")[0]
    if _WRONG.search(plain(path)) or any(_ASIDE.fullmatch(plain(part)) for part in path.split(".")):
        return False
    return not (has_no_meaning(name) or plain(name) in MEANINGFUL or is_rating(name))


def _lines(paths: Sequence[str]) -> str:
    contents = [path for path in paths if _words(path) & _CONTENTS] or list(paths)
    answered = _best(paths, (*COMPLETIONS, *_ANSWERS))
    asked = _best([path for path in paths if path != answered], (*PROMPTS, *_QUESTIONS))
    if not asked and not answered and len(contents) == 1:
        return _text_lines(contents[0])
    asked = asked or next((path for path in (*contents, *paths) if path != answered), paths[0])
    answered = answered or next((path for path in (*reversed(contents), *reversed(paths)) if path != asked), asked)
    if asked == answered:
        return _text_lines(asked)
    return f'{_LEAD}trainer.data.prompt_template: "{{{asked}}}"\ntrainer.data.completion_template: "{{{answered}}}"'


def _text_lines(path: str) -> str:
    line = f'text_template: "{{{path}}}"' if "." in path else f'text_column: "{path}"'
    return f"{_LEAD}trainer.data.{line}"


def _words(path: str) -> set[str]:
    """Return the words of the last name in a path."""
    names = [part for part in path.split(".") if not part.isdecimal()]
    return {word.rstrip("0123456789") for word in re.split(r"_+", plain(names[-1]))}


def _best(paths: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the first of the paths with the most telling of the names, in whole or as a word; None without one."""
    whole = [(names.index(plain(path)), i) for i, path in enumerate(paths) if plain(path) in names]
    words = [(min(names.index(w) for w in found), i) for i, p in enumerate(paths) if (found := _words(p) & set(names))]
    ranked = sorted(whole) or sorted(words)
    return paths[ranked[0][1]] if ranked else None


def _texts(path: str, values: Sequence[object], depth: int = _DEPTH) -> Iterator[str]:
    """Yield the paths to the texts in the first values of a column; a column without values counts as a text."""
    filled = [value for value in values if value not in (None, "", [], {})]
    if not filled:
        return
    if all(isinstance(value, str) for value in filled):
        yield path
    elif all(isinstance(value, Mapping) for value in filled) and depth:
        names = dict.fromkeys(str(name) for value in filled if isinstance(value, Mapping) for name in value)
        for name in names:
            if re.fullmatch(r"[0-9a-f\-]{8,}|\d+", name):
                continue  # a key of its own for each row
            yield from _texts(f"{path}.{name}", [v.get(name) for v in filled if isinstance(v, Mapping)], depth - 1)
    elif all(isinstance(value, list) for value in filled) and depth:
        yield from _texts(f"{path}.0", [value[0] for value in filled if isinstance(value, list)], depth - 1)


def path_lines(column: str, value: object, data: DataParams | None) -> str:
    """Return the lines of a job file that take a text from within a column; "" if it holds none."""
    paths = list(_texts(column, [value]))
    if not paths:
        return ""
    path = _best(paths, ("text", "value", *COMPLETIONS, *PROMPTS)) or paths[0]
    written = {name: getattr(data, f"{name}_template") for name in ("text", "prompt", "completion")} if data else {}
    shown = {
        name: templates[0].replace(f"{{{column}}}", f"{{{path}}}") for name, templates in written.items() if templates
    }
    return "".join(
        f"\ntrainer.data.{name}_template: {json.dumps(text, ensure_ascii=False)}" for name, text in shown.items()
    )
