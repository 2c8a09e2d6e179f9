"""Tunewright plugin for Azure Blob Storage: `az://` models, datasets and outputs."""

from __future__ import annotations

from tunewright import DatasetProvider, ModelProvider, hookimpl
from tunewright_az.sources import AzureDatasetParams, AzureModelParams
from tunewright_az.uri import format_uri, parse_uri

__all__ = ["AzureDatasetParams", "AzureModelParams", "format_uri", "parse_uri"]


@hookimpl
def tunewright_model_provider() -> type[ModelProvider]:
    return AzureModelParams


@hookimpl
def tunewright_dataset_provider() -> type[DatasetProvider]:
    return AzureDatasetParams
