"""The client half of `s3://`: URIs, fields, other spellings, and keys that show nowhere."""

import posixpath
import traceback
import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.servers.s3 import Gateway

from tunewright import RequestError, SecretRef
from tunewright.providers import wire
from tunewright.providers.fields import secret_env
from tunewright.testing import DatasetProviderTests, ModelProviderTests, OutputTargetTests, Served, Written
from tunewright_s3 import S3DatasetParams, S3ModelParams, format_uri, parse_uri

POINT = "arn:aws:s3:eu-west-1:123456789012:accesspoint/my-point"
URI = "s3://doc-example-bucket1/train_dataset"
KEY_ID, KEY, SESSION = "a-key-id-for-the-test", "a/secret+key/for-the-test", "a-session/for+the=test"

BUCKETS = st.from_regex(r"[a-z0-9][a-z0-9-]{1,20}[a-z0-9]", fullmatch=True)
SEGMENTS = st.text(st.characters(blacklist_categories=["C", "Z"], blacklist_characters="/\\"), min_size=1).filter(
    lambda s: s not in (".", "..")
)
PREFIXES = st.builds(
    lambda parts, end: "/".join(parts) + end * bool(parts), st.lists(SEGMENTS), st.sampled_from(["", "/"])
)


class TestS3Model(ModelProviderTests):
    name, tested_elsewhere = "s3", "plugins/s3/tests/test_s3_fetch.py"

    def provider(self) -> S3ModelParams:
        return S3ModelParams(
            uri="s3://models/llama/config.json",
            access_key_id=KEY_ID,
            secret_access_key=KEY,
            session_token=SESSION,
            region="us-west-2",
            endpoint_url="https://minio.example:9000",
            addressing_style="path",
            allow_patterns=["*.json"],
            version_id="3HL4kqtJvjVBH40Nrjfkd",
        )


class TestS3Dataset(DatasetProviderTests):
    name, tested_elsewhere = "s3", "plugins/s3/tests/test_s3_fetch.py"

    def provider(self) -> S3DatasetParams:
        return S3DatasetParams(uri=URI, eval_dataset="s3://other/eval", access_key_id=KEY_ID, secret_access_key=KEY)


@given(BUCKETS, PREFIXES)
def test_every_bucket_and_prefix_survives_its_uri(bucket: str, prefix: str) -> None:
    assert parse_uri(format_uri(bucket, prefix)) == (bucket, prefix)


@given(st.text())
def test_no_prefix_leads_out_of_a_folder(text: str) -> None:
    try:
        bucket, prefix = parse_uri(f"s3://bucket/{text}")
    except RequestError:
        return
    inside = posixpath.normpath(f"/target/{prefix}")
    assert bucket == "bucket"
    assert inside == "/target" or inside.startswith("/target/")


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix"),
    [
        ("s3://doc-example-bucket1/train_dataset", "doc-example-bucket1", "train_dataset"),
        ("s3://my.bucket", "my.bucket", ""),
        ("s3://my.bucket/", "my.bucket", ""),
        ("s3://abc/a b/c%20d?e#f/", "abc", "a b/c%20d?e#f/"),
        ("s3://My_Bucket/a", "My_Bucket", "a"),
        ("s3://tenant:bucket/a/b", "tenant:bucket", "a/b"),
        (f"s3://{POINT}", POINT, ""),
        (f"s3://{POINT}/a/b/", POINT, "a/b/"),
    ],
)
def test_uris_are_taken_as_they_stand(uri: str, bucket: str, prefix: str) -> None:
    assert parse_uri(uri) == (bucket, prefix)


@pytest.mark.parametrize(
    "uri",
    ["s3://", "s3:///key", "s3:bucket", "s3://-abc/d", "s3://a..b/c", "s3://../c", "s3://a%2Fb/c", "s3://a b/c",
     "s3://10.0.0.1/c", f"s3://{'a' * 256}/b", "s3://abc:9000/d", "s3://localhost/d", "s3://a:b:c/d", "s3://arn:aws:s3:::bucket/d",
     "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/../d", "s3://abc/../d", "s3://abc/d/..", "s3://abc/./d", "s3://abc//d",
     "s3://abc/d//e", "s3://abc/d\\..\\e", "s3://abc/d\0", "s3://abc/d\n", "s3+https://abc/d", "hf://abc/d", None],
)  # fmt: skip
def test_what_names_no_objects_is_refused(uri: str) -> None:
    with pytest.raises(RequestError, match=r"S3ModelParams\.uri"):
        S3ModelParams(uri=uri)
    if uri is not None:
        with pytest.raises(RequestError, match=r"S3DatasetParams\.eval_dataset"):
            S3DatasetParams(uri=URI, eval_dataset=uri)


@pytest.mark.parametrize("user", [f"{KEY_ID}:{KEY}", f"AKIA{'A' * 16}:x", f"{KEY_ID}:x"])
def test_keys_in_the_uri_are_refused_unseen(user: str) -> None:
    with pytest.raises(RequestError) as caught:
        S3ModelParams(uri=f"s3://{user}@bucket/key")
    assert not any(part in str(caught.value) for part in (*user.split(":"), *user.split("/")) if len(part) > 1)


def test_the_keps_example() -> None:
    source = S3DatasetParams(
        dataset=URI,
        eval_dataset="s3://doc-example-bucket1/eval_dataset",
        access_token=f"{KEY_ID}:{KEY}",
        region="us-west-2",
    )  # type: ignore[call-arg]
    plain = S3DatasetParams(
        uri=URI,
        eval_dataset="s3://doc-example-bucket1/eval_dataset",
        access_key_id=KEY_ID,
        secret_access_key=KEY,
        region="us-west-2",
    )
    assert source == plain


