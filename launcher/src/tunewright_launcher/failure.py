"""From an exception to a failure that can be shown: what happened and what to do, without secrets."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from tunewright import environment
from tunewright.errors import ExitCode, Failure, TunewrightError
from tunewright.plan.secrets import REDACTED
from tunewright.providers.fields import secret_fields

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)


class Secrets:
    """The secret values that this process received, which are redacted in every text that leaves it."""

    def __init__(self) -> None:
        self._values: set[str] = set()

    def learn(self, cls: type, env: Mapping[str, str]) -> None:
        """Read the values of a provider class's secret fields from the environment."""
        self._take(secret_fields(cls).values(), env)

    def learn_named(self, env: Mapping[str, str]) -> None:
        """Read the values of the variables that hold secrets, according to the plan."""
        self._take(env.get(environment.SECRETS, "").split(","), env)

    def _take(self, variables: Iterable[str], env: Mapping[str, str]) -> None:
        for variable in variables:
            given = env.get(variable) or ""
            for value in filter(
                None, {given, given.rstrip("\r\n")}
            ):  # providers get them without their last line break
                # As libraries print them: as they are, in a URL, and in a repr.
                self._values |= {value, quote(value, safe=""), repr(value)[1:-1]}

    def redact(self, text: str) -> str:
        """Return the text without the secrets."""
        for value in sorted(self._values, key=len, reverse=True):
            text = text.replace(value, REDACTED)
        return text


def failure_of(error: BaseException, secrets: Secrets, container: str | None = None) -> Failure:
    """Return the failure that an exception is, without secrets.

    Args:
        error: the exception.
        secrets: what must not be shown.
        container: the container that it was raised in, where its name is known.
    """
    failure = _failure(error)
    cause, remedy = secrets.redact(failure.cause), secrets.redact(failure.remedy)
    return Failure(failure.code, cause, remedy, container)


def _failure(error: BaseException) -> Failure:
    match error:
        case TunewrightError():
            return error.to_failure()
        case OSError(errno=number) if number in _NO_SPACE:
            remedy = "Ask for a larger volume: storage={'size': …}."
            return Failure(ExitCode.NO_SPACE, f"The volume is full: {_text(error)}.", remedy)
        case OSError(errno=number) if number in _NO_PERMISSION:
            remedy = "Make it accessible to the user that the container runs as."
            return Failure(ExitCode.NO_PERMISSION, f"Permission denied: {_text(error)}.", remedy)
    return Failure(ExitCode.SOFTWARE, _text(error), "The step's log has the full traceback.")


def is_expected(error: BaseException) -> bool:
    """Return whether the message says everything, so that a traceback would only hide it."""
    return isinstance(error, TunewrightError)


def traceback_of(error: BaseException) -> str:
    """Return the full traceback, including causes."""
    return "".join(traceback.format_exception(error))


def _text(error: BaseException) -> str:
    name, text = type(error).__name__, str(error)
    return f"{name}: {text}" if text else name
