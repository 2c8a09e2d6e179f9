"""The providers of `kaggle://`."""

# ruff: noqa: RUF009 - secret() makes an attrs field
from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import attrs

from tunewright import DatasetProvider, ModelProvider, SecretRef, secret
from tunewright.providers import SourceProvider, accept_keywords, renamed
from tunewright.uris import FilePatterns, check_exclusive, check_together, not_in_this_release, uris_of
from tunewright_kaggle.uri import parse_dataset, parse_model


@attrs.frozen(kw_only=True, slots=False)  # without slots it can be mixed into providers, which have theirs
class KaggleSource(FilePatterns, SourceProvider):
    """What the model and the dataset provider share. Give `api_token`, or `username` and `key` of a kaggle.json.

    Attributes:
        api_token: Kaggle's newer credential, a token by itself.
        username: with `key`, the older one.
        key: see `username`.
    """

    extra: ClassVar[str | None] = "fetch"

    api_token: str | SecretRef | None = secret(env="KAGGLE_API_TOKEN")
    username: str | SecretRef | None = secret(env="KAGGLE_USERNAME")
    key: str | SecretRef | None = secret(env="KAGGLE_KEY")

    def __attrs_post_init__(self) -> None:
        """Refuse URIs of the other kind, and half a credential or two."""
        for field, uri in uris_of(self):
            self._parse(uri, field)
        check_together(self, "username", "key")
        check_exclusive(self, "api_token", "key")

    def _parse(self, uri: str, field: str) -> object:
        raise NotImplementedError


@accept_keywords(renamed(model="uri"))
@attrs.frozen(kw_only=True)
class KaggleModelParams(KaggleSource, ModelProvider):
    """A variation of a model. `model=` is taken for `uri=`."""

    def _parse(self, uri: str, field: str) -> object:
        return parse_model(uri, field)

    def download_model(self, target: Path) -> None:  # noqa: ARG002 - the base's signature
        """Comes with a later release."""
        raise not_in_this_release(self.uri)


@accept_keywords(renamed(dataset="uri"))
@attrs.frozen(kw_only=True)
class KaggleDatasetParams(KaggleSource, DatasetProvider):
    """A dataset, or the data of a competition. `dataset=` is taken for `uri=`."""

    def _parse(self, uri: str, field: str) -> object:
        return parse_dataset(uri, field)

    def download_dataset(self, target: Path) -> None:  # noqa: ARG002 - the base's signature
        """Comes with a later release."""
        raise not_in_this_release(self.uri)
