"""shelf:// models and outputs for Tunewright: results are uploaded, and can be trained on again."""

from __future__ import annotations

import attrs
from tunewright import ModelProvider, SecretRef, hookimpl, secret
from tunewright.providers import OutputTarget, Snapshot, SnapshotSource, Store, check_http_url


@attrs.frozen(kw_only=True)
class ShelfModel(SnapshotSource, OutputTarget, ModelProvider):
    """A model of shelf's service, to read and to write.

    Attributes:
        server: the service's address.
        token: sent as a bearer token.
    """

    extra = "container"

    server: str = attrs.field(default="https://shelf.example", validator=check_http_url)
    token: str | SecretRef | None = secret(env="SHELF_TOKEN")

    def snapshot(self) -> Snapshot:
        """Say where the files are, to download; called in the container."""
        from tunewright_shelf.container import ShelfSnapshot

        return ShelfSnapshot(self._address, self.token)

    def store(self) -> Store:
        """Connect, to upload; called in the container."""
        from tunewright_shelf.store import ShelfStore

        return ShelfStore(self._address, self.token)

    @property
    def _address(self) -> str:
        return f"{self.server}/{self.uri.removeprefix('shelf://')}"


@hookimpl
def tunewright_model_provider() -> type[ModelProvider]:
    """Return the class for shelf:// models and outputs."""
    return ShelfModel
