"""Tunewright plugin for Kaggle: `kaggle://` datasets, models and competitions."""

from __future__ import annotations

from tunewright import DatasetProvider, ModelProvider, hookimpl
from tunewright_kaggle.sources import KaggleDatasetParams, KaggleModelParams
from tunewright_kaggle.uri import KaggleCompetition, KaggleDataset, KaggleModel, parse_uri

__all__ = [
    "KaggleCompetition",
    "KaggleDataset",
    "KaggleDatasetParams",
    "KaggleModel",
    "KaggleModelParams",
    "parse_uri",
]


@hookimpl
def tunewright_model_provider() -> type[ModelProvider]:
    return KaggleModelParams


@hookimpl
def tunewright_dataset_provider() -> type[DatasetProvider]:
    return KaggleDatasetParams
