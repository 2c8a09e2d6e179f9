"""The providers of `kaggle://`."""

# ruff: noqa: RUF009 - secret() makes an attrs field
from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import attrs

from tunewright import DatasetProvider, ModelProvider, SecretRef, secret
from tunewright.providers import (
    FilePatterns,
    Snapshot,
    SnapshotSource,
    accept_keywords,
    check_exclusive,
    check_together,
    renamed,
    uris_of,
)
from tunewright_kaggle.uri import KaggleHandle, parse_dataset, parse_model


@attrs.frozen(kw_only=True, slots=False)  # without slots it can be mixed into providers, which have theirs
class KaggleSource(FilePatterns, SnapshotSource):
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

    def snapshot(self) -> Snapshot:
        """See `tunewright_kaggle.snapshot`."""
        from tunewright_kaggle.api import Account
        from tunewright_kaggle.snapshot import KaggleSnapshot

        account = Account(api_token=_text(self.api_token), username=_text(self.username), key=_text(self.key))
        return KaggleSnapshot(self._parse(self.uri, "uri"), account, self.selects)

    @abstractmethod
    def _parse(self, uri: str, field: str) -> KaggleHandle: ...


@accept_keywords(renamed(model="uri"))
@attrs.frozen(kw_only=True)
class KaggleModelParams(KaggleSource, ModelProvider):
    """A variation of a model. `model=` is taken for `uri=`."""

    def _parse(self, uri: str, field: str) -> KaggleHandle:
        return parse_model(uri, field)


@accept_keywords(renamed(dataset="uri"))
@attrs.frozen(kw_only=True)
class KaggleDatasetParams(KaggleSource, DatasetProvider):
    """A dataset, or the data of a competition. `dataset=` is taken for `uri=`."""

    def _parse(self, uri: str, field: str) -> KaggleHandle:
        return parse_dataset(uri, field)


def _text(secret: str | SecretRef | None) -> str | None:
    """A secret in the container, where each has become text."""
    return secret if isinstance(secret, str) else None
