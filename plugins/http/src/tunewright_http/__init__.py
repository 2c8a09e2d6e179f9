"""Tunewright plugin for web servers: `https://` and `http://` models and datasets."""

from __future__ import annotations

from tunewright import DatasetProvider, ModelProvider, hookimpl
from tunewright_http.sources import HttpDatasetParams, HttpModelParams

__all__ = ["HttpDatasetParams", "HttpModelParams"]


@hookimpl
def tunewright_model_provider() -> type[ModelProvider]:
    return HttpModelParams


@hookimpl
def tunewright_dataset_provider() -> type[DatasetProvider]:
    return HttpDatasetParams
