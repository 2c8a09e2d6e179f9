"""A real S3 server over a folder, versitygw; and a proxy before it that misbehaves on demand.

with Gateway(folder) as store, S3Proxy(store) as proxy:
    store.put("data/a", b"…")
    proxy.faults.append(Fault(path="data/a", cut_after=1000))
"""

from __future__ import annotations

import base64
import functools
import http.client
import itertools
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.servers.faulty import CHUNK, Answer, FaultyServer, Request
from tests.servers.tools import tool

if TYPE_CHECKING:
    from botocore.client import BaseClient

BUCKET = "bucket"
ACCESS_KEY, SECRET_KEY, REGION = "test-access-key", "test-secret-key/that+must-not-show", "eu-test-1"
_CRCS = {"CRC32C": ("CRC32-ISCSI", 4), "CRC64NVME": ("CRC64-NVME", 8)}


class Gateway:
    """versitygw on a free port of the loopback interface, running while it is entered.

    Args:
        folder: where buckets and objects are kept; made if it is not there.

    Raises:
        Missing: versitygw is neither here nor can it be built.
    """

    def __init__(self, folder: Path) -> None:
        self._program = tool("versitygw")
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    @property
    def url(self) -> str:
        """http://127.0.0.1:port"""
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """Credentials and region, as every client reads them."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }

    def client(self, endpoint: str | None = None, **settings: Any) -> BaseClient:
        """boto3's client for the server, or for what stands in front of it; with more settings for its Config."""
        import boto3
        from botocore.config import Config

        session = boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)
        config = Config(s3={"addressing_style": "path"}, signature_version="s3v4", **settings)
        return session.client("s3", endpoint_url=endpoint or self.url, config=config)

    def __enter__(self) -> Self:
        data, versions = self._folder / "data", self._folder / "versions"
        for folder in (data, versions):
            folder.mkdir(parents=True, exist_ok=True)
        listen = ["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--port", f"127.0.0.1:{self.port}", "--quiet"]
        listen += ["--region", REGION, "--keep-alive"]
        command = [str(self._program), *listen, "posix", "--versioning-dir", str(versions), str(data)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.05)
        self.__exit__()
        raise RuntimeError("versitygw did not begin to listen")

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @functools.cached_property
    def _client(self) -> Any:
        client: Any = self.client(request_checksum_calculation="when_required")
        client.create_bucket(Bucket=BUCKET)
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        return client

    def put(self, key: str, body: bytes, **about: Any) -> dict[str, Any]:
        """Upload an object in one go."""
        return self._client.put_object(Bucket=BUCKET, Key=key, Body=body, **about)

    def put_in_parts(self, key: str, body: bytes, sizes: list[int], **about: Any) -> None:
        """Upload an object in parts.

        Args:
            key: the object's.
            body: its contents.
            sizes: of the parts; the last one may be left out.
            about: ChecksumAlgorithm and ChecksumType; none for no checksum.
        """
        where = {"Bucket": BUCKET, "Key": key}
        upload = self._client.create_multipart_upload(**where, **about)["UploadId"]
        ends = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
        ends += [len(body)] if ends[-1] < len(body) else []
        parts = []
        for number, (start, stop) in enumerate(itertools.pairwise(ends), 1):
            part = {"UploadId": upload, "PartNumber": number, "Body": body[start:stop]}
            sent = self._client.upload_part(**where, **part, **_sum(about.get("ChecksumAlgorithm"), body[start:stop]))
            sums = {k: v for k, v in sent.items() if k.startswith("Checksum") and k != "ChecksumType"}
            parts.append({"PartNumber": number, "ETag": sent["ETag"], **sums})
        kind = {k: v for k, v in about.items() if k == "ChecksumType"}
        self._client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts}, **kind)

    def delete(self, key: str) -> None:
        """Remove an object; its older versions stay."""
        self._client.delete_object(Bucket=BUCKET, Key=key)

    def place(self, key: str, body: bytes) -> None:
        """Make an object by a file: at once, and without an entity tag or a checksum."""
        self._client  # noqa: B018 - makes the bucket
        file = self._folder / "data" / BUCKET / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)

    def keys(self, prefix: str = "") -> list[str]:
        """What there is below a prefix."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def unfinished(self) -> list[str]:
        """Keys of uploads that were begun and not ended."""
        return [u["Key"] for u in self._client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())]

    def get(self, key: str) -> bytes:
        return self._client.get_object(Bucket=BUCKET, Key=key)["Body"].read()


class S3Proxy(FaultyServer):
    """Passes everything on to a store, with the Host header that was signed.

    Attributes:
        refusals: (what the method and the target contain, status, S3's code): answered without the store, always.
        rewrite: text of listings → what it is replaced by.
        damaged: end of the path of uploads that pass with one bit changed; "" for none.
        hidden: beginnings of names, in lower case, of headers that are left out of answers.
        unknown: beginnings of names, in lower case, of headers of requests that are refused, as Backblaze B2 does.
        completed: text of answers to the completion of an upload → what it is replaced by.
        tags_of_parts: whether If-Match is compared with the tag of the part that a request names, as moto does.
    """

    def __init__(self, store: Gateway) -> None:
        super().__init__()
        self.refusals: list[tuple[str, int, str]] = []
        self.rewrite: dict[str, str] = {}
        self.damaged = ""
        self.hidden: tuple[str, ...] = ()
        self.unknown: tuple[str, ...] = ()
        self.completed: dict[str, str] = {}
        self.tags_of_parts = False
        self._store = store

    def answer(self, request: Request) -> Answer:
        for text, status, code in self.refusals:
            if text in f"{request.method} {request.target}":
                return _refused(status, code, "no")
        if unknown := [name for name in request.headers if self.unknown and name.startswith(self.unknown)]:
            return _refused(400, "InvalidArgument", f"Unsupported header '{unknown[0]}' received for this API call.")
        if self.tags_of_parts and "partNumber" in request.target and "if-match" in request.headers:
            return Answer(status=412)
        response = self._ask(request)
        hidden = ("connection", "transfer-encoding", "date", *self.hidden)
        headers = {k: v for k, v in response.getheaders() if not k.lower().startswith(hidden)}
        rewrite = self.rewrite if "list-type" in request.target else {}
        if request.method == "POST" and "uploadId" in request.target:
            rewrite = self.completed
        if rewrite:
            body = response.read().decode()
            for old, new in rewrite.items():
                body = body.replace(old, new)
            return Answer(status=response.status, headers=_without(headers, "Content-Length"), body=body.encode())
        if request.method == "HEAD" or "Content-Length" not in response.headers:
            return Answer(status=response.status, headers=headers, body=response.read())
        return Answer(status=response.status, headers=headers, chunks=_chunks(response))

    def _ask(self, request: Request) -> http.client.HTTPResponse:
        # A connection of its own for each: an answer that the client gives up stays half read.
        connection = http.client.HTTPConnection("127.0.0.1", self._store.port, timeout=60)
        connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers.items():
            if name not in ("connection", "transfer-encoding", "expect"):
                connection.putheader(name, value)
        body = bytearray(request.body)
        if self.damaged and body and request.path.endswith(self.damaged):
            body[len(body) // 2] ^= 1
        connection.endheaders(bytes(body) or None)
        return connection.getresponse()


def _refused(status: int, code: str, message: str) -> Answer:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Answer(status=status, body=body.encode())


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    with response:
        while chunk := response.read(CHUNK):
            yield chunk


def _without(headers: Mapping[str, str], *names: str) -> dict[str, str]:
    return {k: v for k, v in headers.items() if k not in names}


def _sum(algorithm: str | None, data: bytes) -> dict[str, str]:
    """What a part is sent with: its checksum where botocore cannot compute it alone, which the server compares."""
    if algorithm not in _CRCS:
        return {"ChecksumAlgorithm": algorithm} if algorithm else {}
    import anycrc

    model, width = _CRCS[algorithm]
    value = anycrc.Model(model).calc(data).to_bytes(width, "big")
    return {f"Checksum{algorithm}": base64.b64encode(value).decode()}
