"""The providers behind `az://`: their fields, validated before anything is created."""

# ruff: noqa: RUF009 - secret() makes an attrs field
from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import attrs

from tunewright import DatasetProvider, ModelProvider, RequestError, SecretRef, secret
from tunewright.providers import (
    FilePatterns,
    OutputTarget,
    Snapshot,
    SnapshotSource,
    Store,
    accept_keywords,
    check_exclusive,
    check_flag,
    check_http_url,
    renamed,
    uris_of,
)
from tunewright_az.uri import parse_uri

if TYPE_CHECKING:
    from tunewright_az.container import Container

_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")


def _check_account(instance: object, attribute: attrs.Attribute[str | None], value: str | None) -> None:
    if value is not None and not (isinstance(value, str) and _ACCOUNT.fullmatch(value)):
        field = f"{type(instance).__name__}.{attribute.name}"
        remedy = "Pass its name alone, as in https://NAME.blob.core.windows.net; another server is endpoint=."
        raise RequestError("is not the name of a storage account", field=field, value=value, remedy=remedy)


@attrs.frozen(kw_only=True, slots=False)  # without slots it can be mixed into providers, which have theirs
class AzureSource(FilePatterns, SnapshotSource):
    """Fields that the model and the dataset provider share.

    Without `account_key`, `sas_token` and `connection_string`, and unless `anonymous`, the container uses Azure's default credential:
    that of Workload Identity, of a managed identity, or of the variables AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET.

    Attributes:
        account: name of the storage account; by default that of AZURE_STORAGE_ACCOUNT, or of the connection string.
        account_key: one of the account's two access keys.
        sas_token: a shared access signature, with or without the leading `?`.
        connection_string: the account's connection string, which holds a key or a signature.
        anonymous: send no credential; for containers that are public.
        endpoint: URL of the account where that is not https://ACCOUNT.blob.core.windows.net: another cloud, a domain of your own, or
            Azurite: "http://localhost:10000/devstoreaccount1".
    """

    extra: ClassVar[str | None] = "fetch"

    account: str | None = attrs.field(default=None, validator=_check_account)
    account_key: str | SecretRef | None = secret(env="AZURE_STORAGE_KEY")
    sas_token: str | SecretRef | None = secret(env="AZURE_STORAGE_SAS_TOKEN")
    connection_string: str | SecretRef | None = secret(env="AZURE_STORAGE_CONNECTION_STRING")
    anonymous: bool = attrs.field(default=False, validator=check_flag)
    endpoint: str | None = attrs.field(default=None, validator=check_http_url)

    def __attrs_post_init__(self) -> None:
        """Refuse what the store would not accept."""
        for field, uri in uris_of(self):
            parse_uri(uri, field)
        check_exclusive(self, "anonymous", "account_key", "sas_token", "connection_string")
        self._check(
            "account_key", _is_key, "is not an access key of an account", "Pass one of the two keys, in base64."
        )
        self._check(
            "sas_token",
            lambda text: "sig=" in text and text.isascii() and text.isprintable() and " " not in text,
            "is not a shared access signature",
            "Pass the whole query, from sv= to the end, as `az storage container generate-sas` prints it.",
        )
        self._check(
            "connection_string",
            lambda text: any(part in text for part in ("AccountName=", "BlobEndpoint=")),
            "is not a connection string",
            "Pass it whole, as `az storage account show-connection-string` prints it.",
        )

    def _check(self, name: str, fits: Callable[[str], bool], problem: str, remedy: str) -> None:
        """Refuse a literal secret of another form, without showing it."""
        value = getattr(self, name)
        if isinstance(value, str) and not fits(value):
            raise RequestError(problem, field=f"{type(self).__name__}.{name}", remedy=remedy)

    def snapshot(self) -> Snapshot:
        """Return the blobs below `uri`; runs in the container. See `tunewright_az.container`."""
        from tunewright_az.snapshot import AzureSnapshot

        return AzureSnapshot(*self._open_container(), self.selects)

    def _open_container(self) -> tuple[Container, str]:
        """Return the container that `uri` names, and the prefix in it. In the pod, secrets are plain strings."""
        from tunewright_az.access import Access
        from tunewright_az.container import Container

        container, prefix = parse_uri(self.uri)
        return Container(container, Access(**{f.name: getattr(self, f.name) for f in attrs.fields(Access)})), prefix


def _is_key(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return False


@accept_keywords(renamed(model="uri"))
@attrs.frozen(kw_only=True)
class AzureModelParams(AzureSource, OutputTarget, ModelProvider):
    """A model's files below a prefix. `model=` is an alias of `uri=`."""

    def store(self) -> Store:
        """Return the store to write an `output=` to; runs in the container. See `tunewright_az.store`."""
        from tunewright_az.store import AzureStore

        return AzureStore(*self._open_container())


@accept_keywords(renamed(dataset="uri"))
@attrs.frozen(kw_only=True)
class AzureDatasetParams(AzureSource, DatasetProvider):
    """A dataset's files below a prefix. `dataset=` is an alias of `uri=`."""
