"""The server of the live page: loopback only, read-only, and with a token for everything that is about a job.

Who else could ask it something, and what stops them:

- Pages of other sites in the user's browser: they do not know the token; no answer allows another origin; `Origin` and
  `Sec-Fetch-Site` of another site are refused.
- A site whose name is made to point to this machine (DNS rebinding): `Host` must be a loopback name with the right port.
- Other users of the machine: they get the page's own files, and nothing about a job, without the token. It follows the # of
  the address, which browsers do not send, and is in no command line and no log.
- Texts of jobs: they reach the page as JSON, which its script makes text nodes of; the policy allows no other script.
"""

from __future__ import annotations

import hmac
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from tunewright._page import assets
from tunewright._page.feed import Feeds, NextCommands
from tunewright._page.frozen import as_json
from tunewright._page.overview import rows
from tunewright.backends.base import Backend
from tunewright.errors import JobError, TunewrightError
from tunewright.events import Json

LOOPBACK = "127.0.0.1"
_NAMES = (LOOPBACK, "localhost", "[::1]")
_MOST_REQUESTS = 64  # at the same time
_JOB_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,250}[a-z0-9])?")
_TYPES = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_INDEX = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Jobs · Tunewright</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/assets/page.css">
</head>
<body>
<main id="page"></main>
<noscript>This page needs JavaScript. On the command line: tunewright list</noscript>
<script type="module" src="/assets/live.js"></script>
</body>
</html>
"""


class Refusal(Exception):  # noqa: N818 - it is an answer
    """A request that is not answered with what it asks for."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


