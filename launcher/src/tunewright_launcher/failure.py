"""From an exception to a failure that can be shown: what happened and what to do, without secrets."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Callable, Iterable, Mapping

from tunewright import environment
from tunewright.errors import ExitCode, Failure, TunewrightError, described
from tunewright.plan.secrets import REDACTED
from tunewright.providers.fields import secret_fields
from tunewright.runner.messages import forms_of

FULL = (errno.ENOSPC, errno.EDQUOT)
_REDACTED = REDACTED.encode()
_LOOK = "The step's log has the full traceback."
_NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)


class Secrets:
    """The secret values that this process received, which are redacted in every text that leaves it.

    Those of fewer than `tunewright.runner.messages.SHORTEST_SECRET` characters are not: a text without the letter "a" says nothing.
    """

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._pattern = _pattern([])
        self._learnt: Callable[[], None] | None = None

    def when_learnt(self, call: Callable[[], None]) -> None:
        """Call a function once, when the first secret is known."""
        self._learnt = call

    def learn(self, cls: type, env: Mapping[str, str]) -> None:
        """Read the values of a provider class's secret fields from the environment."""
        self._take(secret_fields(cls).values(), env)

    def learn_named(self, env: Mapping[str, str]) -> None:
        """Read the values of the variables that hold secrets, according to the plan."""
        self._take(env.get(environment.SECRETS, "").split(","), env)

    def _take(self, variables: Iterable[str], env: Mapping[str, str]) -> None:
        for variable in variables:
            self._values |= forms_of(env.get(variable) or "")
        longest_first = sorted(
            (value.encode(errors="surrogateescape") for value in self._values), key=len, reverse=True
        )
        self._pattern = _pattern(longest_first)
        if not longest_first:
            return
        if self._learnt is not None:
            learnt, self._learnt = self._learnt, None
            learnt()

    def redact(self, text: str) -> str:
        """Return the text without the secrets."""
        return self._pattern.sub(_REDACTED, text.encode(errors="surrogatepass")).decode(errors="surrogatepass")

    def redact_output(self, data: bytes) -> bytes:
        """Return what a step prints, in UTF-8, without the secrets."""
        return self._pattern.sub(_REDACTED, data)

    def begun(self, data: bytes) -> int:
        """Return how many of the last bytes may be the beginning of a secret."""
        forms = [value.encode(errors="surrogateescape") for value in self._values]
        lengths = range(max((len(form) for form in forms), default=1) - 1, 0, -1)
        return next((n for n in lengths if any(form.startswith(data[-n:]) for form in forms)), 0)


def _pattern(forms: list[bytes]) -> re.Pattern[bytes]:
    return re.compile(b"|".join(map(re.escape, forms)) if forms else rb"(?!)")  # which matches nothing


def failure_of(error: BaseException, secrets: Secrets, container: str | None = None) -> Failure:
    """Return the failure that an exception is, without secrets.

    Args:
        error: the exception.
        secrets: what must not be shown.
        container: the container that it was raised in, where its name is known.
    """
    try:
        failure = _failure(error)
    except BaseException as problem:  # the exception's own class fails
        failure = Failure(ExitCode.SOFTWARE, f"{described(error)}, whose fields fail: {described(problem)}", _LOOK)
    cause, remedy = secrets.redact(failure.cause), secrets.redact(failure.remedy)
    return Failure(failure.code, cause, remedy, container)


def _failure(error: BaseException) -> Failure:
    match error:
        case TunewrightError():
            found = error.to_failure()
            if found.code not in [*ExitCode]:
                problem = f"{found.cause} (It was raised with the exit code {found.code}, which is none of ours.)"
                return Failure(ExitCode.SOFTWARE, problem, found.remedy)
            return Failure(found.code, str(found.cause), str(found.remedy or ""))
        case OSError(errno=number) if number in FULL:
            remedy = "Ask for a larger volume: storage={'size': …}."
            return Failure(ExitCode.NO_SPACE, f"The volume is full: {described(error)}.", remedy)
        case OSError(errno=number) if number in _NO_PERMISSION:
            remedy = "Make it accessible to the user that the container runs as."
            return Failure(ExitCode.NO_PERMISSION, f"Permission denied: {described(error)}.", remedy)
    return Failure(ExitCode.SOFTWARE, described(error), _LOOK)


def is_expected(error: BaseException) -> bool:
    """Return whether the message says everything, so that a traceback would only hide it."""
    return isinstance(error, TunewrightError)


def traceback_of(error: BaseException) -> str:
    """Return the full traceback, including causes."""
    try:
        return "".join(traceback.format_exception(error))
    except BaseException as problem:  # the exception's own class fails
        return f"{described(error)} (it has no traceback that can be shown: {described(problem)})\n"
