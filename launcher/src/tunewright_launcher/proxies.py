"""Which proxy the environment names for a server."""

from __future__ import annotations

import urllib.request
from urllib.parse import SplitResult, urlsplit

from tunewright.errors import ExitCode, FetchError


def proxy_for(parts: SplitResult, proxies: dict[str, str]) -> SplitResult | None:
    """Return the proxy for a server; None for a direct connection.

    Args:
        parts: of the server's URL.
        proxies: as `urllib.request.getproxies_environment` returns them.

    Raises:
        FetchError: USAGE: the variable does not have the URL of an HTTP proxy.
    """
    url = proxies.get(parts.scheme) or proxies.get("all")
    if not url or urllib.request.proxy_bypass_environment(parts.netloc, proxies):  # type: ignore[attr-defined]
        return None
    return _proxy_at(url if "://" in url else f"http://{url}", parts.scheme)


def _proxy_at(url: str, scheme: str) -> SplitResult:
    """Return the parts of a proxy's URL.

    Raises:
        FetchError: USAGE: it is not the URL of an HTTP proxy.
    """
    try:
        proxy = urlsplit(url)
        usable = proxy.scheme in ("http", "https") and bool(proxy.hostname) and proxy.port != 0
    except ValueError:  # not a port
        usable = False
    if not usable:
        cause = f"The variable {scheme}_proxy or all_proxy does not have the URL of an HTTP proxy."
        raise FetchError(cause, remedy=f"Write it as {scheme}_proxy=http://HOST:PORT.", code=ExitCode.USAGE)
    return proxy
