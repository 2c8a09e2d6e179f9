"""A real server with the API of Google Cloud Storage, fake-gcs-server; and a proxy before it that misbehaves on demand."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from typing import Any, Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import attrs
from tests.servers.faulty import Answer, Request
from tests.servers.passing import PassingProxy
from tests.servers.tools import tool

BUCKET = "bucket"


class GoogleStorage:
    """fake-gcs-server on a free port of the loopback interface, with one bucket, running while it is entered.

    Raises:
        Missing: it is neither here nor can it be built.
    """

    def __init__(self) -> None:
        self._program = tool("fake-gcs-server")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        listen = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(self.port), "-external-url", self.url]
        command = [str(self._program), *listen, "-backend", "memory", "-log-level", "error"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            time.sleep(0.05)
        else:
            self.__exit__()
            raise RuntimeError("fake-gcs-server did not begin to listen")
        self._ask("POST", "/storage/v1/b?project=p", json.dumps({"name": BUCKET}).encode(), "application/json")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def put(self, name: str, body: bytes) -> dict[str, Any]:
        """Upload an object."""
        target = f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={quote(name, safe='')}"
        return dict(json.loads(self._ask("POST", target, body, "application/octet-stream")))

    def delete(self, name: str) -> None:
        self._ask("DELETE", f"/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}")

    def get(self, name: str) -> bytes:
        return self._ask("GET", f"/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}?alt=media")

    def keys(self, prefix: str = "") -> list[str]:
        found = json.loads(self._ask("GET", f"/storage/v1/b/{BUCKET}/o?prefix={quote(prefix, safe='')}"))
        return [item["name"] for item in found.get("items", ())]

    def _ask(self, method: str, target: str, body: bytes | None = None, kind: str = "") -> bytes:
        headers = {"Content-Type": kind} if kind else {}
        request = urllib.request.Request(f"{self.url}{target}", body, headers, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return bytes(answer.read())


class StorageProxy(PassingProxy):
    """Passes everything on to a server, and does what fake-gcs-server does not: it knows how much of an upload has arrived, and pages.

    The server takes the question about an upload for its end, and cuts listings off at `maxResults`.

    Attributes:
        page: objects on a page of a listing.
    """

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.page = 1000
        self._stored: dict[str, str] = {}

    def answer(self, request: Request) -> Answer:
        content = request.headers.get("content-range", "")
        if content.startswith("bytes */"):
            stored = self._stored.get(request.target)
            return Answer(status=308, headers={"Range": stored} if stored else {})
        if request.method == "GET" and request.path.endswith("/o"):
            return self._page(request)
        answer = super().answer(request)
        if sent := re.match(r"bytes \d+-(\d+)/", content):
            self._stored[request.target] = f"bytes=0-{sent[1]}"
        return answer

    def _page(self, request: Request) -> Answer:
        asked = dict(parse_qsl(urlsplit(request.target).query))
        rest = urlencode({k: v for k, v in asked.items() if k not in ("maxResults", "pageToken")})
        answer = super().answer(attrs.evolve(request, target=f"{urlsplit(request.target).path}?{rest}"))
        if answer.status != 200 or not answer.body.startswith(b"{"):
            return answer
        found, start = json.loads(answer.body), int(asked.get("pageToken", 0))
        stop = start + min(self.page, int(asked["maxResults"]))
        more = {"nextPageToken": str(stop)} if stop < len(found.get("items", ())) else {}
        page = {**found, "items": found.get("items", [])[start:stop], **more}
        return attrs.evolve(answer, body=json.dumps(page).encode())
