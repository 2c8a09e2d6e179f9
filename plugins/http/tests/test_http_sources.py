"""The client half of `https://` and `http://`: fields, and where a signature goes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright import RequestError, SecretRef, TrainingClient
from tunewright._planning.assemble import document_of
from tunewright.plugins.registry import Registry
from tunewright.providers import wire
from tunewright.testing import DatasetProviderTests, ModelProviderTests
from tunewright_http import HttpDatasetParams, HttpModelParams
from tunewright_http.uri import parse_uri, query_id

URL = "https://data.example/folder/train.jsonl"
SIGNATURE = "X-Signature=a-signature-for-the-test&e=1"
DIGEST = "ab" * 32


class TestHttpsModel(ModelProviderTests):
    name, tested_elsewhere = "https", "plugins/http/tests/test_http_kit.py"

    def provider(self) -> HttpModelParams:
        return HttpModelParams(uri=URL, token="a-token-for-the-test", token_header="PRIVATE-TOKEN", sha256=DIGEST)


class TestHttpsDataset(DatasetProviderTests):
    name, tested_elsewhere = "https", "plugins/http/tests/test_http_kit.py"

    def provider(self) -> HttpDatasetParams:
        return HttpDatasetParams(
            uri="https://data.example/train/",
            eval_dataset="https://data.example/eval/",
            username="a-user-for-the-test",
            password="a-password-for-the-test",
            allow_patterns="*.jsonl",
            manifest="sums.txt",
        )


class TestHttpDataset(DatasetProviderTests):
    name, tested_elsewhere = "http", "plugins/http/tests/test_http_kit.py"

    def provider(self) -> HttpDatasetParams:
        return HttpDatasetParams(uri=f"http://data.example/a?{SIGNATURE}", file_name="a.jsonl")


@pytest.mark.parametrize("slot", ["uri", "dataset"])
def test_a_signature_in_the_url_is_a_secret(slot: str) -> None:
    source = HttpDatasetParams(**{slot: f"{URL}?{SIGNATURE}"})  # type: ignore[arg-type]
    assert (source.uri, source.query) == (URL, SIGNATURE)
    assert "a-signature" not in repr(source)
    assert wire.unstructure(source, "dataset") == {"uri": URL, "query_id": query_id("e=1")}


def test_urls_that_ask_for_other_files_are_other_requests() -> None:
    def digest(query: str) -> str:
        source = HttpDatasetParams(uri=f"{URL}?{query}")
        return document_of("dataset", Registry().get("https"), source).request_digest()

    assert digest("id=1") != digest("id=2")
    assert digest("id=1&X-Amz-Signature=a&X-Amz-Date=b") == digest("X-Amz-Date=c&X-Amz-Signature=d&id=1")
    assert digest("sv=1&sig=a&se=b") == digest("sig=c")


def test_a_signature_shows_in_no_manifest() -> None:
    request = {"model": f"{URL}?{SIGNATURE}", "dataset": {"uri": f"{URL}?{SIGNATURE}"}, "trainer": "hf"}
    manifests = TrainingClient(backend="kubernetes", namespace="n").train(
        "job", **request, storage={"size": "1Gi"}, dry_run=True
    )
    assert "a-signature" not in manifests.to_yaml()
    assert URL in manifests.to_yaml()


def test_it_can_be_an_output() -> None:
    output = {"uri": URL, "username": "a-user-for-the-test", "password": "a-password-for-the-test", "provider": "https"}
    manifests = TrainingClient(backend="kubernetes", namespace="n").train(
        "job", model="hf://a/b", dataset="hf://datasets/a/b", trainer="hf", output=output,
        storage={"size": "1Gi"}, dry_run=True,
    )  # fmt: skip
    assert URL in manifests.to_yaml()
    assert "for-the-test" not in manifests.to_yaml()


@pytest.mark.parametrize(
    "uri",
    [
        "https:///a",
        "https:a",
        "ftp://data.example/a",
        "https://data.example:port/a",
        "https://[data.example/a",
        "https://data.example/a#part",
        "https://data.example/a b",
        "https://dätä.example/a",
        "https://data.example/%2e%2e/a",
        "https://data.example/..%2Fa",
        "https://data.example/a%00",
        "https://data.example/a%5Cb",
        "https://data.example/../a",
    ],
)
def test_what_is_no_place_on_a_web_server_is_refused(uri: str) -> None:
    with pytest.raises(RequestError):
        HttpDatasetParams(uri=uri)
    with pytest.raises(RequestError):
        HttpDatasetParams(uri=URL, eval_dataset=uri)


@pytest.mark.parametrize("user", ["name:a-wrong-token", "a-wrong-token"])
def test_credentials_in_the_url_are_refused_unseen(user: str) -> None:
    with pytest.raises(RequestError, match="token=") as caught:
        HttpDatasetParams(uri=f"https://{user}@data.example/a")
    assert "a-wrong-token" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"sha256": "abc"}, "sha256"),
        ({"sha256": DIGEST, "uri": "https://data.example/folder/"}, "sha256"),
        ({"sha256": DIGEST, "eval_dataset": URL}, "sha256"),
        ({"file_name": "a/b"}, "file_name"),
        ({"file_name": ".."}, "file_name"),
        ({"token_header": "A: b"}, "token_header"),
        ({"token": "two\nlines"}, "token"),
        ({"token": "täken"}, "token"),
        ({"token": "t", "username": "u", "password": "p"}, "token"),
        ({"username": "u"}, "password"),
        ({"uri": f"{URL}?a=1", "query": "a=2"}, "query"),
        ({"eval_dataset": f"{URL}?a=1"}, "eval_dataset"),
        ({"uri": f"{URL}?a=1", "eval_dataset": f"{URL}?a=2"}, "eval_dataset"),
        ({"token": "t", "eval_dataset": "https://other.example/a"}, "eval_dataset"),
        ({"uri": f"{URL}?a=1", "eval_dataset": "https://other.example/a"}, "eval_dataset"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, str], named: str) -> None:
    with pytest.raises(RequestError) as caught:
        HttpDatasetParams(**{"uri": URL, **fields})  # type: ignore[arg-type]
    assert caught.value.field.endswith(named)


def test_two_urls_may_share_a_query_and_a_secret_may_be_a_reference() -> None:
    both = HttpDatasetParams(uri=f"{URL}?a=1", eval_dataset="https://data.example/eval?a=1")
    assert (both.query, both.eval_dataset) == ("a=1", "https://data.example/eval")
    assert HttpDatasetParams(uri=URL, query=SecretRef(name="s", key="k")).query == SecretRef(name="s", key="k")


@given(st.text())
def test_no_name_leads_out_of_the_folder(text: str) -> None:
    try:
        name = parse_uri(f"https://data.example/{text}").name
    except RequestError:
        return
    assert "/" not in name
    assert name not in (".", "..")
