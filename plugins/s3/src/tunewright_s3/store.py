"""Write outputs and checkpoints below an `s3://` URI."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

import attrs
from botocore.exceptions import ClientError
from botocore.utils import parse_timestamp

from tunewright import ExitCode, FetchError
from tunewright.providers import Entry, Snapshot
from tunewright_launcher.http import words_of
from tunewright_launcher.objects import ObjectStore
from tunewright_s3.bucket import Bucket
from tunewright_s3.digests import md5_of, parts_of
from tunewright_s3.errors import UNSUPPORTED
from tunewright_s3.snapshot import S3Snapshot
from tunewright_s3.translate import is_of_unknown, status_of, translated
from tunewright_s3.uri import format_uri

MIB = 1 << 20
PART = 16 * MIB
_MOST_PARTS = 10_000  # S3's limit
_PARTS_AT_ONCE = 8  # of all files together; each is in memory while it is sent
_OF_ONE_FILE = 8
_REMOVED_AT_ONCE = 1000  # S3's limit
DEAD_AFTER = 900.0  # seconds without a new part after which an upload has nobody any more
_PASSING = ("RequestTimeout", "BadDigest")  # of 4xx: the parts that have arrived are of use to the next try
_REFUSED = (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, *UNSUPPORTED)


class S3Store(ObjectStore):
    """The objects below a prefix, for writing.

    Every request has the MD5 and the CRC-32 of its data, and a store compares at least one of them. All stores support MD5;
    the CRC-32 is stored with the object, so that a later fetch can verify it. Stores that refuse the CRC-32 get the MD5 alone.

    Args:
        bucket: the bucket.
        prefix: the prefix; "" for the whole bucket.
    """

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        super().__init__(bucket, prefix)
        self._bucket = bucket
        self._described = S3Snapshot(bucket, prefix)
        self._shared = _Shared()
        self._tags_are_md5: bool | None = None

    def described(self, entry: Entry) -> Entry:
        """Return the entry with the digest that its entity tag is, or that the store says when it is asked."""
        count = parts_of(entry.validator)
        if count == 1 and self._has_md5_as_tag(entry):
            return attrs.evolve(entry, digests=md5_of(entry.validator or ""))
        found = self._described.describe(entry)
        length = part_size(entry.size)
        if found.digests or count == 1 or -(-entry.size // length) != count:
            return found
        # Not every store tells the sizes of parts; if they are not ours, the tag differs, and the file is sent again.
        return attrs.evolve(found, digests=md5_of(entry.validator or "", length))

    def _has_md5_as_tag(self, entry: Entry) -> bool:
        """Return whether entity tags are MD5s: those of a bucket that encrypts are not. One object speaks for all of them."""
        if self._tags_are_md5 is None:
            self._tags_are_md5 = self._described.has_md5_as_tag(entry)
        return self._tags_are_md5

    def send(self, key: str, file: Path) -> str | None:
        """Upload a file, and return its entity tag. A large one is resumed where an earlier attempt ended."""
        with translated(self._bucket.uri(key)):
            if file.stat().st_size > PART:
                return _Upload(self._bucket, key, file, self._shared).run()
            about = {**self._bucket.about, "Key": key}
            return _tag(self._shared.sums.send(self._bucket.client.put_object, file.read_bytes(), **about))

    def remove(self, folder: str) -> None:
        """See `Store.remove`; unfinished uploads are removed, too."""
        super().remove(folder)
        with translated(self._bucket.uri(self.prefix(folder))):
            for upload in _uploads(self._bucket, self.prefix(folder)):
                _abort(self._bucket, upload["Key"], upload["UploadId"])

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects together, or one by one where the store does not know how to, or wants the request's MD5."""
        with translated(self._bucket.uri(self._folder)):
            for i in range(0, len(keys), _REMOVED_AT_ONCE):
                some = keys[i : i + _REMOVED_AT_ONCE]
                try:
                    self._delete_together(some)
                except ClientError as error:
                    if status_of(error) not in _REFUSED:
                        raise
                    # Which is refused as well, and for its own reason, if that is not about the batch.
                    super().delete(some)

    def delete_one(self, key: str) -> None:
        """Delete an object."""
        self._bucket.client.delete_object(Key=key, **self._bucket.about)

    def _delete_together(self, keys: Sequence[str]) -> None:
        delete = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        answer = self._bucket.client.delete_objects(Delete=delete, **self._bucket.about)
        if errors := answer.get("Errors"):
            what, code = format_uri(self._bucket.name, errors[0].get("Key", "")), errors[0].get("Code", "")
            said = words_of(errors[0].get("Message", "").encode())
            cause = f"{len(errors)} objects could not be removed, among them {what}: {code}.{said}"
            denied = code == "AccessDenied"
            remedy = (
                "Allow s3:DeleteObject for the credential." if denied else "Start the upload again, which removes them."
            )
            raise FetchError(cause, remedy=remedy, code=ExitCode.NO_PERMISSION if denied else ExitCode.TRY_AGAIN)

    def snapshot(self, folder: str) -> Snapshot:
        """See `Store.snapshot`."""
        return S3Snapshot(self._bucket, self.prefix(folder))


