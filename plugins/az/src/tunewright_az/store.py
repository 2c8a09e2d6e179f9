"""Write outputs and checkpoints below an `az://` URI."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from xml.etree import ElementTree as ET

from tunewright.providers import Snapshot
from tunewright_az.container import Container
from tunewright_az.snapshot import AzureSnapshot
from tunewright_launcher.http import Headers
from tunewright_launcher.objects import ObjectStore

MIB = 1 << 20
BLOCK = 16 * MIB
_MOST_BLOCKS = 50_000  # Azure's limit
_BLOCKS_AT_ONCE = 8  # of all files together; each is in memory while it is sent
_OF_ONE_FILE = 4


class AzureStore(ObjectStore):
    """The blobs below a prefix, for writing. Azure compares the MD5 of everything that it receives.

    Args:
        container: the container.
        prefix: the prefix; "" for the whole container.
    """

    def __init__(self, container: Container, prefix: str) -> None:
        super().__init__(container, prefix)
        self._container = container
        self._room = threading.BoundedSemaphore(_BLOCKS_AT_ONCE)

    def snapshot(self, folder: str) -> Snapshot:
        """See `Store.snapshot`."""
        return AzureSnapshot(self._container, self.prefix(folder))

    def send(self, key: str, file: Path) -> str | None:
        """Upload a file, and return its entity tag. Blocks of a large one that an earlier attempt has sent are not sent again."""
        if file.stat().st_size > BLOCK:
            return self._in_blocks(key, file)
        data = file.read_bytes()
        headers = {"x-ms-blob-type": "BlockBlob", "Content-MD5": _md5(data)}
        return self._ask(key, method="PUT", headers=headers, body=data).get("ETag")

    def delete_one(self, key: str) -> None:
        """See `ObjectStore.delete_one`."""
        request = self._container.request(key, method="DELETE", headers={"x-ms-delete-snapshots": "include"})
        self._container.ask(self._container.uri(key), request, also=(HTTPStatus.NOT_FOUND,))

    def _in_blocks(self, key: str, file: Path) -> str | None:
        size = file.stat().st_size
        length = block_size(size)
        sent = self._sent(key)
        with ThreadPoolExecutor(_OF_ONE_FILE) as pool:
            numbers = range(-(-size // length))
            blocks = list(pool.map(lambda number: self._block(key, file, number, length, sent), numbers))
        headers = {"x-ms-blob-content-md5": _md5_of(file), "Content-Type": "application/xml"}
        answer = self._ask(key, query={"comp": "blocklist"}, method="PUT", headers=headers, body=_list_of(blocks))
        return answer.get("ETag")

    def _sent(self, key: str) -> set[str]:
        """Return the blocks that an earlier attempt has sent."""
        query = {"comp": "blocklist", "blocklisttype": "uncommitted"}
        request = self._container.request(key, query=query)
        response, body = self._container.ask(self._container.uri(key), request, also=(HTTPStatus.NOT_FOUND,))
        if response.status == HTTPStatus.NOT_FOUND:
            return set()
        return {found.text or "" for found in ET.fromstring(body).iter("Name")}  # noqa: S314 - expat limits entities

    def _block(self, key: str, file: Path, number: int, length: int, sent: set[str]) -> str:
        """Send a block, which is named by its contents: that of another file never takes its place."""
        with self._room, file.open("rb") as stream:
            stream.seek(number * length)
            data = stream.read(length)
            md5 = _md5(data)
            name = base64.b64encode(f"{number:06}-{md5}".encode()).decode()
            if name not in sent:
                query = {"comp": "block", "blockid": name}
                self._ask(key, query=query, method="PUT", headers={"Content-MD5": md5}, body=data)
        return name

    def _ask(
        self, key: str, *, method: str, headers: dict[str, str], body: bytes, query: dict[str, str] | None = None
    ) -> Headers:
        request = self._container.request(key, query=query, method=method, headers=headers, body=body)
        response, _ = self._container.ask(self._container.uri(key), request)
        return response.headers


def block_size(size: int) -> int:
    """Return the bytes of each block except the last, for a file of that size: whole MiB, at most Azure's number of blocks."""
    return max(BLOCK, -(-size // (_MOST_BLOCKS * MIB)) * MIB)


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _md5_of(file: Path) -> str:
    with file.open("rb") as stream:
        return base64.b64encode(hashlib.file_digest(stream, _new_md5).digest()).decode()


def _new_md5() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)


def _list_of(blocks: Sequence[str]) -> bytes:
    root = ET.Element("BlockList")
    for name in blocks:
        ET.SubElement(root, "Uncommitted").text = name
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))
