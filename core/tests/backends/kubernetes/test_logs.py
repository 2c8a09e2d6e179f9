"""A container's log, followed while connections break off."""

from collections.abc import Iterator

import pytest

from tunewright.backends.kubernetes.failures import ApiFailure
from tunewright.backends.kubernetes.informer import Informer
from tunewright.backends.kubernetes.live import Container, Pod
from tunewright.backends.kubernetes.logs import _Reader
from tunewright.backends.pytorchjob.kind import PyTorchJob

# CRI-O gives one time to all lines that it reads at once.
TIMES = (
    ["2026-11-26T14:00:00.100000000Z"] * 3 + ["2026-11-26T14:00:00.200000000Z"] * 2 + ["2026-11-26T14:00:01.000000000Z"]
)
LOG = [f"{time} line {number}".encode() for number, time in enumerate(TIMES)]


class Server:
    """Answers with the whole log; each of the first connections breaks off after so many lines."""

    kind = PyTorchJob()

    def __init__(self, *breaks: int) -> None:
        self.breaks = list(breaks)

    def log(self, *_: object) -> "Server":
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


def read(api: Server) -> list[str]:
    feed, container = Informer(api), Container(name="pytorch", step="train", init=False, phase="running")  # type: ignore[arg-type]
    _Reader(api, feed, Pod(name="p", uid="u", worker=0, containers=(container,)), container).run()  # type: ignore[arg-type]
    return [item.text for item in iter(lambda: feed.get(0), None)]  # type: ignore[union-attr]


@pytest.mark.parametrize("breaks", [(), (1,), (2, 3), (3, 4), (4,), (6,)])
def test_each_line_is_read_once_also_where_several_have_one_time(breaks: tuple[int, ...]) -> None:
    assert read(Server(*breaks)) == [f"line {number}" for number in range(len(LOG))]


# What kubelets answer for a container without its log, and for a pod that they have not any more.
@pytest.mark.parametrize(
    "answer", [(400, "container not found"), (404, "the server could not find the requested resource")]
)
def test_a_log_that_its_node_has_not_any_more_ends_where_it_was(answer: tuple[int, str]) -> None:
    class Gone(Server):
        def log(self, pod: str, container: str, query: dict[str, str]) -> Server:
            if query.get("follow"):
                return super().log()
            raise ApiFailure(*answer)

        def lines(self) -> Iterator[bytes]:
            yield from LOG[:2]

    assert read(Gone()) == ["line 0", "line 1"]
