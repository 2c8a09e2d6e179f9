"""Errors of a data loader's process, which reach the training process as the errors that they are.

torch carries an exception over as its class and one text, and so loses the fields of a `RequestError`.
"""

from __future__ import annotations

import base64
import contextlib
import pickle
import re
from collections.abc import Iterator

from torch.utils.data import get_worker_info

from tunewright.errors import RequestError

_CARRIED = re.compile(r"CarriedError: ([\w+/=]+)\s*\Z")


class CarriedError(Exception):
    """A `RequestError` of a data loader's process; its text ends with the error, pickled, in base64."""


@contextlib.contextmanager
def carry_errors() -> Iterator[None]:
    """In a data loader's process, raise a `RequestError` in a form that keeps its fields; elsewhere, as it is.

    Raises:
        CarriedError: in place of the RequestError.
    """
    try:
        yield
    except RequestError as error:
        if get_worker_info() is None:
            raise
        raise CarriedError(base64.b64encode(pickle.dumps(error)).decode()) from error


@contextlib.contextmanager
def unwrap_carried_errors() -> Iterator[None]:
    """In the training process, raise the `RequestError` that a data loader's process has met.

    Raises:
        RequestError: the same, with all fields.
    """
    try:
        yield
    except CarriedError as error:
        found = _CARRIED.search(str(error))
        if found is None:
            raise
        raise pickle.loads(base64.b64decode(found[1])) from error  # noqa: S301 - our own process has written it
