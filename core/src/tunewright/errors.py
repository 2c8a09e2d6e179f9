"""Errors: exceptions whose messages say what happened, to what, and what to do."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import ClassVar

from tunewright.runner.failure import Failure

__all__ = [
    "AlreadyRunning",
    "AlreadySucceeded",
    "ExitCode",
    "Failure",
    "FetchError",
    "JobError",
    "PluginConflict",
    "PluginError",
    "PluginLoadError",
    "PluginNotFound",
    "RangeRefused",
    "RequestError",
    "SourceChanged",
    "TunewrightError",
    "did_you_mean",
]


class ExitCode(enum.IntEnum):
    """Exit codes of every Tunewright process, as in BSD's `sysexits.h`.

    The operator's `ExitCode` restart policy treats 1 to 127 as final, so a pod that ends with one of these is not
    restarted.
    """

    FAILURE = 1
    USAGE = 64
    BAD_DATA = 65
    NOT_FOUND = 66
    UNAVAILABLE = 69
    SOFTWARE = 70
    NO_SPACE = 73
    TRY_AGAIN = 75
    NO_PERMISSION = 77

    @property
    def may_pass(self) -> bool:
        """Whether waiting can help, so that `fetch` retries."""
        return self in (ExitCode.UNAVAILABLE, ExitCode.TRY_AGAIN)


class TunewrightError(Exception):
    """The base class of all errors that Tunewright raises on purpose.

    Attributes:
        argument: the argument of `train()` whose value was refused: "trainer"; "" if that is not known.
        place: where in a job file it was written: "job.yaml:3:14"; "" if nowhere. The message begins with it.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.FAILURE
    argument: str = ""
    place: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {super().__str__()}" if self.place else super().__str__()

    def to_failure(self) -> Failure:
        """Return the error as a value: exit code, cause and remedy."""
        return Failure(int(self.exit_code), str(self))

    def __reduce__(self) -> tuple[object, ...]:
        """Let any subclass be pickled, whatever its arguments: a process pool hangs forever on an error that cannot be."""
        return type(self).__new__, (type(self), *self.args), self.__dict__


