"""What can go wrong, as exceptions whose messages say what happened, to what, and what to do."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Mapping
from typing import ClassVar


class ExitCode(enum.IntEnum):
    """The exit codes of every Tunewright process: those of BSD's `sysexits.h`.

    The operator's `ExitCode` restart policy takes 1 to 127 as final, so a pod that ends with one of these is not
    started again.
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
        """Whether waiting can help, so that `fetch` tries again before it gives up."""
        return self in (ExitCode.UNAVAILABLE, ExitCode.TRY_AGAIN)


class TunewrightError(Exception):
    """The root of all errors that Tunewright raises on purpose."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILURE

    def __reduce__(self) -> tuple[object, ...]:
        """To be sent from one process to another, whatever a class wants to be made of: a pool waits for ever if that fails."""
        return type(self).__new__, (type(self), *self.args), self.__dict__


class PluginError(TunewrightError):
    """Something about one plugin.

    Attributes:
        name: the plugin's registry name, which is its entry point's name.
        dist: the distribution (or distributions) that it came from, where known.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, message: str, *, name: str, dist: str | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.dist = dist


class PluginNotFound(PluginError):  # noqa: N818 - the design's name, kept for its readers
    """No installed distribution registers the name."""


class PluginLoadError(PluginError):
    """The plugin is installed and cannot be used: it fails at import, or breaks the hooks' contract."""


class PluginConflict(PluginError):  # noqa: N818 - as PluginNotFound
    """Two distributions register the same name."""


class RequestError(TunewrightError):
    """Bad input, refused before anything is created.

    Args:
        problem: what is wrong with the value, as a clause: "must be at least 1".
        field: the keyword as the user wrote it: "num_workers".
        value: the refused value; leave it out where it may be a secret.
        remedy: what to write instead, as a sentence.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, problem: str, *, field: str, value: object = ..., remedy: str) -> None:
        shown = field if value is ... else f"{field}={value!r}"
        super().__init__(f"{shown}: {problem}. {remedy}")
        self.problem = problem
        self.field = field
        self.remedy = remedy
        self._value = value

    def renamed(self, field: str) -> RequestError:
        """Return the same error about another field: the keyword as the user wrote it."""
        return type(self)(self.problem, field=field, value=self._value, remedy=self.remedy)


class JobError(TunewrightError):
    """Something about one job: its name is taken, it does not exist, it failed."""

    def __init__(self, message: str, *, name: str) -> None:
        super().__init__(message)
        self.name = name


class AlreadySucceeded(JobError):  # noqa: N818 - as PluginNotFound
    """The very same job has been run, and its result is there: nothing was started."""


class FetchError(TunewrightError):
    """A model or dataset could not be brought into its slot, or is not what it should be.

    Args:
        cause: what happened, to what.
        remedy: what to do about it.
        code: the exit code that the container ends with.
        retry_after: seconds after which the source wants to be asked again, where it says so.
    """

    def __init__(self, cause: str, *, remedy: str, code: ExitCode, retry_after: float | None = None) -> None:
        super().__init__(f"{cause} {remedy}")
        self.cause = cause
        self.remedy = remedy
        self.code = code
        self.retry_after = retry_after


class SourceChanged(FetchError):  # noqa: N818 - as PluginNotFound
    """A file is not the one that was listed any more: the source is listed again.

    Args:
        cause: what happened, to what.
        remedy: what to do if it happens again.
        code: the exit code if it happens again.
    """

    def __init__(
        self,
        cause: str,
        *,
        remedy: str = "Wait until nobody writes there, and try again.",
        code: ExitCode = ExitCode.TRY_AGAIN,
    ) -> None:
        super().__init__(cause, remedy=remedy, code=code)


def did_you_mean(name: str, known: Mapping[str, object] | list[str]) -> str:
    """The question whether a close name was meant, or the list of what there is."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(sorted(known))}."
