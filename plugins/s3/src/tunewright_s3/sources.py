"""The providers behind `s3://`: their fields, validated before anything is created."""

# ruff: noqa: RUF009 - secret() makes an attrs field
from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

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
    check_together,
    one_of,
    renamed,
    uris_of,
)
from tunewright_s3.uri import format_uri, parse_uri

if TYPE_CHECKING:
    from tunewright_s3.bucket import Bucket

# Of KEP-2003 and of kubeflow-training 1.9.
_SPELLINGS = ("region_name", "access_key", "secret_key", "bucket_name", "file_key", "access_token")

_REGION_IN_HOST = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d+")


def _other_spellings(slot: str) -> Callable[[dict[str, object]], dict[str, object]]:
    """Return a rewrite for the keywords of KEP-2003 and of kubeflow-training 1.9."""
    rename = renamed(
        **{slot: "uri"},
        region_name="region",
        access_key="access_key_id",
        secret_key="secret_access_key",  # noqa: S106 - a field's name
    )

    def rewrite(keywords: dict[str, object]) -> dict[str, object]:
        return _split_access_token(_join_bucket(rename(keywords)))

    return rewrite


def _join_bucket(keywords: dict[str, object]) -> dict[str, object]:
    """Join `bucket_name` and `file_key`, as in 1.9, to the URI."""
    others = {k: v for k, v in keywords.items() if k not in ("bucket_name", "file_key")}
    if len(others) == len(keywords):
        return keywords
    if "uri" in others or "bucket_name" not in keywords:
        problem = "means the same as uri, and both are given" if "uri" in others else "is missing"
        raise RequestError(problem, field="bucket_name", remedy='Give only uri="s3://bucket/prefix".')
    uri = format_uri(str(keywords["bucket_name"]), str(keywords.get("file_key") or "").lstrip("/"))
    return {"uri": uri, **others}


def _split_access_token(keywords: dict[str, object]) -> dict[str, object]:
    """Split the KEP's `access_token`, which is a whole credential: "KEY_ID:SECRET[:SESSION]"."""
    others = dict(keywords)
    token = others.pop("access_token", None)
    if token is None:
        return others
    parts = _token_parts(token)
    if clash := [name for name in parts if others.get(name) is not None]:
        raise RequestError(f"is given together with {clash[0]}", field="access_token", remedy="Give only one of them.")
    return {**others, **parts}


def _token_parts(token: object) -> dict[str, str]:
    names = ("access_key_id", "secret_access_key", "session_token")
    if isinstance(token, SecretRef):
        raise RequestError(
            "is one key of a Secret, but S3 needs the parts of the credential separately",
            field="access_token",
            remedy="Give access_key_id=SecretRef(…) and secret_access_key=SecretRef(…), with session_token=SecretRef(…) if there is one.",
        )
    parts = token.split(":") if isinstance(token, str) else []
    if len(parts) not in (2, 3) or not all(parts) or any(part != part.strip() for part in parts):
        # The value is not shown: it may be a real key with a typo.
        raise RequestError(
            "is not of the form KEY_ID:SECRET or KEY_ID:SECRET:SESSION",
            field="access_token",
            remedy='Write access_token="KEY_ID:SECRET", or give access_key_id= and secret_access_key=.',
        )
    return dict(zip(names, parts, strict=False))


