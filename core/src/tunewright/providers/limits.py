"""Limits of a fetch: how long it retries, and how much of the network it may use."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping

import attrs

# In the init containers, set by the user with init_env=.
RETRY_FOR = "TUNEWRIGHT_RETRY_FOR"
FETCH_CONNECTIONS = "TUNEWRIGHT_FETCH_CONNECTIONS"
FETCH_RATE = "TUNEWRIGHT_FETCH_RATE"
FETCH_STALL = "TUNEWRIGHT_FETCH_STALL"


@attrs.frozen(kw_only=True)
class FetchLimits:
    """How a fetch behaves towards the network.

    Attributes:
        connections: ranges that are read at the same time, at most.
        processes: 2 for a second one, which has half of the connections, where there are many small files: what those cost
            is the interpreter's time. 1 where other threads live that a fork would hurt.
        rate: bytes a second, all connections together; None for as fast as it goes.
        stall: seconds without a byte, or with next to none, after which a connection is given up.
        tries: how often in a row a range may fail without a byte before the whole try has failed.
        retry_for: seconds for which a fetch that failed for a reason that may pass is tried again.
    """

    connections: int = 32
    processes: int = 1
    rate: float | None = None
    stall: float = 30.0
    tries: int = 6
    retry_for: float = 600.0

    @classmethod
    def read(cls, env: Mapping[str, str]) -> FetchLimits:
        """From the variables of the init container.

        Raises:
            ValueError: one of them is not a number, or one that makes no sense; its name is in the message.
        """
        usual = cls()
        return cls(
            connections=int(_number(env, FETCH_CONNECTIONS, usual.connections, least=1)),
            rate=_number(env, FETCH_RATE, 0) or None,
            stall=_number(env, FETCH_STALL, usual.stall, least=0.1),
            retry_for=_number(env, RETRY_FOR, usual.retry_for),
        )


def _number(env: Mapping[str, str], name: str, default: float, *, least: float = 0) -> float:
    text = env.get(name) or str(default)
    with contextlib.suppress(ValueError):
        if least <= (value := float(text)) < math.inf:
            return value
    raise ValueError(f"{name}={text!r} is not a number from {least}")