class _Sums:
    """How data is checked on its way up: by MD5 and CRC-32, or by MD5 alone where a store refuses the other."""

    def __init__(self) -> None:
        self.crc = True

    def send(self, request: Callable[..., Mapping[str, Any]], data: bytes, **about: Any) -> Mapping[str, Any]:
        """Send a request with the data and its checksums."""
        return self.ask(lambda: request(Body=data, **about, **self.of(data)))

    def ask(self, request: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Send a request, which looks at `crc`; once more without the CRC-32 if the store does not know it.

        Raises:
            ClientError: it is refused.
        """
        crc = self.crc
        try:
            return request()
        except ClientError as error:
            if not crc or not is_of_unknown(error):
                raise
            self.crc = False
            return request()

    def of(self, data: bytes) -> dict[str, str]:
        """Return the checksums of data, as botocore names them."""
        md5 = hashlib.md5(data, usedforsecurity=False).digest()
        found = {"ContentMD5": base64.b64encode(md5).decode()}
        return {**found, "ChecksumCRC32": _crc32(data)} if self.crc else found


@attrs.frozen
class _Shared:
    """What the uploads of a store share: room for parts, how they are checked, and key → the upload that this process has begun."""

    room: threading.BoundedSemaphore = attrs.field(factory=lambda: threading.BoundedSemaphore(_PARTS_AT_ONCE))
    sums: _Sums = attrs.field(factory=_Sums)
    own: dict[str, str] = attrs.field(factory=dict)


class _Upload:
    """A multipart upload that does not send equal parts of an earlier attempt again.

    It goes on with its own upload of this process, or with one that nobody has sent a part of for a long time: another job may be
    sending another file to the same key, and whoever completes its upload would complete a mixture.
    """

    def __init__(self, bucket: Bucket, key: str, file: Path, shared: _Shared) -> None:
        self._bucket = bucket
        self._about = {**bucket.about, "Key": key}
        self._file = file
        self._size = file.stat().st_size
        self._length = part_size(self._size)
        self._room, self._sums, self._own = shared.room, shared.sums, shared.own
        self._sent: dict[int, Mapping[str, Any]] = {}

    def run(self) -> str | None:
        """Upload the missing parts, and complete the upload; return the object's entity tag."""
        client, key = self._bucket.client, self._about["Key"]
        numbers = range(1, -(-self._size // self._length) + 1)
        try:
            upload = self._own[key] = self._resume() or self._begin()
            with ThreadPoolExecutor(_OF_ONE_FILE) as pool:
                parts = list(pool.map(lambda number: self._part(upload, number), numbers))
            completed = {"UploadId": upload, "MultipartUpload": {"Parts": parts}}
            tag = _tag(client.complete_multipart_upload(**completed, **self._about))
        except ClientError as error:
            if _is_final(error) and (lost := self._own.pop(key, None)):
                _abort(self._bucket, key, lost)
            raise
        del self._own[key]
        return tag

    def _begin(self) -> str:
        def request() -> Mapping[str, Any]:
            about = {**self._about, **({"ChecksumAlgorithm": "CRC32"} if self._sums.crc else {})}
            return self._bucket.client.create_multipart_upload(**about)  # type: ignore[no-any-return]

        return str(self._sums.ask(request)["UploadId"])

    def _resume(self) -> str | None:
        """Return this process's unfinished upload, or the newest dead one; dead ones that do not help are removed."""
        key, found = self._about["Key"], None
        for upload in self._unfinished():
            own = self._own.get(key) == upload
            try:
                parts, now = self._parts(upload)
            except ClientError as error:
                if status_of(error) not in _REFUSED:
                    raise
                continue  # it has ended, or the credential may not look at it
            if not own and not _is_dead(parts.values(), now):
                continue
            if found is None and (own or all("ChecksumCRC32" in part for part in parts.values()) == self._sums.crc):
                found, self._sent = upload, parts
            elif not own:
                _abort(self._bucket, key, upload)
        return found

    def _parts(self, upload: str) -> tuple[dict[int, Mapping[str, Any]], float]:
        """Return the parts that were sent, and the store's time, in seconds since 1970."""
        pages = [*self._bucket.client.get_paginator("list_parts").paginate(UploadId=upload, **self._about)]
        headers = pages[0]["ResponseMetadata"]["HTTPHeaders"] if pages else {}
        date = headers.get("date")
        now = parse_timestamp(date).timestamp() if date else time.time()
        return {part["PartNumber"]: part for page in pages for part in page.get("Parts", ())}, now

    def _unfinished(self) -> list[str]:
        key = self._about["Key"]
        found = [u for u in _uploads(self._bucket, key) if u["Key"] == key]
        ids = [str(u["UploadId"]) for u in sorted(found, key=lambda u: u["Initiated"], reverse=True)]
        own = self._own.get(key)
        return [own, *(id_ for id_ in ids if id_ != own)] if own in ids else ids

    def _part(self, upload: str, number: int) -> dict[str, Any]:
        with self._room, self._file.open("rb") as stream:
            stream.seek((number - 1) * self._length)
            data = stream.read(self._length)
            sent: Mapping[str, Any] = self._sent.get(number, {})
            if not _is_same(sent, data):
                about = {"UploadId": upload, "PartNumber": number, **self._about}
                sent = self._sums.send(self._bucket.client.upload_part, data, **about)
        crc = {"ChecksumCRC32": _crc32(data)} if self._sums.crc else {}
        tag = sent.get("ETag") or f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
        return {"PartNumber": number, "ETag": tag, **crc}


def _is_final(error: ClientError) -> bool:
    """Return whether no other try can go on with an upload: it has ended, somebody else changed it, or its parts are refused."""
    status, code = status_of(error), str(error.response.get("Error", {}).get("Code"))
    if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS) or code in _PASSING:
        return False
    return status < HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.INSUFFICIENT_STORAGE


def _is_dead(parts: Iterable[Mapping[str, Any]], now: float) -> bool:
    """Return whether an upload that has parts has got none for a long time."""
    times = [str(part.get("LastModified", "")) for part in parts]
    return all(times) and bool(times) and now - max(parse_timestamp(t).timestamp() for t in times) > DEAD_AFTER


def _is_same(sent: Mapping[str, Any], data: bytes) -> bool:
    if sent.get("Size") != len(data):
        return False
    if crc := sent.get("ChecksumCRC32"):
        return bool(crc == _crc32(data))
    return str(sent.get("ETag", "")).strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()


def part_size(size: int) -> int:
    """Return the bytes of each part except the last, for a file of that size: whole MiB, at most S3's number of parts."""
    return max(PART, -(-size // (_MOST_PARTS * MIB)) * MIB)


def _crc32(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def _tag(answer: Mapping[str, Any]) -> str | None:
    """Return the entity tag of what was uploaded; older Ceph answers with an empty one."""
    return str(answer.get("ETag") or "").strip('"') or None


def _uploads(bucket: Bucket, prefix: str) -> list[Mapping[str, Any]]:
    """Return the unfinished multipart uploads below a prefix; none if the credential may not list them."""
    pages = bucket.client.get_paginator("list_multipart_uploads").paginate(Prefix=prefix, **bucket.about)
    try:
        return [upload for page in pages for upload in page.get("Uploads", ())]
    except ClientError as error:
        if status_of(error) in _REFUSED:
            return []
        raise


def _abort(bucket: Bucket, key: str, upload: str) -> None:
    with contextlib.suppress(ClientError):  # it has ended already, or is left to the bucket's lifecycle rules
        bucket.client.abort_multipart_upload(Key=key, UploadId=upload, **bucket.about)
