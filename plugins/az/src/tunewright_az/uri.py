"""Parse and format `az://container/prefix`. Names of blobs are used as written, without percent-decoding, as in the Azure CLI."""

from __future__ import annotations

import re

from tunewright.providers import bad_uri, path_problem, split_uri

FORM = "az://container/prefix"
_CONTAINER = re.compile(r"[a-z0-9](?:[a-z0-9]|-(?!-)){1,61}[a-z0-9]|\$root|\$web")


def parse_uri(uri: str, field: str = "uri") -> tuple[str, str]:
    """Return the container and the prefix; the prefix "" means the whole container.

    A prefix names the blob with that name, or all blobs below it as a folder; with a trailing `/`, only the latter.

    Raises:
        RequestError: the container's name cannot be one, or the blobs could not become files below one folder.
    """
    parts = split_uri(uri, scheme="az", form=FORM, field=field)
    container, prefix = parts.authority, parts.path
    if ".blob." in container:
        form = f"{FORM}, with account="
        raise bad_uri("names a server where the container belongs", uri, field=field, form=form)
    if not _CONTAINER.fullmatch(container):
        rules = "has no valid container name: 3 to 63 lowercase letters, digits and single hyphens"
        raise bad_uri(rules, uri, field=field, form=FORM)
    if problem := path_problem(prefix):
        raise bad_uri(problem, uri, field=field, form=FORM)
    return container, prefix


def format_uri(container: str, prefix: str = "") -> str:
    """Return the URI of a prefix: the inverse of `parse_uri`."""
    return f"az://{container}/{prefix}" if prefix else f"az://{container}"