class PageServer(ThreadingHTTPServer):
    """Serves the live page of the jobs of some backends, on this machine's loopback interface.

    Args:
        backends: the backends, by name.
        port: the port; 0 for any that is free.
        next_commands: see `NextCommands`; by default none are shown.

    Raises:
        OSError: the port is taken.
    """

    daemon_threads = True

    def __init__(
        self, backends: Mapping[str, Backend], port: int = 0, next_commands: NextCommands = lambda *_: ()
    ) -> None:
        self.backends = dict(backends)
        self.token = secrets.token_urlsafe(32)
        self.feeds = Feeds(next_commands)
        self._free = threading.BoundedSemaphore(_MOST_REQUESTS)
        super().__init__((LOOPBACK, port), _Handler)

    @property
    def origin(self) -> str:
        """The address without the token."""
        return f"http://{LOOPBACK}:{self.server_port}"

    @property
    def address(self) -> str:
        """The address to open; whoever has it can read all jobs."""
        return f"{self.origin}/#token={self.token}"

    def process_request_thread(self, request: object, client_address: object) -> None:
        """Answer requests, so many at the same time."""
        with self._free:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: a browser that closes a connection is no news."""

    def jobs(self) -> dict[str, Json]:
        """Return the rows of all jobs, and what went wrong with a backend."""
        found: list[dict[str, Json]] = []
        problems: list[Json] = []
        for name, backend in self.backends.items():
            try:
                found += [row.to_dict() for row in rows(backend, backend.list(), name)]
            except TunewrightError as error:
                problems.append(f"{name}: {error}")
        found.sort(key=lambda row: str(row["created"] or ""), reverse=True)
        return {"jobs": list(found), "problems": problems}

    def job(self, backend_name: str, name: str, log_from: int | None) -> dict[str, Json]:
        """Return the document of a job.

        Raises:
            Refusal: there is no such backend or job, or it cannot be read.
        """
        backend = self.backends.get(backend_name)
        if backend is None or not _JOB_NAME.fullmatch(name):
            raise Refusal(HTTPStatus.NOT_FOUND, "There is no such job.")
        try:
            document = self.feeds.of(backend_name, backend, name).document(log_from)
        except JobError as error:
            raise Refusal(HTTPStatus.NOT_FOUND, str(error)) from error
        except TunewrightError as error:
            raise Refusal(HTTPStatus.BAD_GATEWAY, str(error)) from error
        return {**document, "backend": backend_name}


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    server_version = "Tunewright"
    sys_version = ""
    timeout = 30
    allowed: ClassVar[str] = "GET, HEAD"

    def do_GET(self) -> None:
        """Answer a GET or HEAD."""
        try:
            self._check_sender()
            kind, body = self._answer()
        except Refusal as refusal:
            self._refuse(refusal.status, str(refusal))
        except Exception as error:  # whatever a backend raises: the page says so, and goes on asking
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"The server failed ({type(error).__name__}).")
        else:
            self._send(HTTPStatus.OK, kind, body)

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def _no_method(self) -> None:
        self.close_connection = True  # what may follow as a body is not read
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "This page only reads.")

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _no_method  # noqa: N815

    def _check_sender(self) -> None:
        """Refuse what no page of this server, and nobody at this machine's keyboard, would send."""
        port = self.server.server_port
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0].lower() not in {f"{name}:{port}" for name in _NAMES}:
            remedy = f"Open {self.server.origin}. From another machine: ssh -L {port}:{LOOPBACK}:{port} HOST"
            raise Refusal(HTTPStatus.FORBIDDEN, f"This server answers only under its own address. {remedy}")
        origins = self.headers.get_all("Origin") or []
        if any(origin not in {f"http://{name}:{port}" for name in _NAMES} for origin in origins):
            raise Refusal(HTTPStatus.FORBIDDEN, "Other pages may not ask this server.")
        site, mode = self.headers.get("Sec-Fetch-Site", "none"), self.headers.get("Sec-Fetch-Mode", "")
        if site not in ("none", "same-origin") and mode != "navigate":
            raise Refusal(HTTPStatus.FORBIDDEN, "Other pages may not ask this server.")

    def _answer(self) -> tuple[str, str]:
        """Return type and text of what is asked for.

        Raises:
            Refusal: there is no such thing, or it needs the token.
        """
        try:
            url = urlsplit(self.path)
        except ValueError as error:  # an incomplete IPv6 address
            raise Refusal(HTTPStatus.NOT_FOUND, "There is no such page.") from error
        if url.path == "/":
            return "text/html; charset=utf-8", _INDEX
        folder, _, name = url.path.removeprefix("/").partition("/")
        if folder == "assets" and name in assets.FILES:
            return _TYPES[name.rpartition(".")[2]], assets.text(name)
        if folder == "api":
            self._check_token()
            return "application/json", as_json(self._data([unquote(part) for part in name.split("/")], url.query))
        raise Refusal(HTTPStatus.NOT_FOUND, "There is no such page.")

    def _check_token(self) -> None:
        scheme, _, given = (self.headers.get("Authorization") or "").partition(" ")
        # Bytes, as compare_digest refuses text that is not ASCII.
        if scheme != "Bearer" or not hmac.compare_digest(
            given.strip().encode("utf-8", "replace"), self.server.token.encode()
        ):
            problem = "Open the whole address that `tunewright ui` printed, with its token: each start has a new one."
            raise Refusal(HTTPStatus.UNAUTHORIZED, problem)

    def _data(self, parts: list[str], query: str) -> dict[str, Json]:
        match parts:
            case ["jobs"]:
                return self.server.jobs()
            case ["jobs", backend, name]:
                start = parse_qs(query).get("log", [""])[0]
                return self.server.job(backend, name, int(start) if re.fullmatch("[0-9]{1,12}", start) else None)
        raise Refusal(HTTPStatus.NOT_FOUND, "There is no such page.")

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self._send(status, "application/json", as_json({"error": text}))

    def _send(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode("utf-8", "replace")
        self.send_response(status)
        more = {"Allow": self.allowed} if status is HTTPStatus.METHOD_NOT_ALLOWED else {}
        for header, value in {"Content-Type": kind, "Content-Length": str(len(body)), **_HEADERS, **more}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what http.server itself refuses, with the same headers and without its own page."""
        self.close_connection = True
        self._refuse(HTTPStatus(code), message or explain or HTTPStatus(code).phrase)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


def serve(server: PageServer, started: Callable[[], None]) -> None:
    """Serve until Ctrl-C; `started` is called once the server listens."""
    with server:
        started()
        server.serve_forever(poll_interval=0.2)
