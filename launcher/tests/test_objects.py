"""Objects below a prefix as the files of a snapshot."""

import hashlib
from collections.abc import Iterator, Sequence

import attrs
import pytest
from tests.servers.faulty import FileServer

from tunewright_launcher.http_client import Http, HttpRequest
from tunewright_launcher.objects import Object, ObjectSnapshot, Page

FILES = {"data.bin": b"data", "small/1": b"one", "small/2": b"two"}
SUMS = "".join(f"{hashlib.sha256(body).hexdigest()}  {name}\n" for name, body in FILES.items()).encode()


@attrs.define
class Listed:
    """A bucket that a web server has, listed in pages of two."""

    server: FileServer
    keys: Sequence[str]
    http: Http = attrs.field(factory=Http)

    def uri(self, key: str = "") -> str:
        return f"store://bucket/{key}"

    def pages(self, prefix: str) -> Iterator[Page]:
        for number in range(0, len(self.keys), 2):
            objects = [Object(key, len(self.server.files[f"/{key}"])) for key in self.keys[number : number + 2]]
            yield Page(objects, number + 2 < len(self.keys))

    def get(self, key: str) -> HttpRequest:
        return HttpRequest(url=f"{self.server.url}/{key}")


@pytest.mark.parametrize(
    ("last", "asked"),
    [
        ("small/2", []),
        ("b.bin", ["/m/complete.json", "/m/SHA256SUMS"]),
        ("large.bin", ["/m/SHA256SUMS"]),
        (None, ["/m/complete.json", "/m/SHA256SUMS"]),
    ],
    ids=["passed", "before both", "passed but for case", "not in order"],
)
def test_a_file_with_digests_is_asked_for_only_where_a_later_page_may_have_it(
    last: str | None, asked: list[str]
) -> None:
    keys = ["m/small/1", "m/a"] if last is None else ["m/a", f"m/{last}"]
    keys += ["m/z"]
    with FileServer({f"/{key}": b"x" for key in keys}) as server:
        found = list(ObjectSnapshot(Listed(server, keys), "m").entries())
        assert [request.path for request in server.log] == asked
    assert [entry.path for entry in found] == [key.removeprefix("m/") for key in keys]


@pytest.mark.parametrize("backwards", [False, True])
def test_digests_are_found_wherever_the_file_with_them_is_listed(backwards: bool) -> None:
    files = {f"/m/{name}": body for name, body in {**FILES, "SHA256SUMS": SUMS}.items()}
    keys = sorted((path[1:] for path in files), reverse=backwards)
    with FileServer(files) as server:
        found = {entry.path: entry.digests for entry in ObjectSnapshot(Listed(server, keys), "m").entries()}
    assert {path for path, digests in found.items() if digests} == set(FILES)
