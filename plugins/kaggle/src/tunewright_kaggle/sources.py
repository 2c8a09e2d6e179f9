"""The providers behind `kaggle://`."""

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
    """Fields that the model and the dataset provider share. Give `api_token`, or `username` and `key` from a kaggle.json.

    Attributes:
        api_token: API token, Kaggle's newer kind of credential.
        username: user name of the older kind of credential; needs `key`.
        key: API key of the older kind; needs `username`.
    """

    extra: ClassVar[str | None] = "fetch"

    api_token: str | SecretRef | None = secret(env="KAGGLE_API_TOKEN")
    username: str | SecretRef | None = secret(env="KAGGLE_USERNAME")
    key: str | SecretRef | None = secret(env="KAGGLE_KEY")

    def __attrs_post_init__(self) -> None:
        """Refuse URIs of the other kind, incomplete credentials, and two credentials."""
        for field, uri in uris_of(self):
            self._parse(uri, field)
        check_together(self, "username", "key")
        check_exclusive(self, "api_token", "key")

    def snapshot(self) -> Snapshot:
        """Return the files that `uri` names; runs in the container. See `tunewright_kaggle.snapshot`."""
        from tunewright_kaggle.api import Account
        from tunewright_kaggle.snapshot import KaggleSnapshot

        account = Account(api_token=_text(self.api_token), username=_text(self.username), key=_text(self.key))
        return KaggleSnapshot(self._parse(self.uri, "uri"), account, self.selects)

    @abstractmethod
    def _parse(self, uri: str, field: str) -> KaggleHandle: ...


@accept_keywords(renamed(model="uri"))
@attrs.frozen(kw_only=True)
class KaggleModelParams(KaggleSource, ModelProvider):
    """A variation of a model. `model=` is an alias of `uri=`."""

    def _parse(self, uri: str, field: str) -> KaggleHandle:
        return parse_model(uri, field)


@accept_keywords(renamed(dataset="uri"))
@attrs.frozen(kw_only=True)
class KaggleDatasetParams(KaggleSource, DatasetProvider):
    """A dataset, or the data of a competition. `dataset=` is an alias of `uri=`."""

    def _parse(self, uri: str, field: str) -> KaggleHandle:
        return parse_dataset(uri, field)


def _text(secret: str | SecretRef | None) -> str | None:
    """Return a secret in the container, where secrets are plain strings."""
    return secret if isinstance(secret, str) else None
