"""depot:// models and datasets for Tunewright, downloaded by its fetch engine."""

from __future__ import annotations

import attrs
from tunewright import DatasetProvider, ModelProvider, SecretRef, hookimpl, secret
from tunewright.providers import Snapshot, SnapshotSource, check_http_url


@attrs.frozen(kw_only=True, slots=False)  # two base classes with slots cannot be combined
class DepotSource(SnapshotSource):
    """Files of depot's service.

    Attributes:
        server: the service's address.
        token: sent as a bearer token.
    """

    extra = "container"

    server: str = attrs.field(default="https://depot.example", validator=check_http_url)
    token: str | SecretRef | None = secret(env="DEPOT_TOKEN")

    def snapshot(self) -> Snapshot:
        """Say where the files are; called in the container."""
        from tunewright_depot.container import DepotSnapshot

        return DepotSnapshot(f"{self.server}/{self.uri.removeprefix('depot://')}", self.token)


@attrs.frozen(kw_only=True)
class DepotModel(DepotSource, ModelProvider):
    """A model of depot's service."""


@attrs.frozen(kw_only=True)
class DepotDataset(DepotSource, DatasetProvider):
    """A dataset of depot's service."""


@hookimpl
def tunewright_model_provider() -> type[ModelProvider]:
    """Return the class for depot:// models."""
    return DepotModel


@hookimpl
def tunewright_dataset_provider() -> type[DatasetProvider]:
    """Return the class for depot:// datasets."""
    return DepotDataset