class PluginError(TunewrightError):
    """A problem with one plugin.

    Attributes:
        name: the plugin's registry name, which is the name of its entry point.
        dist: the distribution (or distributions) that it comes from, if known.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, message: str, *, name: str, dist: str | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.dist = dist


class PluginNotFound(PluginError):  # noqa: N818 - the design's name, kept for its readers
    """No installed distribution registers the name."""


class PluginLoadError(PluginError):
    """The plugin is installed but unusable: its import fails, or it breaks the contract of a hook."""


class PluginConflict(PluginError):  # noqa: N818 - as PluginNotFound
    """Several distributions register the same name."""


class _Repr(str):
    """A value of which only the repr is kept: the value itself may not be picklable."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class RequestError(TunewrightError):
    """Bad input, refused before anything is created.

    Args:
        problem: what is wrong with the value, as a clause: "must be at least 1".
        field: the keyword as the user wrote it: "num_workers".
        value: the refused value; leave it out if it may be a secret.
        remedy: what to write instead, as a sentence.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, problem: str, *, field: str, value: object = ..., remedy: str) -> None:
        shown = field if value is ... else f"{field}={value!r}"
        self.cause = f"{shown}: {problem}."
        super().__init__(f"{self.cause} {remedy}")
        self.problem = problem
        self.field = field
        self.remedy = remedy
        self._value = value if value is ... else _Repr(repr(value))

    def renamed(self, field: str) -> RequestError:
        """Return the same error about another field: the keyword as the user wrote it."""
        same = type(self)(self.problem, field=field, value=self._value, remedy=self.remedy)
        same.argument, same.place = self.argument, self.place
        return same

    def located(self, place: str, field: str, *, hint: str = "") -> RequestError:
        """Return the same error about a field of a job file.

        Args:
            place: where the field is written, as in `TunewrightError.place`.
            field: the field, by the keys of the job file: "trainer.lora_config.r".
            hint: a sentence to add to the remedy.
        """
        remedy = f"{self.remedy} {hint}".strip()
        same = type(self)(self.problem, field=field, value=self._value, remedy=remedy)
        same.argument, same.place = self.argument, place
        return same

    @property
    def shown_value(self) -> str | None:
        """The repr of the refused value; None if the message leaves it out."""
        return None if self._value is ... else repr(self._value)

    def to_failure(self) -> Failure:
        """Return the error as a value: exit code, cause and remedy."""
        cause = f"{self.place}: {self.cause}" if self.place else self.cause
        return Failure(int(self.exit_code), cause, self.remedy)


class JobError(TunewrightError):
    """A problem with one job: its name is taken, it does not exist, it failed.

    Attributes:
        name: the job's name.
        failure: why the job failed, if that is the problem: exit code, cause, remedy, container and worker.
    """

    def __init__(self, message: str, *, name: str, failure: Failure | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.failure = failure

    def to_failure(self) -> Failure:
        """Return why the job failed, or else the error itself as a value."""
        return self.failure or super().to_failure()


class AlreadySucceeded(JobError):  # noqa: N818 - as PluginNotFound
    """An identical job has already succeeded, and its result exists: nothing was started."""


class AlreadyRunning(JobError):  # noqa: N818 - as PluginNotFound
    """An identical job is running: nothing was started."""


class FetchError(TunewrightError):
    """A model or dataset could not be downloaded, or is not what it should be.

    Args:
        cause: what happened, to what, as a sentence.
        remedy: what to do about it, as a sentence.
        code: the exit code of the container.
        retry_after: seconds until the source may be asked again, if it says so.
    """

    def __init__(self, cause: str, *, remedy: str, code: ExitCode, retry_after: float | None = None) -> None:
        super().__init__(f"{cause} {remedy}")
        self.cause = cause
        self.remedy = remedy
        self.code = code if isinstance(code, ExitCode) else ExitCode(code)
        self.retry_after = retry_after

    def to_failure(self) -> Failure:
        """Return the error as a value: exit code, cause and remedy."""
        return Failure(int(self.code), self.cause, self.remedy)


class SourceChanged(FetchError):  # noqa: N818 - as PluginNotFound
    """A file has changed since it was listed; the source is listed once more.

    Args:
        cause: what happened, to what, as a sentence.
        remedy: what to do if it happens again, as a sentence.
        code: the exit code if it happens again.
    """

    def __init__(
        self,
        cause: str,
        *,
        remedy: str = "Wait until nobody writes to the source, and try again.",
        code: ExitCode = ExitCode.TRY_AGAIN,
    ) -> None:
        super().__init__(cause, remedy=remedy, code=code)


class RangeRefused(FetchError):  # noqa: N818 - as PluginNotFound
    """A source did not send the range of a file that was asked for; the file is read in one stream.

    Args:
        cause: what happened, to what, as a sentence.
    """

    def __init__(self, cause: str) -> None:
        remedy = "Check for a proxy that rewrites Range requests."
        super().__init__(cause, remedy=remedy, code=ExitCode.TRY_AGAIN)


@contextlib.contextmanager
def plugin_code(name: str, dist: str, what: str) -> Iterator[None]:
    """Name the plugin in whatever its code raises; what it refuses on purpose passes through.

    Args:
        name: the plugin's name.
        dist: its distribution.
        what: which of its code is called: "check_inputs()".

    Raises:
        PluginError: the code raised something else.
    """
    try:
        yield
    except TunewrightError:
        raise
    except BaseException as error:  # SystemExit, or the panic of a library in Rust
        if type(error) is KeyboardInterrupt:
            raise
        problem = f"its {what} raised {described(error)}"
        message = f"Plugin {name!r} violates the plugin contract: {problem}. Report it to the author of {dist}."
        raise PluginError(message, name=name, dist=dist) from error


def described(error: BaseException) -> str:
    """Return an exception as text, `ValueError: …`. Any code may have raised it: its own `str()` may fail too."""
    try:
        text = str(error)
    except BaseException as problem:
        text = f"(its message cannot be shown: {type(problem).__name__})"
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def did_you_mean(
    name: str, known: Mapping[str, object] | list[str], aliases: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Ask whether a similar name was meant, or else list the known names.

    Args:
        name: what the user wrote.
        known: the names that there are.
        aliases: other words for them, as other programs have them: "rank" → "r".
    """
    meant = similar_name(name, known, aliases)
    return f"There are: {', '.join(sorted(known))}." if meant is None else f"Did you mean {meant!r}?"


def similar_name(
    name: str, known: Mapping[str, object] | list[str], aliases: Mapping[str, str] = MappingProxyType({})
) -> str | None:
    """Return the name that was probably meant, or None; the arguments are those of `did_you_mean`."""
    import difflib

    meant = aliases.get(name.lower().replace("-", "_").removeprefix("__"))
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return meant or (close[0] if close else None)


class Terminated(BaseException):
    """A step received SIGTERM. Process 1 has no default action for it; a BaseException passes a provider's `except Exception`."""


class Interrupted(KeyboardInterrupt):
    """A step received SIGINT: somebody runs it by hand, and gave it up. A plugin may raise a KeyboardInterrupt of its own."""


ENDINGS: tuple[type[BaseException], ...] = (KeyboardInterrupt, Interrupted, Terminated)
"""What a signal raises, wherever the program is just then: a plugin's code that it happens to be in has not failed."""
