"""A fake of depot's service: files in memory, for whoever has the token."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

TOKEN = "the-right-token"


class Service(BaseHTTPRequestHandler):
    """Lists, reads with ranges, writes and deletes files."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]

    def do_GET(self) -> None:
        path, _, query = unquote(self.path).lstrip("/").partition("?")
        found = {name.removeprefix(path): data for name, data in self.files.items() if name.startswith(path)}
        if query == "list" and found:
            listing = [{"path": n, "size": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in found.items()]
            self._answer(200, json.dumps(listing).encode())
        elif path in self.files:
            self._answer(200, self.files[path])
        else:
            self._answer(404)

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        whole = self.headers["Content-SHA256"] == hashlib.sha256(data).hexdigest()
        if whole and self._is_granted():
            self.files[unquote(self.path).lstrip("/")] = data
        self._answer(201 if whole else 422)

    def do_DELETE(self) -> None:
        if self._is_granted():
            self.files.pop(unquote(self.path).lstrip("/"), None)
        self._answer(204)

    def _is_granted(self) -> bool:
        return self.headers["Authorization"] == f"Bearer {TOKEN}"

    def _answer(self, status: int, body: bytes = b"") -> None:
        """Answer, or refuse whoever does not have the token."""
        status, body = (status, body) if self._is_granted() else (401, b"")
        wanted = self.headers["Range"]
        if wanted and status == 200:
            first, last = wanted.removeprefix("bytes=").split("-")
            part = body[int(first) : int(last) + 1 if last else None]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(body)}")
            body = part
        else:
            self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


@contextlib.contextmanager
def running(files: dict[str, bytes]) -> Iterator[str]:
    """Serve files that can be changed; yield the address."""
    handler = type("Handler", (Service,), {"files": files})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
