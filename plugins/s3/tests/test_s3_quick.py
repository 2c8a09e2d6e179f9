"""What is quicker than botocore gives what botocore gives."""

from xml.sax.saxutils import escape

import botocore.session
import pytest
from botocore.loaders import JSONFileLoader, Loader
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st
from tests.servers.s3 import Gateway

from tunewright_s3 import quick

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
SPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
FIELDS = ("Key", "Size", "ETag")


@pytest.fixture(scope="module")
def shape():
    model = botocore.session.Session().get_service_model("s3")
    return model.operation_model("ListObjectsV2").output_shape


def page_of(body: str, shape, *, status: int = 200, quickly: bool) -> dict:
    """What botocore makes of an answer, with and without us."""
    response = {"status_code": status, "headers": {}, "body": body.encode()}
    taken: dict[str, object] = {}
    if quickly:
        quick.take_objects(operation_model=None, response_dict=response, customized_response_dict=taken)
    return {**create_parser("rest-xml").parse(response, shape), **taken}


def listing(objects: list[tuple[str, int]], space: str = SPACE) -> str:
    found = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f"<Owner><ID>one</ID></Owner><ETag>&quot;{size:032x}&quot;</ETag><Size>{size}</Size></Contents>"
        for key, size in objects
    )
    rest = (
        "<Name>bench</Name><Prefix>a &amp; b/</Prefix><IsTruncated>true</IsTruncated><EncodingType>url</EncodingType>"
    )
    more = "<NextContinuationToken>next/1+=</NextContinuationToken>"
    return f"{HEAD}<ListBucketResult {space}>{rest}{found}{more}</ListBucketResult>"


texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), min_size=1)


@given(st.lists(st.tuples(texts, st.integers(0, 5 * 2**40)), max_size=5), st.sampled_from([SPACE, ""]))
def test_a_page_is_botocores(shape, objects: list[tuple[str, int]], space: str) -> None:
    body = listing(objects, space)
    found, expected = page_of(body, shape, quickly=True), page_of(body, shape, quickly=False)
    contents = [{name: item[name] for name in FIELDS} for item in expected.pop("Contents", [])]
    assert found.pop("Contents", []) == contents
    assert found == expected
    assert len(contents) == len(objects)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (f"{HEAD}<Error><Code>SlowDown</Code><Message>…</Message></Error>", 503),
        (f"{HEAD}<Error><Code>InternalError</Code></Error>", 200),
        (listing([("x", 1)]).replace("<ETag>", "<Tag>").replace("</ETag>", "</Tag>"), 200),
    ],
    ids=["refused", "refused too late", "without ETags"],
)
def test_what_is_no_page_of_objects_is_left_to_botocore(shape, body: str, status: int) -> None:
    assert page_of(body, shape, status=status, quickly=True) == page_of(body, shape, status=status, quickly=False)


def test_an_answer_that_is_cut_off_is_left_to_botocore(shape) -> None:
    response = {"status_code": 200, "headers": {}, "body": listing([("x", 1)])[:-30].encode()}
    before = dict(response)
    taken: dict[str, object] = {}
    quick.take_objects(response_dict=response, customized_response_dict=taken)
    assert (response, taken) == (before, {})


def test_files_are_read_as_botocore_reads_them() -> None:
    loader = Loader()
    folder = loader.BUILTIN_DATA_PATH
    for name in ("endpoints", "partitions", "s3/2006-03-01/service-2", "s3/2006-03-01/endpoint-rule-set-1"):
        found, expected = (files.load_file(f"{folder}/{name}") for files in (quick._Files(), JSONFileLoader()))
        assert found == expected
        assert found
    assert quick._Files().load_file(f"{folder}/not-there") is None


def test_services_are_those_that_botocore_finds() -> None:
    loader = Loader()
    expected = loader.list_available_services("service-2")
    quick.make_quick(loader)
    assert set(expected) <= set(loader.list_available_services("service-2"))


def test_keys_come_from_a_real_server_as_they_are(gateway: Gateway, source) -> None:
    keys = ["quick/a b+c&d.bin", "quick/x=y;z,'\"<>.bin", "quick/ü/%41.bin"]
    for size, key in enumerate(keys):
        gateway.put(key, b"1" * size)
    bucket, _ = source("quick")._open_bucket()
    (page,) = bucket.pages("quick/")
    assert [(found.key, found.size) for found in page.objects] == list(zip(keys, range(3), strict=True))
    raw = bucket._page({**bucket.about, "Prefix": "quick/"})
    assert {tuple(item) for item in raw["Contents"]} == {FIELDS}, "by us"
