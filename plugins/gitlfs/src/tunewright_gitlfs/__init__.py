"""Git LFS for Tunewright: `gitlfs+https://` and `gitlfs+ssh://` models and datasets."""

from __future__ import annotations

from tunewright import DatasetProvider, ModelProvider, hookimpl
from tunewright_gitlfs.sources import GitLFSDatasetParams, GitLFSModelParams
from tunewright_gitlfs.uri import GitSource, parse_uri

__all__ = ["GitLFSDatasetParams", "GitLFSModelParams", "GitSource", "parse_uri"]


@hookimpl
def tunewright_model_provider() -> type[ModelProvider]:
    return GitLFSModelParams


@hookimpl
def tunewright_dataset_provider() -> type[DatasetProvider]:
    return GitLFSDatasetParams
