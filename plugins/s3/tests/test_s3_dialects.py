"""Stores that speak S3 roughly: they list by the old request alone, refuse conditions, or answer with other tags than they list."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from tests.servers.faulty import Answer, Request
from tests.servers.s3 import BUCKET, Gateway, S3Proxy, _refused

from tunewright import ExitCode, FetchError
from tunewright.providers.limits import FetchLimits
from tunewright_launcher.engine import fetch_snapshot
from tunewright_s3 import S3ModelParams
from tunewright_s3.listing import Marker, query_of, read_page

MIB = 1 << 20
LARGE = bytes(range(256)) * (9 * MIB // 256)
FILES = {"a": b"a", "b c+%/d": b"b" * 1000, "large": LARGE}
LIMITS = FetchLimits(connections=4, tries=3)

Source = Callable[..., S3ModelParams]


class Dialect(S3Proxy):
    """Lists two objects a page.

    Attributes:
        version_2: how ListObjectsV2 is answered: "" as it should be, "refused", "unknown" (as if it were ListObjects), "again" (with its
            first page), "twice" (each object stands there two times).
        condition: how If-Match is answered: "" as it should be, or a status.
        other_tags: whether listings have other tags than answers.
    """

    version_2 = ""
    condition: int | None = None
    other_tags = False

    def answer(self, request: Request) -> Answer:
        if self.condition and "if-match" in request.headers:
            return _refused(self.condition, "NotImplemented", "If-Match is not implemented.")
        if "prefix=" not in request.target:
            return super().answer(request)
        if "list-type=2" in request.target and self.version_2 == "refused":
            return _refused(400, "InvalidArgument", "list-type is not known.")
        target = request.target
        if self.version_2 == "again":
            target = re.sub(r"continuation-token=[^&]*&", "", target)
        elif self.version_2:
            target = target.replace("list-type=2&", "")
        found = self._listed(target)
        return Answer(headers=found.headers, body=self._rewritten(found.body))

    def _listed(self, target: str) -> Answer:
        """Answer another request than the one that was signed, which the store's own client signs."""
        asked = {name: value for name, (value,) in parse_qs(target.partition("?")[2]).items()}
        old = "list-type" not in asked
        about = {"Marker": asked.get("marker", "")} if old else {}
        if token := asked.get("continuation-token"):
            about["ContinuationToken"] = token
        bodies: list[bytes] = []
        client = self._store.client(self._store.url)
        name = "ListObjects" if old else "ListObjectsV2"
        client.meta.events.register(
            f"before-parse.s3.{name}", lambda response_dict, **_: bodies.append(response_dict["body"])
        )
        ask = client.list_objects if old else client.list_objects_v2
        ask(Bucket=BUCKET, Prefix=asked["prefix"], MaxKeys=2, EncodingType="url", **about)
        return Answer(headers={"Content-Type": "application/xml"}, body=bodies[0])

    def _rewritten(self, body: bytes) -> bytes:
        if self.version_2 == "unknown":
            body = re.sub(rb"<NextMarker>[^<]*</NextMarker>", b"", body)
        if self.version_2 == "twice":
            body = re.sub(rb"(<Contents>.*?</Contents>)", rb"\1\1", body)
        if self.other_tags:
            body = re.sub(rb"<ETag>[^<]*</ETag>", b"<ETag>&#34;" + b"f" * 32 + b"&#34;</ETag>", body)
        return body


@pytest.fixture
def dialect(gateway: Gateway, services_read_once: None) -> Iterator[Dialect]:
    for name, body in FILES.items():
        gateway.put(f"dialects/{name}", body)
    with Dialect(gateway) as server:
        yield server


def fetched(source: S3ModelParams, folder: Path) -> dict[str, bytes]:
    list(fetch_snapshot(source.snapshot(), folder, limits=LIMITS))
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("stated", [True, False], ids=["stated", "botocore"])
@pytest.mark.parametrize("version_2", ["", "refused", "unknown", "twice"])
def test_a_store_without_version_2_of_the_listing_is_read(
    dialect: Dialect, source: Source, folder: Path, version_2: str, stated: bool
) -> None:
    dialect.version_2 = version_2
    model = source("dialects", endpoint_url=dialect.url, addressing_style="path")
    snapshot = model.snapshot()
    if not stated:
        assert snapshot._bucket.client
    list(fetch_snapshot(snapshot, folder, limits=LIMITS))
    assert {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()} == FILES


@pytest.mark.slow
def test_a_listing_that_does_not_get_on_is_refused(dialect: Dialect, source: Source) -> None:
    dialect.version_2 = "again"
    output = source("dialects", endpoint_url=dialect.url).store()
    with pytest.raises(FetchError, match="sends the same page of it again") as caught:
        list(output.entries(""))
    assert caught.value.code is ExitCode.BAD_DATA
    assert "proxy" in caught.value.remedy


@pytest.mark.slow
@pytest.mark.parametrize(("condition", "other_tags"), [(501, False), (400, False), (412, False), (None, True)])
def test_a_store_that_refuses_its_own_tags_is_read_without(
    dialect: Dialect, source: Source, folder: Path, condition: int | None, other_tags: bool
) -> None:
    dialect.condition, dialect.other_tags = condition, other_tags
    assert fetched(source("dialects", endpoint_url=dialect.url), folder) == FILES


def test_a_page_of_the_old_listing_says_what_comes_after_it() -> None:
    page = b"<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>"
    listed = read_page(page)
    assert isinstance(listed.token, Marker)
    assert query_of("p/", listed.token) == "encoding-type=url&marker=a&prefix=p%2F"
    named = page.replace(
        b"</IsTruncated>", b"</IsTruncated><EncodingType>url</EncodingType><NextMarker>a%2Fb</NextMarker>"
    )
    assert read_page(named).token == "a/b"
