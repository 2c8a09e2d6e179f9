"""An HTTP server that answers as a subclass says, keeps a log, and misbehaves on demand.

with FileServer({"/a": b"…"}) as server:
    server.faults.append(Fault(path="/a", cut_after=1000, times=3))
"""

from __future__ import annotations

import functools
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar, Self
from urllib.parse import unquote, urlsplit

import attrs

CHUNK = 64 << 10


@attrs.define(kw_only=True)
class Fault:
    """What goes wrong with the answers to some requests.

    Attributes:
        path: regular expression of request targets (path and query).
        times: how many answers; -1 for all.
        status: answer with this status instead.
        headers: headers to add to the answer.
        cut_after: bytes of the body after which the connection is reset.
        end_after: bytes of the body after which the connection is closed in order.
        stall_after: bytes of the body after which nothing comes any more, until the server is closed.
        flip: index within the body of a byte that is sent with one bit changed.
        delay: seconds before the answer.
        rate: bytes a second.
    """

    path: str = ""
    times: int = 1
    status: int | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict)
    cut_after: int | None = None
    end_after: int | None = None
    stall_after: int | None = None
    flip: int | None = None
    delay: float = 0.0
    rate: float | None = None


@attrs.frozen(kw_only=True)
class Request:
    """A request as it came.

    Attributes:
        method: "GET", "HEAD", "POST", "PUT", "DELETE".
        target: path and query as they were sent.
        headers: names in lower case.
        body: of a POST or PUT.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """The path, percent-decoded."""
        return unquote(urlsplit(self.target).path)


@attrs.frozen(kw_only=True)
class Answer:
    """An answer; `chunks` in place of `body` for one that is too large to be held, with a Content-Length header."""

    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    chunks: Iterator[bytes] | None = None


class FaultyServer:
    """A server on a free port of the loopback interface, running while it is entered.

    Attributes:
        faults: what goes wrong; the first one whose path matches is used.
        log: all requests, oldest first.
        sent: bytes of bodies that were sent.
    """

    address: ClassVar[str] = "127.0.0.1"
    """Where servers listen; the tests of a cluster change it to one that pods see."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.log: list[Request] = []
        self.sent = 0
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server((self.address, 0), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        """http://127.0.0.1:port"""
        return f"http://{self.address}:{self._server.server_address[1]}"

    def answer(self, request: Request) -> Answer:
        """What a server without faults says. May be called from many threads."""
        raise NotImplementedError

    def take_fault(self, request: Request) -> Fault | None:
        """The fault for this request, which is counted."""
        with self._lock:
            self.log.append(request)
            for fault in self.faults:
                if fault.times and re.search(fault.path, request.target):
                    fault.times -= 1
                    return fault
        return None

    def count(self, size: int) -> None:
        """So many bytes of a body were sent."""
        with self._lock:
            self.sent += size

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class FileServer(FaultyServer):
    """Files by path, with ranges, entity tags and If-Match.

    Attributes:
        files: path → contents.
        token: the bearer token that is asked for; None for no one.
        ranges: how a range is answered; a key of `ODD_RANGES`, or "" for as it should be.
    """

    def __init__(self, files: Mapping[str, bytes], *, token: str | None = None, ranges: str = "") -> None:
        super().__init__()
        self.files = dict(files)
        self.token = token
        self.ranges = ranges

    def answer(self, request: Request) -> Answer:
        """A file, or a range of it."""
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            return Answer(status=401)
        body = self.files.get(request.path)
        if body is None:
            return Answer(status=404)
        if self.ranges and "range" in request.headers:
            return ODD_RANGES[self.ranges](body, request)
        return ranged(body, request)


def ranged(body: bytes, request: Request, headers: Mapping[str, str] | None = None) -> Answer:
    """The answer to a GET of a file: whole, or the range that the request names."""
    tag = f'"{abs(hash(body)):x}"'
    about = {"ETag": tag, "Accept-Ranges": "bytes", **(headers or {})}
    if request.headers.get("if-match", about["ETag"]) != about["ETag"]:
        return Answer(status=412)
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if match is None:
        return Answer(headers=about, body=body)
    start, stop = int(match[1]), min(int(match[2]) + 1 if match[2] else len(body), len(body))
    if start >= len(body):
        return Answer(status=416, headers={"Content-Range": f"bytes */{len(body)}"})
    about["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
    return Answer(status=206, headers=about, body=body[start:stop])


def _whole(body: bytes, request: Request) -> Answer:
    """As a server that knows no ranges."""
    return ranged(body, attrs.evolve(request, headers={k: v for k, v in request.headers.items() if k != "range"}))


def _relative_total(body: bytes, request: Request) -> Answer:
    """As Gitea up to 1.24.3: the total is what follows the range's beginning."""
    answer = ranged(body, request)
    sent, total = answer.headers["Content-Range"].split("/")
    start = int(re.findall(r"\d+", sent)[0])
    return attrs.evolve(answer, headers={**answer.headers, "Content-Range": f"{sent}/{int(total) - start}"})


def _capped(body: bytes, request: Request) -> Answer:
    """As a server that sends at most 3 MB for a range."""
    start, stop = map(int, re.findall(r"\d+", request.headers["range"]))
    stop = min(stop, start + 3_000_000)
    return ranged(body, attrs.evolve(request, headers={**request.headers, "range": f"bytes={start}-{stop}"}))


def _open_ended(body: bytes, request: Request) -> Answer:
    """As a server that sends everything from the range's beginning on, and says so."""
    start = re.findall(r"\d+", request.headers["range"])[0]
    return ranged(body, attrs.evolve(request, headers={**request.headers, "range": f"bytes={start}-"}))


def _wrapped(body: bytes, request: Request, *, at: int = 16 << 20, honest: bool = False) -> Answer:
    """As a server whose offsets have too few bits; one that is not `honest` says that it sent what was asked for."""
    start, stop = map(int, re.findall(r"\d+", request.headers["range"]))
    length = stop - start
    wrapped = f"bytes={start % at}-{start % at + length}"
    answer = ranged(body, attrs.evolve(request, headers={**request.headers, "range": wrapped}))
    about = {} if honest else {"Content-Range": f"bytes {start}-{start + len(answer.body) - 1}/{len(body)}"}
    return attrs.evolve(answer, headers={**answer.headers, **about})


def _late(body: bytes, request: Request) -> Answer:
    """As two servers behind one name, of which one knows no ranges."""
    return ranged(body, request) if request.headers["range"].startswith("bytes=0-") else _whole(body, request)


ODD_RANGES: Mapping[str, Callable[[bytes, Request], Answer]] = {
    "ignored": _whole,
    "ignored later": _late,
    "relative total": _relative_total,
    "capped": _capped,
    "open-ended": _open_ended,
    "wrapped": _wrapped,
    "wrapped, and said": functools.partial(_wrapped, honest=True),
    "refused": lambda _, __: Answer(status=416),
    "not implemented": lambda _, __: Answer(status=501),
    "unnamed": lambda body, request: attrs.evolve(ranged(body, request), headers={}),
}
"""How servers answer a range, other than they should."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    owner: FaultyServer

    def handle_error(self, *_: object) -> None:
        """Clients that go away are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 60
    wbufsize = 0
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self._chunked_body() if self.headers.get("Transfer-Encoding") == "chunked" else self.rfile.read(length)
        request = Request(
            method=self.command,
            target=self.path,
            headers={k.lower(): v for k, v in self.headers.items()},
            body=body,
        )
        fault = self.server.owner.take_fault(request) or Fault()
        time.sleep(fault.delay)
        answer = Answer(status=fault.status) if fault.status else self.server.owner.answer(request)
        self._send(answer, fault)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_CONNECT = do_PROPFIND = do_MKCOL = do_GET

    def _chunked_body(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, answer: Answer, fault: Fault) -> None:
        self.send_response(answer.status)
        headers = {"Content-Length": str(len(answer.body)), **answer.headers, **fault.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        # In small pieces where it is to be slow, so that it drips rather than stands still.
        size = min(CHUNK, max(1, int(fault.rate / 20))) if fault.rate else CHUNK
        body = memoryview(answer.body)
        chunks = answer.chunks or (body[i : i + size] for i in range(0, len(body), size))
        sent = 0
        for chunk in chunks:
            sent += self._send_chunk(chunk, sent, fault)
            if self.close_connection:
                return

    def _send_chunk(self, chunk: bytes | memoryview, sent: int, fault: Fault) -> int:
        ends = [n for n in (fault.cut_after, fault.end_after, fault.stall_after) if n is not None]
        left = min(ends) - sent if ends else len(chunk)
        piece = chunk[:left]
        if fault.flip is not None and sent <= fault.flip < sent + len(piece):
            piece = bytearray(piece)
            piece[fault.flip - sent] ^= 1
        self.wfile.write(piece)
        self.server.owner.count(len(piece))
        if fault.rate:
            time.sleep(len(piece) / fault.rate)
        if left < len(chunk) or (ends and left == 0):
            self._break(fault)
        return len(piece)

    def _break(self, fault: Fault) -> None:
        self.close_connection = True
        if fault.stall_after is not None:
            self.server.owner.closing.wait(60)
        elif fault.cut_after is not None:
            # Linger for 0 seconds: what was not sent is dropped, and the other side gets a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *_: object) -> None:
        """The log is the server's."""
