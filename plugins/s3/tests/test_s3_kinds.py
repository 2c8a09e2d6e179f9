"""Stores of other makers: what they do not know, how their buckets are called, and what they say."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.servers.faulty import Answer, FaultyServer, Request
from tests.servers.s3 import BUCKET, Gateway, S3Proxy

from tunewright import ExitCode, FetchError
from tunewright.providers.limits import FetchLimits
from tunewright_launcher.engine import fetch_snapshot
from tunewright_s3 import S3ModelParams
from tunewright_s3.access import Access
from tunewright_s3.bucket import Bucket

Source = Callable[..., S3ModelParams]

LIMITS = FetchLimits(connections=4, stall=2, tries=1)
POINT = "arn:aws:s3:eu-west-1:123456789012:accesspoint/my-point"


def fetch(provider: S3ModelParams, folder: Path) -> dict[str, bytes]:
    list(fetch_snapshot(provider.snapshot(), folder, limits=LIMITS))
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_store_that_refuses_to_be_asked_for_checksums_is_asked_without(
    gateway: Gateway, proxy: S3Proxy, source: Source, folder: Path
) -> None:
    files = {"small": b"small", "large": bytes(9 << 20)}
    for name, body in files.items():
        gateway.put(f"modes/{name}", body)
    proxy.unknown = ("x-amz-checksum-mode",)
    assert fetch(source("modes"), folder) == files


def test_what_a_store_says_is_part_of_every_refusal(
    gateway: Gateway, proxy: S3Proxy, source: Source, folder: Path
) -> None:
    gateway.put("said/a", b"a")
    proxy.unknown = ("x-amz-date",)
    for uri in ("said", "said/a"):
        with pytest.raises(FetchError, match="Unsupported header 'x-amz-date' received for this API call"):
            fetch(source(uri), folder)
    with pytest.raises(FetchError, match="Unsupported header"):
        source("said").store().check_writable()


def test_who_pays_is_said_in_every_request(gateway: Gateway, proxy: S3Proxy, source: Source, folder: Path) -> None:
    gateway.put("paid/a", b"a")
    gateway.put("paid/large", bytes(9 << 20))
    assert set(fetch(source("paid", request_payer="requester"), folder)) == {"a", "large"}
    assert {request.headers.get("x-amz-request-payer") for request in proxy.log} == {"requester"}
    proxy.refusals = [("list-type", 403, "AccessDenied")]
    with pytest.raises(FetchError, match="request_payer='requester'"):
        fetch(source("paid"), folder)


class Recording(FaultyServer):
    """Knows no bucket, and records what it was asked for."""

    def answer(self, request: Request) -> Answer:
        return Answer(status=404, body=b"<Error><Code>NoSuchBucket</Code><Message>none</Message></Error>")


@pytest.fixture
def recording(services_read_once: None) -> Iterator[Recording]:
    with Recording() as server:
        yield server


@pytest.mark.parametrize("bucket", ["My_Bucket", "MyBucket", "tenant:bucket"])
def test_what_buckets_there_are_is_for_the_store_to_say(recording: Recording, source: Source, bucket: str) -> None:
    provider = source("", uri=f"s3://{bucket}/key", endpoint_url=recording.url)
    with pytest.raises(FetchError, match=f"s3://{bucket}/key .*NoSuchBucket") as caught:
        list(provider.snapshot().entries())
    assert caught.value.code is ExitCode.NOT_FOUND
    assert recording.log[0].path == f"/{bucket}"


def test_an_access_point_has_a_host_of_its_own(services_read_once: None) -> None:
    bucket = Bucket(POINT, Access(access_key_id="key", secret_access_key="secret", region="eu-west-1"))
    url = urlsplit(bucket.request("a/b", {}).url)
    assert (url.netloc, url.path) == ("my-point-123456789012.s3-accesspoint.eu-west-1.amazonaws.com", "/a/b")


def test_an_object_beside_a_folder_with_one_of_its_name_is_told_apart(
    gateway: Gateway, proxy: S3Proxy, source: Source, folder: Path
) -> None:
    gateway.put("both/dd", b"the object")
    gateway.put("both/dd-dd", b"inside")
    proxy.rewrite = {"both/dd-dd": "both/dd/dd"}  # which the file system below this store cannot have
    with pytest.raises(FetchError, match=f"Write s3://{BUCKET}/both/dd/ for the folder"):
        fetch(source("both/dd"), folder)


def test_a_credential_that_ends_in_a_line_break_is_one(gateway: Gateway, source: Source) -> None:
    gateway.put("broken/a", b"a")
    asked = source("broken")
    secrets = {
        "AWS_ACCESS_KEY_ID": f"{asked.access_key_id}\n",
        "AWS_SECRET_ACCESS_KEY": f"{asked.secret_access_key}\r\n",
    }
    params = {"uri": asked.uri, "endpoint_url": asked.endpoint_url, "region": asked.region}
    found = S3ModelParams.load_config(params, secrets)  # type: ignore[arg-type] # JSON values
    assert [entry.path for entry in found.snapshot().entries()] == ["a"]


def test_a_proxy_that_wants_a_password_is_named(
    recording: Recording, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asking(FaultyServer):
        def answer(self, request: Request) -> Answer:
            return Answer(status=407, body=b"<html><title>Authentication required</title></html>")

    with Asking() as proxy:
        for scheme in ("http", "https"):
            monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
            provider = source("a", endpoint_url=f"{scheme}://store.invalid")
            with pytest.raises(FetchError, match=r"proxy.*https_proxy=http://USER:PASSWORD@HOST:PORT") as caught:
                list(provider.snapshot().entries())
            assert caught.value.code is ExitCode.NO_PERMISSION
