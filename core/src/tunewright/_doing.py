"""What the client itself is doing before there is a job, for whoever waits for it: messages of the logger `tunewright.doing`."""

from __future__ import annotations

import logging

_LOGGER = "tunewright.doing"


def doing(text: str) -> None:
    """Say what the client does next, in words that follow the name of a job: "checking the dataset"."""
    doing_logger().info(text)


def doing_logger() -> logging.Logger:
    """Return the logger. Its messages reach only handlers of its own, as a library must not write into a program's log unasked."""
    logger = logging.getLogger(_LOGGER)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    return logger