def test_the_keps_spellings_for_models_and_sessions() -> None:
    source = S3ModelParams(model=URI, access_token=f"{KEY_ID}:{KEY}:{SESSION}")  # type: ignore[call-arg]
    given = {env: value.reveal() for env, value in secret_env(source).items()}  # type: ignore[union-attr]
    assert source.uri == URI
    assert given == {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": KEY, "AWS_SESSION_TOKEN": SESSION}
    assert S3ModelParams(model=URI, access_token=None) == S3ModelParams(uri=URI)  # type: ignore[call-arg]


def test_the_1_9_sdks_spellings() -> None:
    source = S3DatasetParams(
        endpoint_url="https://minio.example",
        bucket_name="doc-example-bucket1",
        file_key="/train_dataset",
        region_name="us-west-2",
        access_key=KEY_ID,
        secret_key=KEY,
    )  # type: ignore[call-arg]
    assert source == S3DatasetParams(
        uri=URI, endpoint_url="https://minio.example", region="us-west-2", access_key_id=KEY_ID, secret_access_key=KEY
    )
    assert S3DatasetParams(bucket_name="abc").uri == "s3://abc"  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "token",
    ["s3 access token", KEY, f"{KEY_ID}:", f":{KEY}", f"{KEY_ID}:{KEY}:{SESSION}:more", f"{KEY_ID}: {KEY}", "", 3],
)
def test_a_malformed_access_token_is_refused_unseen(token: object) -> None:
    with pytest.raises(RequestError, match="KEY_ID:SECRET") as caught:
        S3DatasetParams(dataset=URI, access_token=token)  # type: ignore[call-arg]
    shown = "".join(traceback.format_exception_only(caught.value)).replace("KEY_ID:SECRET", "")
    assert not [part for part in str(token).split(":") if len(part) > 1 and part in shown]


def test_an_access_token_in_a_kubernetes_secret_is_refused_with_the_way_on() -> None:
    with pytest.raises(RequestError, match=r"access_key_id=SecretRef\(…\)"):
        S3DatasetParams(dataset=URI, access_token=SecretRef(name="aws", key="token"))  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "fields",
    [
        {"access_key_id": KEY_ID},
        {"secret_access_key": KEY},
        {"session_token": SESSION},
        {"anonymous": True, "access_key_id": KEY_ID, "secret_access_key": KEY},
        {"anonymous": True, "access_token": f"{KEY_ID}:{KEY}"},
        {"anonymous": "yes"},
        {"access_token": f"{KEY_ID}:{KEY}", "access_key_id": KEY_ID},
        {"dataset": "s3://other/key"},
        {"bucket_name": "other"},
        {"file_key": "key"},
        {"addressing_style": "sideways"},
        {"endpoint_url": f"https://{KEY_ID}:{KEY}@minio.example"},
        {"endpoint_url": "minio.example:9000"},
        {"endpoint_url": "https://s3.eu-west-1.amazonaws.com", "region": "us-west-2"},
        {"region": ""},
        {"region": " us-west-2"},
        {"version_id": "v1", "uri": "s3://bucket"},
        {"version_id": "v1", "uri": "s3://bucket/folder/"},
        {"version_id": "v1", "eval_dataset": "s3://bucket/eval"},
        {"allow_patterns": [""]},
    ],
)
def test_what_no_store_would_take_is_refused_unseen(fields: dict[str, object]) -> None:
    with pytest.raises(RequestError) as caught:
        S3DatasetParams(**{"uri": URI, **fields})  # type: ignore[arg-type]
    for secret in (KEY_ID, KEY, SESSION):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"anonymous": True},
        {"region": "eu-west-1", "endpoint_url": "https://s3.eu-west-1.amazonaws.com"},
        {"region": "us-gov-west-1", "endpoint_url": "https://s3.dualstack.us-gov-west-1.amazonaws.com"},
        {"region": "default", "endpoint_url": "http://rook-ceph.svc:80"},
        {"endpoint_url": "https://s3.amazonaws.com", "region": "us-east-1"},
    ],
)
def test_what_stores_take_is_taken(fields: dict[str, object]) -> None:
    source = S3DatasetParams(uri=URI, **fields)  # type: ignore[arg-type]
    assert wire.structure(S3DatasetParams, wire.unstructure(source, "dataset"), {}) == source


def test_the_callers_dict_stays_as_it_is() -> None:
    given = {"dataset": URI, "access_token": f"{KEY_ID}:{KEY}"}
    before = dict(given)
    S3DatasetParams(**given)  # type: ignore[arg-type]
    assert given == before


class TestS3Served(ModelProviderTests):
    name = "s3"

    def provider(self) -> S3ModelParams:
        return S3ModelParams(uri=URI, access_key_id=KEY_ID, secret_access_key=KEY)

    @pytest.fixture
    def served(self, source: Callable[..., S3ModelParams], gateway: Gateway) -> Served:
        files = {"config.json": b"{}", "weights/part-1.bin": bytes(range(256)) * 400}
        for path, data in files.items():
            gateway.put(f"kit-served/{path}", data)
        return Served(provider=source("kit-served"), files=files)


class TestS3Output(OutputTargetTests):
    name = "s3"

    @pytest.fixture
    def written(self, source: Callable[..., S3ModelParams]) -> Written:
        return Written(provider=source(f"kit-written-{uuid.uuid4().hex[:8]}"))
