"""Translate the messages of git and ssh into errors with an exit code and a remedy.

git has one exit code for all network errors, so only its messages tell them apart. It is run so that they are in English.
"""

from __future__ import annotations

import re

import attrs

from tunewright import ExitCode, FetchError

_LONGEST = 400


@attrs.frozen
class _Meaning:
    said: re.Pattern[str]
    code: ExitCode
    remedy: str


def _means(said: str, code: ExitCode, remedy: str) -> _Meaning:
    return _Meaning(re.compile(said, re.IGNORECASE), code, remedy)


# The first match counts: specific messages come before those that git adds to every failure.
_MEANINGS = (
    _means(
        r"no space left on device|disk quota exceeded",
        ExitCode.NO_SPACE,
        "Give the step's scratch folder, /tmp in a pod, more space: plain files pass through it.",
    ),
    _means(
        r"host key verification failed|no .* host key is known",
        ExitCode.NO_PERMISSION,
        "Give known_hosts= the server's keys: the output of `ssh-keyscan host`, after verifying it.",
    ),
    _means(
        r"invalid format|error in libcrypto|load key .*: ",
        ExitCode.NO_PERMISSION,
        "Give ssh_private_key= the whole text of an OpenSSH private key without a passphrase.",
    ),
    _means(
        r"permission denied|access denied|could not read (username|password)|authentication failed|error: 40[13]",
        ExitCode.NO_PERMISSION,
        "Give a credential that can read the repository: token=, username= and password=, or ssh_private_key=.",
    ),
    _means(
        r"no user exists for uid",
        ExitCode.USAGE,
        "ssh needs a line in /etc/passwd for the user that the container runs as: use an image that has one.",
    ),
    _means(
        r"certificate",
        ExitCode.USAGE,
        "Mount your CA's certificates, and name the file in init_env: SSL_CERT_FILE.",
    ),
    _means(
        r"couldn't find remote ref|not our ref|unadvertised object|no such remote ref",
        ExitCode.NOT_FOUND,
        "Give a branch, a tag or a commit that the repository has.",
    ),
    _means(
        r"not found|does not exist|does not appear to be a git repository|not valid: is this a git repository|error: 404",
        ExitCode.NOT_FOUND,
        "Check the URI. Without read access, a private repository looks like a missing one.",
    ),
    _means(
        r"invalid path|malformed|unable to create file|file name too long|protected",
        ExitCode.BAD_DATA,
        "Leave the file out with exclude=, or have it renamed at its source.",
    ),
    _means(
        r"error: 3\d\d",
        ExitCode.BAD_DATA,
        "Only the repository's own URL may redirect: give its current URI.",
    ),
    _means(
        r"could not resolve|couldn't resolve|connection refused|failed to connect|couldn't connect|no route to host"
        r"|network is unreachable|timed out|error: (429|5\d\d)|operation too slow|too slow|less than \d+ bytes/sec",
        ExitCode.UNAVAILABLE,
        "Check that the server is reachable from where the step runs.",
    ),
    _means(
        r"early eof|rpc failed|unexpected disconnect|remote end hung up|connection (reset|closed)|transfer closed"
        r"|recv failure|invalid index-pack|unpack failed|inflate|bad object|index-pack failed|fetch-pack",
        ExitCode.TRY_AGAIN,
        "Start it again later. If this persists, check for a proxy in between, or ask the server's operator.",
    ),
)


def failure(what: str, said: str) -> FetchError:
    """Return the error for a failed command.

    Args:
        what: the action and its object: "Fetching main of https://…".
        said: what the command wrote to its standard error.
    """
    lines = [line.strip() for line in said.splitlines() if line.strip() and "warning:" not in line]
    shown = " / ".join(lines)[-_LONGEST:].rstrip(".") or "without a message"
    for meaning in _MEANINGS:
        if meaning.said.search(said):
            return FetchError(f"{what} failed: {shown}.", remedy=meaning.remedy, code=meaning.code)
    remedy = "Try the same URL and ref with git itself."
    return FetchError(f"{what} failed: {shown}.", remedy=remedy, code=ExitCode.BAD_DATA)
