"""Errors of transformers and PEFT, translated for the user."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tunewright.errors import RequestError


@contextlib.contextmanager
def refused(field: str, remedy: str) -> Iterator[None]:
    """What a library refuses in here is a bad request: its own message, under the field's name."""
    try:
        yield
    except RequestError:
        raise
    except (ValueError, TypeError, KeyError, ImportError, OSError, RuntimeError, NotImplementedError) as error:
        problem = f"is refused: {' '.join(str(error).split())}".rstrip(". ")
        raise RequestError(problem, field=field, remedy=remedy) from error
