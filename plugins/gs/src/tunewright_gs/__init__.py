"""Tunewright plugin for Google Cloud Storage: `gs://` models, datasets and outputs."""

from __future__ import annotations

from tunewright import DatasetProvider, ModelProvider, hookimpl
from tunewright_gs.sources import GSDatasetParams, GSModelParams
from tunewright_gs.uri import format_uri, parse_uri

__all__ = ["GSDatasetParams", "GSModelParams", "format_uri", "parse_uri"]


@hookimpl
def tunewright_model_provider() -> type[ModelProvider]:
    return GSModelParams


@hookimpl
def tunewright_dataset_provider() -> type[DatasetProvider]:
    return GSDatasetParams
