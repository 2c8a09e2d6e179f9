"""The providers behind `gs://`: their fields, validated before anything is created."""

# ruff: noqa: RUF009 - secret() makes an attrs field
from __future__ import annotations

import json
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
    check_text,
    renamed,
    uris_of,
)
from tunewright_gs.uri import parse_uri

if TYPE_CHECKING:
    from tunewright_gs.bucket import Bucket


def _other_spellings(slot: str) -> Callable[[dict[str, object]], dict[str, object]]:
    rename = renamed(**{slot: "uri"})

    def rewrite(keywords: dict[str, object]) -> dict[str, object]:
        given = rename(keywords)
        key = given.get("service_account_key")
        # A key file may end with a line break, which a secret must not have.
        return {**given, "service_account_key": key.strip()} if isinstance(key, str) else given

    return rewrite


@attrs.frozen(kw_only=True, slots=False)  # without slots it can be mixed into providers, which have theirs
class GSSource(FilePatterns, SnapshotSource):
    """Fields that the model and the dataset provider share.

    Without `service_account_key` and `access_token`, and unless `anonymous`, the container uses Google's default credentials: those
    of Workload Identity, of the node, or of the file that GOOGLE_APPLICATION_CREDENTIALS names.

    Attributes:
        service_account_key: the text of a service account's key file, which is JSON.
        access_token: an OAuth access token, as `gcloud auth print-access-token` prints it. It is valid for an hour.
        anonymous: send no credential; for public buckets.
        user_project: the project that is billed, where the bucket's owner lets whoever asks pay.
        endpoint: URL of another server with this API, such as an emulator: "http://localhost:4443".
    """

    extra: ClassVar[str | None] = "fetch"

    service_account_key: str | SecretRef | None = secret(env="GOOGLE_SERVICE_ACCOUNT_KEY")
    access_token: str | SecretRef | None = secret(env="GOOGLE_OAUTH_ACCESS_TOKEN")
    anonymous: bool = attrs.field(default=False, validator=check_flag)
    user_project: str | None = attrs.field(default=None, validator=check_text)
    endpoint: str | None = attrs.field(default=None, validator=check_http_url)

    def __attrs_post_init__(self) -> None:
        """Refuse what the store would not accept."""
        for field, uri in uris_of(self):
            parse_uri(uri, field)
        check_exclusive(self, "anonymous", "service_account_key", "access_token")
        if isinstance(self.service_account_key, str) and not _is_key(self.service_account_key):
            remedy = "Pass the text of the JSON file that `gcloud iam service-accounts keys create` writes, and not its path."
            field = f"{type(self).__name__}.service_account_key"
            raise RequestError("is not the key of a service account", field=field, remedy=remedy)

    def snapshot(self) -> Snapshot:
        """Return the objects below `uri`; runs in the container. See `tunewright_gs.bucket`."""
        from tunewright_gs.snapshot import GSSnapshot

        return GSSnapshot(*self._open_bucket(), self.selects)

    def _open_bucket(self) -> tuple[Bucket, str]:
        """Return the bucket that `uri` names, and the prefix in it. In the container, secrets are plain strings."""
        from tunewright_gs.bucket import Access, Bucket

        bucket, prefix = parse_uri(self.uri)
        return Bucket(bucket, Access(**{f.name: getattr(self, f.name) for f in attrs.fields(Access)})), prefix


def _is_key(text: str) -> bool:
    try:
        return bool(json.loads(text)["type"] == "service_account")
    except (ValueError, KeyError, TypeError):
        return False


@accept_keywords(_other_spellings("model"))
@attrs.frozen(kw_only=True)
class GSModelParams(GSSource, OutputTarget, ModelProvider):
    """A model's files below a prefix. `model=` is an alias of `uri=`."""

    def store(self) -> Store:
        """Return the store to write an `output=` to; runs in the container. See `tunewright_gs.store`."""
        from tunewright_gs.store import GSStore

        return GSStore(*self._open_bucket())


@accept_keywords(_other_spellings("dataset"))
@attrs.frozen(kw_only=True)
class GSDatasetParams(GSSource, DatasetProvider):
    """A dataset's files below a prefix. `dataset=` is an alias of `uri=`."""
