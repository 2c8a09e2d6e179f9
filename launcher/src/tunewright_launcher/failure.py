"""From an exception to a verdict that can be shown: what happened, what to do, and no secret in it."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from tunewright import environment
from tunewright.errors import ExitCode, FetchError, RequestError, TunewrightError
from tunewright.plan.secrets import REDACTED
from tunewright.providers.fields import secret_fields
from tunewright.runner.verdicts import Verdict

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)


class Secrets:
    """The secret values that this process was given; it takes them out of every text that leaves the process."""

    def __init__(self) -> None:
        self._values: set[str] = set()

    def learn(self, cls: type, env: Mapping[str, str]) -> None:
        """Take the values of a provider class's secret fields from the environment."""
        self._take(secret_fields(cls).values(), env)

    def learn_named(self, env: Mapping[str, str]) -> None:
        """Take the values of the variables of which the plan says that they hold secrets."""
        self._take(env.get(environment.SECRETS, "").split(","), env)

    def _take(self, variables: Iterable[str], env: Mapping[str, str]) -> None:
        for variable in variables:
            if value := env.get(variable):
                # As libraries show them: as it is, in a URL, and in a repr.
                self._values |= {value, quote(value, safe=""), repr(value)[1:-1]}

    def redact(self, text: str) -> str:
        """The text without them."""
        for value in sorted(self._values, key=len, reverse=True):
            text = text.replace(value, REDACTED)
        return text


def as_verdict(error: BaseException) -> Verdict:
    """What an exception means for the job."""
    match error:
        case FetchError():
            return Verdict(error.code, error.cause, error.remedy)
        case RequestError():
            return Verdict(error.exit_code, str(error).removesuffix(f" {error.remedy}"), error.remedy)
        case TunewrightError():
            return Verdict(error.exit_code, str(error), "")
        case OSError(errno=number) if number in _NO_SPACE:
            remedy = "Ask for a larger volume: storage={'size': …}."
            return Verdict(ExitCode.NO_SPACE, f"The volume is full: {_text(error)}.", remedy)
        case OSError(errno=number) if number in _NO_PERMISSION:
            remedy = "Make it accessible for the user that the container runs as."
            return Verdict(ExitCode.NO_PERMISSION, f"Permission denied: {_text(error)}.", remedy)
    return Verdict(ExitCode.SOFTWARE, _text(error), "The step's log has the whole traceback.")


def is_expected(error: BaseException) -> bool:
    """Whether the message says all there is to say, so that a traceback would only hide it."""
    return isinstance(error, TunewrightError)


def traceback_of(error: BaseException) -> str:
    """The whole traceback, causes included."""
    return "".join(traceback.format_exception(error))


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")
