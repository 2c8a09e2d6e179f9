"""Windows of a stream that one rank tokenises for all ranks of its node, and that the others read from files."""

from __future__ import annotations

import itertools
import os
import pickle
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar, cast

import attrs

from tunewright.errors import RequestError

Item = TypeVar("Item")

_PAUSE = 0.005  # seconds between two looks for a file


@attrs.frozen(kw_only=True)
class Sharing:
    """How the ranks of a node share a stream.

    Attributes:
        folder: a folder that they share, and that is empty when the first of them begins.
        rank: this rank's number on the node; 0 tokenises.
        ranks: number of ranks on the node.
    """

    folder: Path
    rank: int
    ranks: int

    def part(self, number: int) -> Sharing:
        """Return how the ranks share one of several streams."""
        return attrs.evolve(self, folder=self.folder / str(number))

    def share(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items of rank 0 on every rank; the others do not iterate over theirs.

        Raises:
            RequestError: rank 0 met it.
            RuntimeError: rank 0 met another error, or this process's parent is gone.
        """
        return self._sent(items) if self.rank == 0 else self._received()

    def _sent(self, items: Iterable[Item]) -> Iterator[Item]:
        self.folder.mkdir(parents=True, exist_ok=True)
        sent = 0
        try:
            for item in items:
                self._send(sent, item)
                sent += 1
                yield item
        except Exception as error:  # else the others would wait for what never comes
            known = error if isinstance(error, RequestError) else RuntimeError(f"rank 0 of the node: {error!r}")
            self._send(sent, known)
            raise

    def _send(self, number: int, item: object) -> None:
        content = pickle.dumps(item)
        for rank in range(1, self.ranks):
            written = self.folder / f".{number}-{rank}"
            written.write_bytes(content)
            written.replace(self.folder / f"{number}-{rank}")

    def _received(self) -> Iterator[Item]:
        for number in itertools.count():
            item = self._receive(self.folder / f"{number}-{self.rank}")
            if isinstance(item, Exception):
                raise item
            yield cast("Item", item)

    def _receive(self, file: Path) -> object:
        parent = os.getppid()
        while not file.exists():
            if os.getppid() != parent:  # a loader's process may outlive the training
                raise RuntimeError("the process that started this one is gone")
            time.sleep(_PAUSE)
        item: object = pickle.loads(file.read_bytes())  # noqa: S301 - a rank of this job has written it
        file.unlink()
        return item
