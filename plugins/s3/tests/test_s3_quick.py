"""What is quicker than botocore gives what botocore gives."""

from collections.abc import Callable
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import botocore.session
import pytest
from botocore.handlers import decode_list_object_v2
from botocore.loaders import JSONFileLoader, Loader
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st
from tests.servers.s3 import ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Gateway

from tunewright_s3 import S3ModelParams, quick
from tunewright_s3.access import Access, stated_place
from tunewright_s3.client import Client
from tunewright_s3.listing import read_page

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
SPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
ENCODED = "<EncodingType>url</EncodingType>"


@pytest.fixture(scope="module")
def shape():
    model = botocore.session.Session().get_service_model("s3")
    return model.operation_model("ListObjectsV2").output_shape


def of_botocore(body: str, shape) -> dict:
    """What botocore makes of a listing."""
    response = {"status_code": 200, "headers": {}, "body": body.encode()}
    found = create_parser("rest-xml").parse(response, shape)
    decode_list_object_v2(found, {"encoding_type_auto_set": True})
    return found


def listing(objects: list[tuple[str, int]], space: str = SPACE, *, encoded: bool = False, more: bool = True) -> str:
    found = "".join(
        f"<Contents><Key>{escape(quote_plus(key) if encoded else key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f"<Owner><ID>one</ID></Owner><ETag>&quot;{size:032x}&quot;</ETag><Size>{size}</Size></Contents>"
        for key, size in objects
    )
    rest = f"<Name>bench</Name><Prefix>a &amp; b/</Prefix><IsTruncated>{str(more).lower()}</IsTruncated>"
    token = "<NextContinuationToken>next/1+=</NextContinuationToken>" if more else ""
    return f"{HEAD}<ListBucketResult {space}>{rest}{ENCODED if encoded else ''}{found}{token}</ListBucketResult>"


texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), min_size=1)


@given(
    st.lists(st.tuples(texts, st.integers(0, 5 * 2**40)), max_size=5),
    st.sampled_from([SPACE, ""]),
    st.booleans(),
    st.booleans(),
)
def test_a_page_is_botocores(shape, objects: list[tuple[str, int]], space: str, encoded: bool, more: bool) -> None:
    body = listing(objects, space, encoded=encoded, more=more)
    found, expected = read_page(body.encode()), of_botocore(body, shape)
    contents = [(item["Key"], item["Size"], item["ETag"]) for item in expected.get("Contents", [])]
    assert [(o.key, o.size, o.validator) for o in found.page.objects] == contents
    assert [o.key for o in found.page.objects] == [key for key, _ in objects]
    assert (found.page.more, found.token) == (expected["IsTruncated"], expected.get("NextContinuationToken"))


@pytest.mark.parametrize(
    "body",
    [
        f"{HEAD}<Error><Code>InternalError</Code></Error>",
        listing([("x", 1)]).replace("Key>", "Name>"),
        listing([("x", 1)]).replace("<Size>1", "<Size>one"),
        listing([("x", 1)])[:-30],
        listing([]).replace("NextContinuationToken", "Next"),
        "<html><body>Please log in.</body></html>",
        "",
    ],
    ids=["refused too late", "without keys", "size", "cut off", "without a token", "html", "nothing"],
)
def test_what_is_no_page_of_objects_is_refused(body: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
        read_page(body.encode())


def test_botocore_reads_what_we_cannot() -> None:
    response = {"status_code": 200, "headers": {}, "body": b"<Error/>"}
    before, taken = dict(response), {}
    quick.take_page(response_dict=response, customized_response_dict=taken)
    assert (response, list(taken)) == (before, ["Problem"])


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


Source = Callable[..., S3ModelParams]


def pages_of(provider: S3ModelParams, prefix: str, *, stated: bool) -> list[tuple[str, int]]:
    bucket, _ = provider._open_bucket()
    assert (bucket.client if not stated else bucket._stated) is not None
    return [(found.key, found.size) for page in bucket.pages(prefix) for found in page.objects]


@pytest.mark.parametrize("stated", [True, False])
def test_keys_come_from_a_real_server_as_they_are(gateway: Gateway, source: Source, stated: bool) -> None:
    keys = ["quick/a b+c&d.bin", "quick/x=y;z,'\"<>.bin", "quick/ü/%41.bin"]
    for size, key in enumerate(keys):
        gateway.put(key, b"1" * size)
    assert pages_of(source("quick"), "quick/", stated=stated) == list(zip(keys, range(3), strict=True))


def test_a_bucket_in_another_region_is_found(gateway: Gateway, source: Source) -> None:
    gateway.put("region/a", b"1")
    provider = source("region", region="eu-central-1")
    bucket, _ = provider._open_bucket()
    assert [page.objects[0].key for page in bucket.pages("region/")] == ["region/a"]
    assert bucket._stated is None, "botocore has found it"
    assert [entry.path for entry in provider.snapshot().entries()] == ["a"]


@pytest.mark.parametrize(
    ("said", "variables"),
    [
        ({"endpoint_url": None}, {}),
        ({"addressing_style": "virtual"}, {}),
        ({"endpoint_url": "https://s3.eu-west-1.amazonaws.com"}, {}),
        ({}, {"AWS_PROFILE": "one"}),
        ({"access_key_id": None, "secret_access_key": None}, {}),
    ],
    ids=["Amazon's", "in the host", "Amazon's by its URL", "a profile", "no credential"],
)
def test_what_is_not_stated_is_left_to_botocore(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, str | None], variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    usual = {"endpoint_url": "http://127.0.0.1:1", "access_key_id": "key", "secret_access_key": "secret"}
    assert stated_place("bucket", Access(**usual)) is None or not variables
    assert stated_place("bucket", Access(**{**usual, **said})) is None


def test_a_credential_of_the_environment_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret"), ("SESSION_TOKEN", "token")):
        monkeypatch.setenv(f"AWS_{name}", value)
    place = stated_place("bu_cket", Access(endpoint_url="https://host:9000/s3/"))
    assert place is not None
    assert (place.origin, place.host, place.folder) == ("https://host:9000", "host:9000", "/s3/bu_cket/")
    assert place.keys() == ("key", "secret", "token")


@pytest.mark.parametrize("bucket", ["bucket", "My_Bucket", "a.b-c"])
@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9000", "https://host.example/s3/", "https://[::1]:9000"])
def test_a_stated_place_is_botocores(services_read_once: None, bucket: str, endpoint: str) -> None:
    access = Access(endpoint_url=endpoint, access_key_id="key", secret_access_key="secret", region="r")
    found, expected = stated_place(bucket, access), Client(bucket, access, {"Bucket": bucket}).place()
    assert found is not None
    assert (found.origin, found.folder, found.host) == (expected.origin, expected.folder, expected.host)


def test_a_fetch_from_a_stated_place_imports_no_botocore(gateway: Gateway, step) -> None:
    gateway.put("light/a", b"1")
    provider = S3ModelParams(uri=f"s3://{BUCKET}/light", endpoint_url=gateway.url, region=REGION)
    env = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "PYTHONPROFILEIMPORTTIME": "1"}
    output = step.run(provider, env)
    assert "tunewright_s3.bucket" in output
    assert "botocore" not in output
