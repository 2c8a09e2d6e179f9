"""Turn errors of transformers and PEFT into errors about the user's request."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tunewright.errors import RequestError


@contextlib.contextmanager
def as_request_error(field: str, remedy: str) -> Iterator[None]:
    """Raise a library's errors as RequestError, with the library's own message under the field's name."""
    try:
        yield
    except RequestError:
        raise
    except (ValueError, TypeError, KeyError, ImportError, OSError, RuntimeError, NotImplementedError) as error:
        problem = f"was rejected: {' '.join(str(error).split())}".rstrip(". ")
        raise RequestError(problem, field=field, remedy=remedy) from error
