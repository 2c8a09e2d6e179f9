"""Tunewright plugin for S3 and compatible stores: `s3://` models and datasets."""

from __future__ import annotations

from tunewright import DatasetProvider, ModelProvider, hookimpl
from tunewright_s3.sources import S3DatasetParams, S3ModelParams
from tunewright_s3.uri import format_uri, parse_uri

__all__ = ["S3DatasetParams", "S3ModelParams", "format_uri", "parse_uri"]


@hookimpl
def tunewright_model_provider() -> type[ModelProvider]:
    return S3ModelParams


@hookimpl
def tunewright_dataset_provider() -> type[DatasetProvider]:
    return S3DatasetParams
