"""What the message of a failure says: the exception that ended the command, and no secret."""

from __future__ import annotations

import contextlib
import re
import signal
import urllib.parse
from collections.abc import Mapping

ERROR_LENGTH = 1000
# torchrun's --tee, and torch.distributed itself, put this before each line of a rank.
_RANK_PREFIX = re.compile(r"(\[[A-Za-z_]+[0-9]+\]:\s?)+")
# In torchrun's summary, whose "root cause" may be a rank that only missed this one.
_KILLED = re.compile(r"^ *rank *: ([0-9]+) .*\n *exitcode *: -([0-9]+) ", re.MULTILINE)


def ending(returncode: int) -> str:
    """How a process ended, for people."""
    if returncode > 0:
        return f"exit code {returncode}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-returncode).name}"
    return f"signal {-returncode}"


def errors_in(log: str) -> list[str]:
    """The exceptions at the end of a log, as Python shows them (`ValueError: …`), the oldest first.

    torchrun's own, which only says that a rank has failed, is not among them.
    """
    found, inside = [], False
    for line in (_RANK_PREFIX.sub("", line, count=1) for line in log.splitlines()):
        if line.startswith(("Traceback (most recent call last)", '  File "')):  # a SyntaxError has no head
            inside = True
        elif inside and line and not line[0].isspace():
            inside = False
            if "ChildFailedError" not in line and line not in found:
                found.append(line)
    return found


def killed_ranks(log: str) -> list[str]:
    """The ranks that a signal ended, by torchrun's summary at the end of a log: they could leave no error themselves.

    Without those that SIGTERM ended: torchrun sends it to all once one has failed.
    """
    found = [(rank, int(number)) for rank, number in _KILLED.findall(log)]
    return [f"rank {rank} ended with {ending(-number)}" for rank, number in found if number != signal.SIGTERM]


def without_secrets(text: str, env: Mapping[str, str]) -> str:
    """The text without the values of the variables that TUNEWRIGHT_SECRETS names: a message is seen by more than a log."""
    values = {env[name] for name in env.get("TUNEWRIGHT_SECRETS", "").split(",") if env.get(name)}
    for value in values:
        values = values | {repr(value)[1:-1], urllib.parse.quote(value, safe="")}  # as libraries show them
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "<redacted>")
    return text
