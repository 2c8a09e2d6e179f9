"""Parse and format `gs://bucket/prefix`. Names of objects are used as written, without percent-decoding, as in gcloud."""

from __future__ import annotations

import re

from tunewright.providers import bad_uri, path_problem, split_uri

FORM = "gs://bucket/prefix"
# "Bucket naming guidelines" of Cloud Storage; which of them exist is for the store to say.
_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9_-]|\.(?!\.)){1,220}[a-z0-9]")


def parse_uri(uri: str, field: str = "uri") -> tuple[str, str]:
    """Return the bucket and the prefix; the prefix "" means the whole bucket.

    A prefix names the object with that name, or all objects below it as a folder; with a trailing `/`, only the latter.

    Raises:
        RequestError: the bucket's name cannot be one, or the objects could not become files below one folder.
    """
    parts = split_uri(uri, scheme="gs", form=FORM, field=field)
    bucket, prefix = parts.authority, parts.path
    if not _BUCKET.fullmatch(bucket):
        rules = "has no valid bucket name: lowercase letters, digits, hyphens, underscores and single dots"
        raise bad_uri(rules, uri, field=field, form=FORM)
    if problem := path_problem(prefix):
        raise bad_uri(problem, uri, field=field, form=FORM)
    return bucket, prefix


def format_uri(bucket: str, prefix: str = "") -> str:
    """Return the URI of a prefix: the inverse of `parse_uri`."""
    return f"gs://{bucket}/{prefix}" if prefix else f"gs://{bucket}"
