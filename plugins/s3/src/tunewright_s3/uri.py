"""Parse and format `s3://bucket/prefix`. Keys are used as written, without percent-decoding, as in the AWS CLI."""

from __future__ import annotations

import re

from tunewright.providers import bad_uri, path_problem, split_uri

FORM = "s3://bucket/prefix"
_ARN = "s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/prefix"

# What names of buckets there are is for the store to say: old ones of Amazon have capital letters and underscores, and those of
# Ceph a tenant. Refused is what could lead elsewhere in a URL, or is a server.
_BUCKET = re.compile(r"[A-Za-z0-9](?:[\w-]|\.(?!\.)){0,254}(?::[A-Za-z0-9](?:[\w-]|\.(?!\.)){0,254})?", re.ASCII)
_SERVER = re.compile(r"\d+(?:\.\d+){3}(?::\d+)?|[^:]*:\d+|localhost")
_ACCESS_POINT = re.compile(
    r"(arn:[a-z-]+:s3[a-z-]*:[a-z0-9-]*:\d{12}:(?:outpost[/:][A-Za-z0-9-]+[/:])?accesspoint[/:][A-Za-z0-9][A-Za-z0-9.-]*)"
    r"(?:/(.*))?",
    re.DOTALL,
)


def parse_uri(uri: str, field: str = "uri") -> tuple[str, str]:
    """Return the bucket and the prefix; the prefix "" means the whole bucket.

    A prefix names the object with that key, or all objects below it as a folder; with a trailing `/`, only the latter. The bucket
    may be the ARN of an access point, or "tenant:bucket".

    Raises:
        RequestError: the bucket's name cannot be one, or the keys could not become files below one folder.
    """
    parts = split_uri(uri, scheme="s3", form=FORM, field=field)
    bucket, prefix = parts.authority, parts.path
    if bucket.startswith("arn:"):
        if not (point := _ACCESS_POINT.fullmatch(parts.rest)):
            raise bad_uri("is not the ARN of an access point", uri, field=field, form=f"{_ARN} or {FORM}")
        bucket, prefix = point[1], point[2] or ""
    elif _SERVER.fullmatch(bucket):
        raise bad_uri("names a server where the bucket belongs", uri, field=field, form=f"{FORM}, with endpoint_url")
    elif not _BUCKET.fullmatch(bucket) or (":" in bucket and "@" in prefix):  # rather KEY_ID:SECRET@bucket
        rules = "has no valid bucket name: letters, digits, hyphens, underscores and single dots"
        raise bad_uri(rules, uri, field=field, form=FORM)
    if problem := path_problem(prefix):
        raise bad_uri(problem, uri, field=field, form=FORM)
    return bucket, prefix


def format_uri(bucket: str, prefix: str = "") -> str:
    """Return the URI of a prefix: the inverse of `parse_uri`."""
    return f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
