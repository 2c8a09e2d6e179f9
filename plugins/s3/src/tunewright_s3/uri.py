"""Parse and format `s3://bucket/prefix`. Keys are used as written, without percent-decoding, as in the AWS CLI."""

from __future__ import annotations

import re

from tunewright.providers import bad_uri, path_problem, split_uri

FORM = "s3://bucket/prefix"

# "Bucket naming rules" in Amazon S3's user guide.
_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]")
_IP_ADDRESS = re.compile(r"\d+(?:\.\d+){3}")


def parse_uri(uri: str, field: str = "uri") -> tuple[str, str]:
    """Return the bucket and the prefix; the prefix "" means the whole bucket.

    A prefix names the object with that key, or all objects below it as a folder; with a trailing `/`, only the latter.

    Raises:
        RequestError: the bucket's name breaks S3's rules, or the keys could not become files below one folder.
    """
    parts = split_uri(uri, scheme="s3", form=FORM, field=field)
    if not _BUCKET.fullmatch(parts.authority) or _IP_ADDRESS.fullmatch(parts.authority):
        rules = "has no valid bucket name: 3 to 63 lower-case letters, digits, hyphens and single dots"
        raise bad_uri(rules, uri, field=field, form=FORM)
    if problem := path_problem(parts.path):
        raise bad_uri(problem, uri, field=field, form=FORM)
    return parts.authority, parts.path


def format_uri(bucket: str, prefix: str = "") -> str:
    """Return the URI of a prefix: the inverse of `parse_uri`."""
    return f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
