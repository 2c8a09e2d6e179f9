"""A volume that a test fetches into, in its own process, as an init container would."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from tunewright import DatasetProvider, ExitCode, FetchError
from tunewright._planning.assemble import document_of
from tunewright.events import Event
from tunewright.plugins.registry import Registry
from tunewright.providers.limits import FetchLimits
from tunewright_launcher.fetch import fetch_into


@attrs.define
class Volume:
    """A volume.

    Attributes:
        folder: where it is.
        plugin: name of the plugin that is tested.
        make: makes its provider of datasets.
        events: what the fetches have told.
    """

    folder: Path
    plugin: str
    make: Callable[..., DatasetProvider]
    events: list[Event] = attrs.field(factory=list)

    @property
    def slot(self) -> Path:
        """Where the files are."""
        return self.folder / "dataset"

    def fetch(self, uri: str, **params: Any) -> dict[str, bytes]:
        """Fetch; the files that are then in the slot, but for the marker."""
        provider = self.make(uri=uri, **params)
        document = document_of("dataset", Registry().get(self.plugin), provider)
        limits = FetchLimits(connections=4, stall=20, tries=4)
        fetch_into(provider, document, self.folder, "dataset", self.events.append, limits=limits)
        found = {p.relative_to(self.slot).as_posix(): p.read_bytes() for p in self.slot.rglob("*") if p.is_file()}
        return {path: content for path, content in found.items() if path != "complete.json"}

    def fails(self, code: ExitCode, *words: str, uri: str, **params: Any) -> FetchError:
        """The error of a fetch, which has these words; nothing is marked as complete."""
        with pytest.raises(FetchError) as caught:
            self.fetch(uri, **params)
        assert caught.value.code is code, caught.value
        assert all(word in str(caught.value) for word in words), caught.value
        assert not (self.slot / "complete.json").exists()
        return caught.value

    def another(self) -> Volume:
        """An empty one."""
        return attrs.evolve(self, folder=self.folder / "another", events=[])

    @property
    def marker(self) -> dict[str, Any]:
        """The marker of what was fetched."""
        return dict(json.loads((self.slot / "complete.json").read_text("utf-8")))

    @property
    def verified(self) -> dict[str, str]:
        """Path → what the file was verified by."""
        return {path: record["verified"] for path, record in self.marker["files"].items()}
