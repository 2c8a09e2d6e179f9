"""Write outputs and checkpoints below a `gs://` URI."""

from __future__ import annotations

import base64
import json
import re
import secrets
import threading
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import anycrc

from tunewright import ExitCode, FetchError
from tunewright.providers import Snapshot
from tunewright_gs.bucket import Bucket, digests_of
from tunewright_gs.snapshot import GSSnapshot
from tunewright_launcher.http import Headers, HttpRequest
from tunewright_launcher.objects import ObjectStore

PART = 16 << 20  # bytes of a request of a large upload: a multiple of 256 KiB
_BLOCK = 1 << 20
_LONGEST_ANSWER = 1 << 20
_DONE = (HTTPStatus.OK, HTTPStatus.CREATED)
_LOST = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_RESUME_INCOMPLETE = 308
_MOST_IDLE = 5  # parts in a row that are accepted without any effect
_STORED = re.compile(r"bytes=0-(\d+)")


class GSStore(ObjectStore):
    """The objects below a prefix, for writing. The store compares the CRC32C of each, and so does this one.

    Args:
        bucket: the bucket.
        prefix: the prefix; "" for the whole bucket.
    """

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        super().__init__(bucket, prefix)
        self._bucket = bucket
        self._sessions: dict[tuple[str, str, int], str] = {}
        self._lock = threading.Lock()

    def snapshot(self, folder: str) -> Snapshot:
        """See `Store.snapshot`."""
        return GSSnapshot(self._bucket, self.prefix(folder))

    def send(self, key: str, file: Path) -> str | None:
        """Upload a file, and return its generation. A large one goes on where this process's last attempt ended."""
        crc, size = _crc32c(file), file.stat().st_size
        about = {"name": key, "crc32c": base64.b64encode(bytes.fromhex(crc)).decode()}
        found = self._in_parts(about, file, crc, size) if size > PART else self._at_once(about, file)
        digest = next((digest.value for digest in digests_of(found) if digest.algorithm == "crc32c"), crc)
        if digest != crc:
            cause = f"{self._bucket.uri(key)} arrived damaged: its CRC32C is {digest}, and the file's is {crc}."
            raise FetchError(
                cause,
                remedy="Start the upload again; if this persists, check for a proxy that changes what is sent.",
                code=ExitCode.TRY_AGAIN,
            )
        generation = found.get("generation")
        return None if generation is None else str(generation)

    def delete_one(self, key: str) -> None:
        """See `ObjectStore.delete_one`."""
        request = self._bucket.request("storage/v1", f"o/{quote(key, safe='')}", method="DELETE")
        response, body = self._bucket.http.ask(request, _LONGEST_ANSWER)
        if response.status >= HTTPStatus.BAD_REQUEST and response.status not in _LOST:
            raise self._bucket.refused(self._bucket.uri(key), response.status, response.headers, body)

    def _at_once(self, about: Mapping[str, str], file: Path) -> Mapping[str, Any]:
        boundary = secrets.token_hex(16)
        head = f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(about)}\r\n"
        middle = f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
        request = self._bucket.request(
            "upload/storage/v1",
            "o",
            {"uploadType": "multipart"},
            method="POST",
            headers={"Content-Type": f"multipart/related; boundary={boundary}"},
            body=b"".join([head.encode(), middle.encode(), file.read_bytes(), f"\r\n--{boundary}--\r\n".encode()]),
        )
        return self._bucket.ask(self._bucket.uri(about["name"]), request)

    def _in_parts(self, about: Mapping[str, str], file: Path, crc: str, size: int) -> Mapping[str, Any]:
        """Upload a large file in a session, which knows how much of it has arrived."""
        own = (about["name"], crc, size)
        with self._lock:
            session = self._sessions.get(own)
        position = 0 if session is None else None
        if session is None:
            session = self._begin(about, size)
            with self._lock:
                self._sessions[own] = session
        try:
            found = self._send_parts(about["name"], session, file, size, position)
        except _SessionLost as lost:
            self._forget(own)
            cause = f"The upload of {self._bucket.uri(about['name'])} is no longer known to the store."
            raise FetchError(cause, remedy="Start the upload again.", code=ExitCode.TRY_AGAIN) from lost
        self._forget(own)
        return found

    def _forget(self, own: tuple[str, str, int]) -> None:
        with self._lock:
            self._sessions.pop(own, None)

    def _begin(self, about: Mapping[str, str], size: int) -> str:
        what = self._bucket.uri(about["name"])
        request = self._bucket.request(
            "upload/storage/v1",
            "o",
            {"uploadType": "resumable", "name": about["name"]},
            method="POST",
            headers={"Content-Type": "application/json; charset=UTF-8", "X-Upload-Content-Length": str(size)},
            body=json.dumps(about).encode(),
        )
        response, body = self._bucket.http.ask(request, _LONGEST_ANSWER)
        session = response.headers.get("Location")
        if response.status not in _DONE or not session:
            raise self._bucket.refused(what, response.status, response.headers, body)
        return str(session)

    def _send_parts(self, key: str, session: str, file: Path, size: int, position: int | None) -> Mapping[str, Any]:
        idle, furthest = 0, -1
        with file.open("rb") as stream:
            while True:
                if position is None:
                    headers, body = {"Content-Range": f"bytes */{size}"}, b""
                else:
                    stream.seek(position)
                    body = stream.read(PART)
                    headers = {"Content-Range": f"bytes {position}-{position + len(body) - 1}/{size}"}
                status, answer, text = self._put(session, headers, body)
                if status in _DONE:
                    return self._bucket.document(self._bucket.uri(key), text)
                if status in _LOST:
                    raise _SessionLost
                if status != _RESUME_INCOMPLETE:
                    raise self._bucket.refused(self._bucket.uri(key), status, answer, text)
                stored = _STORED.fullmatch(answer.get("Range", ""))
                position = int(stored[1]) + 1 if stored else 0
                idle, furthest = (0, position) if position > furthest else (idle + 1, furthest)
                if idle >= _MOST_IDLE:
                    cause = f"The store accepts parts of {self._bucket.uri(key)}, and still has {position} of its {size} bytes."
                    remedy = "Check for a proxy that drops the header Range of answers."
                    raise FetchError(cause, remedy=remedy, code=ExitCode.TRY_AGAIN)

    def _put(self, session: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Headers, bytes]:
        # The session's URL is the credential; the token is for the store's own host.
        own = self._bucket.request("upload/storage/v1", "o")
        same = urlsplit(own.url).netloc == urlsplit(session).netloc
        given = {**(own.headers if same else {}), **headers}
        request = HttpRequest(url=session, method="PUT", headers=given, body=body)
        response, text = self._bucket.http.ask(request, _LONGEST_ANSWER)
        return response.status, response.headers, text


class _SessionLost(Exception):  # noqa: N818 - it is begun again
    """The store does not know the session of an upload any more."""


def _crc32c(file: Path) -> str:
    model, value = anycrc.Model("CRC32-ISCSI"), 0
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            value = model.calc(block, value)
    return f"{value:08x}"
