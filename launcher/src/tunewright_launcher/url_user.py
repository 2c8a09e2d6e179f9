"""The user and password in a URL: shown to its server in a header, and to nobody else."""

from __future__ import annotations

import base64
from urllib.parse import SplitResult, unquote, urlsplit


def basic(header: str, url: SplitResult) -> dict[str, str]:
    """Return the header that shows the user of a URL; none if it names none."""
    if url.username is None:
        return {}
    user = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return {header: f"Basic {base64.b64encode(user.encode()).decode()}"}


def without_user(url: str) -> tuple[str, dict[str, str]]:
    """Return a URL without its user, and the header that shows the user, as all clients do."""
    parts = urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else url
    return bare, basic("Authorization", parts)