@attrs.frozen(kw_only=True, slots=False)  # without slots it can be mixed into providers, which have theirs
class S3Source(FilePatterns, SnapshotSource):
    """Fields that the model and the dataset provider share, named as in boto3 and the AWS CLI.

    Without keys, and unless `anonymous`, the container uses the credential of its cluster: IRSA or Pod Identity.

    Attributes:
        access_key_id: access key ID; needs `secret_access_key`.
        secret_access_key: secret access key; needs `access_key_id`.
        session_token: session token of a temporary credential.
        region: the bucket's region.
        endpoint_url: URL of a store other than Amazon's: "https://minio.example:9000".
        addressing_style: where the bucket's name goes in URLs: "path", "virtual" (in the host name), or "auto".
        anonymous: send no credential; for public buckets.
        request_payer: "requester" to pay for the requests and the bytes, where the bucket's owner lets whoever asks pay.
        version_id: version of the one object that `uri` names, in a bucket with versioning.
    """

    extra: ClassVar[str | None] = "fetch"

    access_key_id: str | SecretRef | None = secret(env="AWS_ACCESS_KEY_ID")
    secret_access_key: str | SecretRef | None = secret(env="AWS_SECRET_ACCESS_KEY")
    session_token: str | SecretRef | None = secret(env="AWS_SESSION_TOKEN")
    region: str | None = attrs.field(default=None, validator=check_text)
    endpoint_url: str | None = attrs.field(default=None, validator=check_http_url)
    addressing_style: str = attrs.field(default="auto", validator=one_of("auto", "path", "virtual"))
    anonymous: bool = attrs.field(default=False, validator=check_flag)
    request_payer: str | None = attrs.field(default=None, validator=attrs.validators.optional(one_of("requester")))
    version_id: str | None = attrs.field(default=None, validator=check_text)

    def __attrs_post_init__(self) -> None:
        """Refuse what no store would accept."""
        for field, uri in uris_of(self):
            parse_uri(uri, field)
        check_together(self, "access_key_id", "secret_access_key")
        if self.session_token is not None:
            check_together(self, "session_token", "access_key_id")
        check_exclusive(self, "anonymous", "access_key_id")
        self._check_region()
        self._check_version()

    def snapshot(self) -> Snapshot:
        """Return the objects below `uri`; runs in the container. See `tunewright_s3.snapshot`."""
        from tunewright_s3.snapshot import S3Snapshot

        bucket, prefix = self._open_bucket()
        return S3Snapshot(bucket, prefix, self.selects, self.version_id)

    def _open_bucket(self) -> tuple[Bucket, str]:
        """Return the bucket that `uri` names, and the prefix in it. In the container, secrets are plain strings."""
        from tunewright_s3.access import Access
        from tunewright_s3.bucket import Bucket

        bucket, prefix = parse_uri(self.uri)
        return Bucket(bucket, Access(**{f.name: getattr(self, f.name) for f in attrs.fields(Access)})), prefix

    def _check_region(self) -> None:
        """Refuse a region that contradicts endpoint_url: a request signed for another region fails with a misleading error."""
        host = urlsplit(self.endpoint_url or "").hostname or ""
        regions = _REGION_IN_HOST.findall(host) if ".amazonaws.com" in host else []
        if self.region is not None and regions and self.region not in regions:
            remedy = f"Give region={regions[0]!r}, or leave endpoint_url out: the region selects Amazon's server."
            field = f"{type(self).__name__}.region"
            raise RequestError(
                f"differs from the region in endpoint_url, {host}", field=field, value=self.region, remedy=remedy
            )

    def _check_version(self) -> None:
        _, key = parse_uri(self.uri)
        if self.version_id is not None and (not key or key.endswith("/") or len(uris_of(self)) > 1):
            problem = "belongs to one object, but the URIs name more"
            remedy = "Give the object's whole key, and pass eval_dataset= to train() as a provider of its own."
            raise RequestError(problem, field=f"{type(self).__name__}.version_id", value=self.version_id, remedy=remedy)


@accept_keywords(_other_spellings("model"), spellings=("model", *_SPELLINGS))
@attrs.frozen(kw_only=True)
class S3ModelParams(S3Source, OutputTarget, ModelProvider):
    """A model's files below a prefix. `model=` is an alias of `uri=`; `access_token="KEY_ID:SECRET[:SESSION]"` works, too."""

    def store(self) -> Store:
        """Return the store to write an `output=` to; runs in the container. See `tunewright_s3.store`."""
        from tunewright_s3.store import S3Store

        return S3Store(*self._open_bucket())


@accept_keywords(_other_spellings("dataset"), spellings=("dataset", *_SPELLINGS))
@attrs.frozen(kw_only=True)
class S3DatasetParams(S3Source, DatasetProvider):
    """A dataset's files below a prefix. `dataset=` is an alias of `uri=`; `access_token="KEY_ID:SECRET[:SESSION]"` works, too."""
