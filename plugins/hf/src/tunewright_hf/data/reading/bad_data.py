"""The error of a file whose rows cannot be used as they are."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tunewright.errors import RequestError

REPAIR = "Repair the file, or leave it out."


class BadFileError(ValueError):
    """A file that cannot be read as what it is.

    Args:
        file: the file.
        problem: what is wrong with it, as a clause.
        remedy: what to do, as a sentence.
        line: where, from 1.
    """

    def __init__(self, file: Path, problem: str, *, remedy: str = REPAIR, line: int | None = None) -> None:
        super().__init__(file, problem, remedy, line)  # all of them, so that it can be pickled
        self.file = file
        self.problem = problem if line is None else f"line {line}: {problem}"
        self.remedy = remedy
        self.line = line

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}"

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild it in another process, with its keywords."""
        return _rebuilt, tuple(self.args)

    def refusal(self, kind: str, field: str) -> RequestError:
        """Return the error for the user, who gave the file by a field."""
        problem = f"cannot be read as {kind}: {self.problem}"
        return RequestError(problem, field=field, value=str(self.file), remedy=self.remedy)


def _rebuilt(file: Path, problem: str, remedy: str, line: int | None) -> BadFileError:
    return BadFileError(file, problem, remedy=remedy, line=line)


def field_hint(name: str, value: str) -> str:
    """Return how a field of `DataParams` is written, in a job file and in Python."""
    number = re.fullmatch(r"[\d._+\-]+", value) is not None  # which YAML would not read as a text
    return f"trainer.data.{name}: {json.dumps(value) if number else value} in a job file, DataParams({name}={value!r}) in Python"
