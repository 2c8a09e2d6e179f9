"""The limits of a fetch: how long it retries, and how much of the network it uses."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping

import attrs

# Variables of the init containers, which the user sets with init_env=.
RETRY_FOR = "TUNEWRIGHT_RETRY_FOR"
FETCH_CONNECTIONS = "TUNEWRIGHT_FETCH_CONNECTIONS"
FETCH_RATE = "TUNEWRIGHT_FETCH_RATE"
FETCH_STALL = "TUNEWRIGHT_FETCH_STALL"
FETCH_LISTING = "TUNEWRIGHT_FETCH_LISTING"


@attrs.frozen(kw_only=True)
class FetchLimits:
    """The limits that a fetch observes.

    Attributes:
        connections: maximum number of ranges that are read in parallel.
        processes: 2 to share the connections with a second process if there are many small files, whose cost is mostly
            interpreter time. 1 if there are other threads, which make forking unsafe.
        rate: maximum bytes per second of all connections together; None for no limit.
        stall: seconds after which a connection that delivers nothing, or nearly nothing, is closed.
        listing: seconds within which a source must list the next file.
        tries: how many times in a row a range may fail, without delivering a byte, until the attempt fails.
        retry_for: seconds for which to retry a fetch that failed for a temporary reason.
    """

    connections: int = 32
    processes: int = 1
    rate: float | None = None
    stall: float = 30.0
    listing: float = 300.0
    tries: int = 6
    retry_for: float = 600.0

    @classmethod
    def read(cls, env: Mapping[str, str]) -> FetchLimits:
        """Read the limits from the environment variables of an init container. Missing variables mean the defaults.

        Raises:
            ValueError: a variable is not a number, or is out of range. The message contains its name.
        """
        usual = cls()
        return cls(
            connections=int(_number(env, FETCH_CONNECTIONS, usual.connections, least=1)),
            rate=_number(env, FETCH_RATE, 0) or None,
            stall=_number(env, FETCH_STALL, usual.stall, least=0.1),
            listing=_number(env, FETCH_LISTING, usual.listing, least=0.1),
            retry_for=_number(env, RETRY_FOR, usual.retry_for),
        )


def _number(env: Mapping[str, str], name: str, default: float, *, least: float = 0) -> float:
    text = env.get(name) or str(default)
    with contextlib.suppress(ValueError):
        if least <= (value := float(text)) < math.inf:
            return value
    raise ValueError(f"{name}={text!r} is not a number of at least {least}")
