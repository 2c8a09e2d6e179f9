"""A persistent HTTP/1.1 connection.

It is the standard library's client, except for two slow parts that dominate a request for a small file: the validation of each
request header, and the e-mail parser for response headers. With 1,000 files of 100 KB they took a third of the CPU time.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

_LONGEST_LINE = 64 << 10
_MOST_HEADERS = 200
_HTTP_1_0 = 10
_INVITATION = 1.0  # seconds in which a server may refuse a body; it need not say that it wants it
_STATUS = re.compile(rb"HTTP/1\.(\d) (\d{3})(.*)\r?\n")
# A request target has no spaces, control characters or non-ASCII characters. They are percent-encoded, as browsers do.
_TARGET = re.compile(r"[!-~]+")
_ALLOWED = "".join(map(chr, range(ord("!"), ord("~") + 1)))


class Headers(http.client.HTTPMessage):
    """The headers of a response, in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[str, list[str]] = {}

    @classmethod
    def read(cls, stream: BinaryIO) -> Headers:
        """Read headers up to the empty line at their end.

        Raises:
            http.client.HTTPException: they are malformed, cut off, or too many.
        """
        headers = cls()
        for _ in range(_MOST_HEADERS):
            line = stream.readline(_LONGEST_LINE)
            if line in {b"\r\n", b"\n"}:
                return headers
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not line.endswith(b"\n"):
                raise http.client.HTTPException("the headers of the response are cut off")
            headers.add_header(name, value.strip())
        raise http.client.HTTPException(f"the response has more than {_MOST_HEADERS} headers")

    def add_header(self, name: str, value: str, /, **_: object) -> None:  # type: ignore[override] # no parameters
        """Add a header."""
        self.set_raw(name, value)
        self._values.setdefault(name.lower(), []).append(value)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def get(self, name: str, failobj: Any = None) -> Any:
        """Return the first header of that name."""
        found = self._values.get(name.lower())
        return found[0] if found else failobj

    def get_all(self, name: str, failobj: Any = None) -> Any:
        """Return all headers of that name."""
        return self._values.get(name.lower(), failobj)


class Response(http.client.HTTPResponse):
    """A response."""

    def __init__(self, sock: socket.socket, method: str) -> None:
        super().__init__(sock, method=method)
        self._is_head = method == "HEAD"

    def begin(self) -> None:
        """Read the status and the headers as the base class does, but with our own parser for headers.

        Raises:
            http.client.HTTPException: this is not HTTP.
        """
        while self.invites():
            pass

    def invites(self) -> bool:
        """Read the next status and its headers; return whether it only invites to send the body. Raises as `begin`."""
        self._read_status_line()
        self.headers = self.msg = Headers.read(self.fp)
        if self.status == HTTPStatus.CONTINUE:
            return True
        self.chunked = (self.headers.get("Transfer-Encoding") or "").lower() == "chunked"
        self.chunk_left = None
        self.length = self._length()
        kept = (self.headers.get("Connection") or ("" if self.version > _HTTP_1_0 else "close")).lower()
        self.will_close = "close" in kept or (self.length is None and not self.chunked)
        return False

    def _read_status_line(self) -> None:
        line = self.fp.readline(_LONGEST_LINE)
        if not line:
            raise http.client.RemoteDisconnected("the server closed the connection without a response")
        match = _STATUS.fullmatch(line)
        if match is None:
            raise http.client.BadStatusLine("the response is not HTTP/1.1")
        self.version, self.status = 10 + int(match[1]), int(match[2])
        self.reason = match[3].decode("latin-1").strip()

    def _length(self) -> int | None:
        if self._is_head or self.status in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}:
            return 0
        length = self.headers.get("Content-Length", "")
        return int(length) if length.isdecimal() and not self.chunked else None

    def readinto1(self, buffer: Buffer, /) -> int:
        """Read into the buffer as much as one read of the socket returns."""
        view = memoryview(buffer)
        if self.isclosed() or self.chunked or self.length is None:
            data = self.read1(len(view))
            view[: len(data)] = data
            return len(data)
        count = self.fp.readinto1(view[: self.length])
        self.length -= count
        if not self.length:
            self.read()  # returns nothing, but frees the connection
        return count


class Connection:
    """A connection that is opened on first use, and kept open.

    Args:
        connection: connects: directly, with TLS, or through a proxy.
    """

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection

    def ask(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes | Path | None, timeout: float
    ) -> Response:
        """Send a request, and read the status and headers of its response.

        Args:
            method: "GET", …
            target: path and query, or the whole URL for a proxy.
            headers: all of them; Content-Length is added.
            body: of a POST or PUT; a path for the contents of a file, which are not sent to a server that refuses the headers.
            timeout: seconds without data after which the server counts as unavailable.

        Raises:
            ValueError: a header contains a line break, or a character that is invalid in headers.
            http.client.HTTPException, OSError: there is no response.
        """
        head = _head(method, target, headers, body)
        if self._connection.sock is None:
            self._connection.timeout = timeout
            self._connection.connect()
        self._connection.sock.settimeout(timeout)
        if not isinstance(body, Path):
            self._connection.sock.sendall(head + (body or b""))
            return self._begun(Response(self._connection.sock, method=method))
        self._connection.sock.sendall(head)
        response, refuses = self._first_answer(method, timeout)
        if refuses:
            self.close()  # the server may wait for the body
            return response
        self._send(body)
        return self._begun(response)

    def _begun(self, response: Response) -> Response:
        try:
            response.begin()
        except BaseException:
            response.close()
            raise
        if response.will_close:
            self.close()  # the response itself can still be read to its end
        return response

    def _first_answer(self, method: str, timeout: float) -> tuple[Response, bool]:
        """Return a response, and whether it has begun with a refusal of the body. Many servers say nothing before they have that."""
        response = Response(self._connection.sock, method=method)
        try:
            self._connection.sock.settimeout(_INVITATION)
            try:
                response.fp.peek(1)
            except TimeoutError:
                response.close()
                return Response(self._connection.sock, method=method), False
            finally:
                self._connection.sock.settimeout(timeout)
            return response, not response.invites()
        except BaseException:
            response.close()
            raise

    def _send(self, file: Path) -> None:
        """Send a file; a server that hangs up meanwhile has mostly said why, which is then read."""
        with file.open("rb") as stream, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if size := file.stat().st_size:
                self._connection.sock.sendfile(stream, 0, size)

    def close(self) -> None:
        """Close the connection; the next request opens it again."""
        self._connection.close()


def _head(method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes | Path | None) -> bytes:
    path = target if _TARGET.fullmatch(target) else quote(target, safe=_ALLOWED)
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if isinstance(body, Path):
        lines += [f"Content-Length: {body.stat().st_size}", "Expect: 100-continue"]
    elif body is not None:
        lines.append(f"Content-Length: {len(body)}")
    text = "\r\n".join(lines)
    breaks = len(lines) - 1
    if text.count("\r") != breaks or text.count("\n") != breaks:
        raise ValueError("a header contains a line break")
    try:
        return text.encode("latin-1") + b"\r\n\r\n"
    except UnicodeEncodeError:
        raise ValueError(
            "a header contains a character that is invalid in headers"
        ) from None  # the exception would show the header
