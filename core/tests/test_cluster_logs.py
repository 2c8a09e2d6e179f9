"""A container's log, followed while connections break off."""

from collections.abc import Iterator

import pytest

from tunewright.backends.pytorchjob.failures import ApiFailure
from tunewright.backends.pytorchjob.feed import Feed
from tunewright.backends.pytorchjob.live import Container, Pod
from tunewright.backends.pytorchjob.logs import _Reader

# CRI-O gives one time to all lines that it reads at once.
TIMES = (
    ["2026-11-26T14:00:00.100000000Z"] * 3 + ["2026-11-26T14:00:00.200000000Z"] * 2 + ["2026-11-26T14:00:01.000000000Z"]
)
LOG = [f"{time} line {number}".encode() for number, time in enumerate(TIMES)]


class Server:
    """Answers with the whole log; each of the first connections breaks off after so many lines."""

    def __init__(self, *breaks: int) -> None:
        self.breaks = list(breaks)

    def log(self, *_: str, **__: str) -> "Server":
        return self

    def lines(self) -> Iterator[bytes]:
        if not self.breaks:
            yield from LOG
            return
        yield from LOG[: self.breaks.pop(0)]
        raise ApiFailure(0, "connection reset")

    def find(self, *_: str) -> dict:
        status = {"name": "pytorch", "restartCount": 0, "state": {"terminated": {"exitCode": 0}}}
        return {
            "metadata": {"name": "p", "uid": "u", "labels": {}},
            "spec": {},
            "status": {"containerStatuses": [status]},
        }


@pytest.mark.parametrize("breaks", [(), (1,), (2, 3), (3, 4), (4,), (6,)])
def test_each_line_is_read_once_also_where_several_have_one_time(breaks: tuple[int, ...]) -> None:
    api = Server(*breaks)
    feed, container = Feed(api), Container(name="pytorch", init=False, phase="running")  # type: ignore[arg-type]
    _Reader(api, feed, Pod(name="p", uid="u", worker=0, containers=(container,)), container).run()  # type: ignore[arg-type]
    found = [item.text for item in iter(lambda: feed.get(0), None)]  # type: ignore[union-attr]
    assert found == [f"line {number}" for number in range(len(LOG))]
