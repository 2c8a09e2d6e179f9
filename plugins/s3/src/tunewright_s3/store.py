"""Write outputs and checkpoints below an `s3://` URI."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import threading
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
from botocore.exceptions import ClientError

from tunewright import ExitCode, FetchError
from tunewright.providers import Entry, Snapshot, Store
from tunewright_s3.bucket import Bucket
from tunewright_s3.digests import md5_of, parts_of
from tunewright_s3.errors import translated
from tunewright_s3.snapshot import S3Snapshot
from tunewright_s3.uri import format_uri

MIB = 1 << 20
PART = 16 * MIB
_MOST_PARTS = 10_000  # S3's limit
_PARTS_AT_ONCE = 8  # of all files together; each is in memory while it is sent
_OF_ONE_FILE = 4
_REMOVED_AT_ONCE = 1000  # S3's limit


class S3Store(Store):
    """The objects below a prefix, for writing.

    Every request has the MD5 and the CRC-32 of its data, and a store compares at least one of them. All stores support MD5;
    the CRC-32 is stored with the object, so that a later fetch can verify it.

    Args:
        bucket: the bucket.
        prefix: the prefix; "" for the whole bucket.
    """

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self._bucket = bucket
        self._folder = f"{prefix.rstrip('/')}/" if prefix else ""
        self._objects = S3Snapshot(bucket, prefix)
        self._room = threading.BoundedSemaphore(_PARTS_AT_ONCE)

    def entries(self, folder: str) -> Iterator[Entry]:
        """See `Store.entries`; the entries have digests."""
        for page in self._bucket.pages(self._prefix(folder)):
            for item in page.get("Contents", ()):
                path = item["Key"].removeprefix(self._folder)
                entry = Entry(path=path, size=item["Size"], validator=item["ETag"], source=item["Key"])
                if parts_of(item["ETag"]) > 1:
                    yield self._objects.describe(entry)
                else:
                    yield attrs.evolve(entry, digests=md5_of(item["ETag"]))

    def upload(self, files: Mapping[str, Path]) -> None:
        """See `Store.upload`. A large file is resumed where an earlier attempt ended."""
        for path, file in files.items():
            key = f"{self._folder}{path}"
            with translated(format_uri(self._bucket.name, key)):
                if file.stat().st_size <= PART:
                    data = file.read_bytes()
                    about = {"Bucket": self._bucket.name, "Key": key}
                    self._bucket.client.put_object(Body=data, **about, **_checks(data))
                else:
                    _Upload(self._bucket, key, file, self._room).run()

    def remove(self, folder: str) -> None:
        """See `Store.remove`; unfinished uploads are removed, too."""
        with translated(format_uri(self._bucket.name, self._prefix(folder))):
            for page in self._bucket.pages(self._prefix(folder)):
                self._remove([item["Key"] for item in page.get("Contents", ())])
            for upload in _uploads(self._bucket, self._prefix(folder)):
                _abort(self._bucket, upload["Key"], upload["UploadId"])

    def remove_files(self, paths: Collection[str]) -> None:
        """See `Store.remove_files`."""
        with translated(format_uri(self._bucket.name, self._folder)):
            self._remove([f"{self._folder}{path}" for path in paths])

    def _remove(self, keys: Sequence[str]) -> None:
        for i in range(0, len(keys), _REMOVED_AT_ONCE):
            self._remove_some([{"Key": key} for key in keys[i : i + _REMOVED_AT_ONCE]])

    def _remove_some(self, keys: list[dict[str, str]]) -> None:
        delete = {"Objects": keys, "Quiet": True}
        answer = self._bucket.client.delete_objects(Bucket=self._bucket.name, Delete=delete)
        if errors := answer.get("Errors"):
            what, code = format_uri(self._bucket.name, errors[0].get("Key", "")), errors[0].get("Code", "")
            cause = f"{len(errors)} objects could not be removed, among them {what}: {code}."
            denied = code == "AccessDenied"
            remedy = "Allow s3:DeleteObject for the credential." if denied else "The removal will be retried."
            raise FetchError(cause, remedy=remedy, code=ExitCode.NO_PERMISSION if denied else ExitCode.TRY_AGAIN)

    def snapshot(self, folder: str) -> Snapshot:
        """See `Store.snapshot`."""
        return S3Snapshot(self._bucket, self._prefix(folder))

    def _prefix(self, folder: str) -> str:
        return f"{self._folder}{folder}/" if folder else self._folder


class _Upload:
    """A multipart upload that does not send equal parts of an earlier attempt again."""

    def __init__(self, bucket: Bucket, key: str, file: Path, room: threading.BoundedSemaphore) -> None:
        self._bucket = bucket
        self._about = {"Bucket": bucket.name, "Key": key}
        self._file = file
        self._size = file.stat().st_size
        self._length = part_size(self._size)
        self._room = room
        self._sent: dict[int, Mapping[str, Any]] = {}

    def run(self) -> None:
        """Upload the missing parts, and complete the upload."""
        client, key = self._bucket.client, self._about["Key"]
        upload = self._resume() or client.create_multipart_upload(ChecksumAlgorithm="CRC32", **self._about)["UploadId"]
        numbers = range(1, -(-self._size // self._length) + 1)
        with ThreadPoolExecutor(_OF_ONE_FILE) as pool:
            parts = list(pool.map(lambda number: self._part(upload, number), numbers))
        client.complete_multipart_upload(UploadId=upload, MultipartUpload={"Parts": parts}, **self._about)
        for left in self._unfinished():
            _abort(self._bucket, key, left)

    def _resume(self) -> str | None:
        """Return the newest unfinished upload, if there is one."""
        for upload in self._unfinished():
            pages = self._bucket.client.get_paginator("list_parts").paginate(UploadId=upload, **self._about)
            self._sent = {part["PartNumber"]: part for page in pages for part in page.get("Parts", ())}
            if all("ChecksumCRC32" in part for part in self._sent.values()):
                return upload
        return None

    def _unfinished(self) -> list[str]:
        found = [u for u in _uploads(self._bucket, self._about["Key"]) if u["Key"] == self._about["Key"]]
        return [str(u["UploadId"]) for u in sorted(found, key=lambda u: u["Initiated"], reverse=True)]

    def _part(self, upload: str, number: int) -> dict[str, Any]:
        with self._room, self._file.open("rb") as stream:
            stream.seek((number - 1) * self._length)
            data = stream.read(self._length)
            checks, sent = _checks(data), self._sent.get(number, {})
            if sent.get("Size") != len(data) or sent.get("ChecksumCRC32") != checks["ChecksumCRC32"]:
                about = {"UploadId": upload, "PartNumber": number, **self._about}
                sent = self._bucket.client.upload_part(Body=data, **about, **checks)
        return {"PartNumber": number, "ETag": sent["ETag"], "ChecksumCRC32": checks["ChecksumCRC32"]}


def part_size(size: int) -> int:
    """Return the bytes of each part except the last, for a file of that size: whole MiB, at most S3's number of parts."""
    return max(PART, -(-size // (_MOST_PARTS * MIB)) * MIB)


def _checks(data: bytes) -> dict[str, str]:
    md5 = hashlib.md5(data, usedforsecurity=False).digest()
    crc = zlib.crc32(data).to_bytes(4, "big")
    return {"ContentMD5": base64.b64encode(md5).decode(), "ChecksumCRC32": base64.b64encode(crc).decode()}


def _uploads(bucket: Bucket, prefix: str) -> list[Mapping[str, Any]]:
    """Return the unfinished multipart uploads below a prefix; none if the credential may not list them."""
    pages = bucket.client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket.name, Prefix=prefix)
    try:
        return [upload for page in pages for upload in page.get("Uploads", ())]
    except ClientError as error:
        if error.response["Error"]["Code"] in ("AccessDenied", "NotImplemented"):
            return []
        raise


def _abort(bucket: Bucket, key: str, upload: str) -> None:
    with contextlib.suppress(ClientError):  # it has ended already, or is left to the bucket's lifecycle rules
        bucket.client.abort_multipart_upload(Bucket=bucket.name, Key=key, UploadId=upload)
