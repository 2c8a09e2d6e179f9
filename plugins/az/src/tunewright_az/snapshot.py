"""The blobs below an `az://` URI, as a snapshot for the fetch engine."""

from __future__ import annotations

from collections.abc import Callable

from tunewright.providers import Entry
from tunewright_az.container import Container
from tunewright_launcher.http import HttpRequest
from tunewright_launcher.objects import ObjectSnapshot


class AzureSnapshot(ObjectSnapshot):
    """The blob with a name, or the blobs below it as a folder, each in the version that was listed.

    Args:
        container: the container.
        prefix: the name; "" for the whole container.
        selects: returns whether to fetch a relative path.
    """

    def __init__(self, container: Container, prefix: str, selects: Callable[[str], bool] = lambda _: True) -> None:
        super().__init__(container, prefix, selects)
        self._container = container

    def request(self, entry: Entry) -> HttpRequest:
        """Return a GET for the version that was listed."""
        return self._container.get(entry.source, entry.validator)
