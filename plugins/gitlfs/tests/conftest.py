"""A git server with LFS on the loopback interface, and fetches from it into a volume."""

import json
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from tests.servers.faulty import FileServer
from tests.servers.git import GitServer

from tunewright import ExitCode, FetchError
from tunewright._planning.assemble import document_of
from tunewright.events import Event
from tunewright.plugins.registry import Registry
from tunewright.providers.limits import FetchLimits
from tunewright_gitlfs import GitLFSDatasetParams, GitLFSModelParams
from tunewright_launcher.fetch import fetch_into


@attrs.define
class Fetch:
    """Fetches into a volume, in this process, as the init container would."""

    server: GitServer
    volume: Path
    events: list[Event] = attrs.field(factory=list)

    @property
    def slot(self) -> Path:
        return self.volume / "model"

    def run(self, uri: str = "", *, slot: str = "model", **params: object) -> dict[str, bytes]:
        """The files that are then in the slot, but for the marker."""
        cls = GitLFSModelParams if slot == "model" else GitLFSDatasetParams
        provider = cls(uri=uri or self.server.uri(), **params)
        kind = "model" if slot == "model" else "dataset"
        document = document_of(kind, Registry().get("gitlfs"), provider)
        limits = FetchLimits(connections=4, stall=2, tries=4)
        fetch_into(provider, document, self.volume, slot, self.events.append, limits=limits)
        return self.files(slot)

    def files(self, slot: str = "model") -> dict[str, bytes]:
        folder = self.volume / slot
        found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        return {path: content for path, content in found.items() if path != "complete.json"}

    def fails(self, code: ExitCode, *words: str, uri: str = "", **params: object) -> FetchError:
        """The error; nothing is marked as complete."""
        with pytest.raises(FetchError) as caught:
            self.run(uri, **params)
        assert caught.value.code is code, caught.value
        assert all(word in str(caught.value) for word in words), caught.value
        assert not (self.slot / "complete.json").exists()
        return caught.value

    @property
    def marker(self) -> dict[str, object]:
        return json.loads((self.slot / "complete.json").read_text("utf-8"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "repositories") as running:
        yield running


@pytest.fixture
def fetch(server: GitServer, tmp_path: Path) -> Fetch:
    return Fetch(server, tmp_path / "volume")


@pytest.fixture
def listener() -> Iterator[FileServer]:
    """Another host, which must not hear anything secret."""
    with FileServer({}) as other:
        yield other
