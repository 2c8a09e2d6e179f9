"""The client half of `gs://`."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright import RequestError
from tunewright.providers.uris import path_problem
from tunewright.testing import DatasetProviderTests, ModelProviderTests
from tunewright_gs import GSDatasetParams, GSModelParams, format_uri, parse_uri

KEY = json.dumps({"type": "service_account", "private_key": "a-key-for-the-test", "client_email": "a@b.example"})
PREFIXES = st.text(min_size=1).filter(lambda s: not path_problem(s))
BUCKETS = st.from_regex(r"[a-z0-9][a-z0-9_-]{1,10}[a-z0-9]", fullmatch=True)


class TestGSModel(ModelProviderTests):
    name, tested_elsewhere = "gs", "plugins/gs/tests/test_gs_kit.py"

    def provider(self) -> GSModelParams:
        return GSModelParams(
            uri="gs://bucket/model", service_account_key=KEY, user_project="p", allow_patterns="*.json"
        )


class TestGSDataset(DatasetProviderTests):
    name, tested_elsewhere = "gs", "plugins/gs/tests/test_gs_kit.py"

    def provider(self) -> GSDatasetParams:
        return GSDatasetParams(
            uri="gs://bucket/train", eval_dataset="gs://bucket/eval", access_token="a-token-for-the-test"
        )


@given(BUCKETS, st.just("") | PREFIXES)
def test_a_uri_is_parsed_as_it_is_formatted(bucket: str, prefix: str) -> None:
    uri = format_uri(bucket, prefix)
    if uri != uri.strip() or not uri.isprintable():
        return
    try:
        assert parse_uri(uri) == (bucket, prefix)
    except RequestError as error:
        assert "token" in str(error)  # noqa: PT017 - text that looks like a credential


@pytest.mark.parametrize(
    "uri",
    ["gs://", "gs:///a", "gs://Bucket/a", "gs://a..b/c", "gs://bucket/../a", "gs://bucket/a//b", "gs://bucket:443/a",
     "gs://user:password@bucket/a", "gs+x://bucket/a"],
)  # fmt: skip
def test_what_is_no_place_in_a_bucket_is_refused(uri: str) -> None:
    with pytest.raises(RequestError):
        GSDatasetParams(uri=uri)
    with pytest.raises(RequestError):
        GSDatasetParams(uri="gs://bucket/a", eval_dataset=uri)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"service_account_key": "/path/key.json"}, "service_account_key"),
        ({"service_account_key": '{"type": "authorized_user"}'}, "service_account_key"),
        ({"service_account_key": KEY, "access_token": "t"}, "service_account_key"),
        ({"anonymous": True, "access_token": "t"}, "anonymous"),
        ({"anonymous": "yes"}, "anonymous"),
        ({"endpoint": "localhost:4443"}, "endpoint"),
        ({"user_project": ""}, "user_project"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, object], named: str) -> None:
    with pytest.raises(RequestError) as caught:
        GSDatasetParams(uri="gs://bucket/a", **fields)  # type: ignore[arg-type]
    assert caught.value.field.endswith(named)
    assert "key.json" not in str(caught.value)
