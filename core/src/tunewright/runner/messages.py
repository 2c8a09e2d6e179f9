"""The parts of a failure's message: the exception that ended the command, the signals, and no secrets."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import signal
import urllib.parse
from collections.abc import Callable, Mapping

ERROR_LENGTH = 1000
SHORTEST_SECRET = 4
"""Characters of a value that is redacted: a shorter one is part of too many words, and no secret to anybody who guesses."""

_SHORTEST_LINE = 8
_URL_SAFE = str.maketrans("+/", "-_")
# torchrun --tee, and torch.distributed itself, prefix each line of a rank with this.
_RANK_PREFIX = re.compile(r"(\[[A-Za-z_]+[0-9]+\]:\s?)+")
# In torchrun's summary. Its "root cause" may be a rank that only failed because this one was gone.
_KILLED = re.compile(r"^ *rank *: ([0-9]+) .*\n *exitcode *: -([0-9]+) ", re.MULTILINE)


def ending(returncode: int) -> str:
    """Describe how a process ended."""
    if returncode >= 0:
        return f"exit code {returncode}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-returncode).name}"
    return f"signal {-returncode}"


def errors_in(log: str) -> list[str]:
    """Return the exceptions in a log, as Python prints them (`ValueError: …`), oldest first.

    torchrun's own exception, which only says that a rank failed, is left out.
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
    """Return the ranks that a signal killed, from torchrun's summary in a log: they could not leave an error themselves.

    Ranks that SIGTERM ended are left out: torchrun sends it to all ranks once one has failed.
    """
    found = [(rank, int(number)) for rank, number in _KILLED.findall(log)]
    return [f"rank {rank} ended with {ending(-number)}" for rank, number in found if number != signal.SIGTERM]


def without_secrets(text: str, env: Mapping[str, str]) -> str:
    """Redact the values of the variables that TUNEWRIGHT_SECRETS names: more people see a message than a log."""
    redact = redactor(env)
    return redact(text.encode(errors="replace")).decode(errors="replace") if redact else text


def forms_of(secret: str) -> set[str]:
    """Return a secret as libraries print it: as it is, in a repr, in JSON, in a URL, in Base64, and line by line.

    Forms of fewer than `SHORTEST_SECRET` characters are left out.
    """
    forms: set[str] = set()
    for value in {secret, secret.rstrip("\r\n")}:
        # Short lines, and Base64 of short values, are part of many words.
        lines = {line for line in value.splitlines() if len(line) >= _SHORTEST_LINE}
        quoted = {urllib.parse.quote(value, safe=safe, errors="replace") for safe in ("", "/")}
        quoted.add(urllib.parse.quote_plus(value, errors="replace"))
        quoted |= {json.dumps(value, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True)}
        forms |= {value, repr(value)[1:-1], *quoted, *lines, *_in_base64(value)}
    return {form for form in forms if len(form) >= SHORTEST_SECRET}


def _in_base64(value: str) -> set[str]:
    """Return what Base64 shows of a value, alone or after a user's name: its length decides where the value begins."""
    data = value.encode(errors="replace")
    if len(data) < _SHORTEST_LINE:
        return set()
    texts: set[str] = set()
    for before in range(3):
        text = base64.b64encode(b"\0" * before + data).decode().rstrip("=")
        # A character that also has bits of what stands around the value is another one each time.
        whole = text[-(-before * 8 // 6) : None if (before + len(data)) % 3 == 0 else -1]
        texts |= {whole, whole.translate(_URL_SAFE)}
    return texts


def redactor(env: Mapping[str, str]) -> Callable[[bytes], bytes] | None:
    """Return a function that redacts the values of the variables that TUNEWRIGHT_SECRETS names; None if there are none."""
    given = {env[name] for name in env.get("TUNEWRIGHT_SECRETS", "").split(",") if env.get(name)}
    values = {form for value in given for form in forms_of(value)}
    longest_first = sorted(
        (value.encode(errors="replace") for value in values if len(value) >= SHORTEST_SECRET), key=len, reverse=True
    )
    if not longest_first:
        return None
    pattern = re.compile(b"|".join(map(re.escape, longest_first)))
    return lambda data: pattern.sub(b"<redacted>", data)
