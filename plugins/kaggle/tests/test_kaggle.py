"""The client half of `kaggle://`: handles, credentials, and each kind in its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright import RequestError, SecretRef
from tunewright.testing import DatasetProviderTests, ModelProviderTests
from tunewright_kaggle import (
    KaggleCompetition,
    KaggleDataset,
    KaggleDatasetParams,
    KaggleModel,
    KaggleModelParams,
    parse_uri,
)

DATASET = "kaggle://datasets/owner/name"
MODEL = "kaggle://models/google/gemma/transformers/1.1-2b-it"
COMPETITION = "kaggle://competitions/titanic"
TOKEN, USER, KEY = "a-token-for-the-test", "a-user-for-the-test", "a-key-for-the-test"

SLUGS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}(\.[A-Za-z0-9_-]{1,5})?", fullmatch=True)
VERSIONS = st.none() | st.integers(min_value=1, max_value=999_999_999)
HANDLES = st.one_of(
    st.builds(KaggleDataset, owner=SLUGS, name=SLUGS, version=VERSIONS),
    st.builds(KaggleModel, owner=SLUGS, name=SLUGS, framework=SLUGS, variation=SLUGS, version=VERSIONS),
    st.builds(KaggleCompetition, name=SLUGS),
)


class TestKaggleModel(ModelProviderTests):
    name, tested_elsewhere = "kaggle", "plugins/kaggle/tests/test_kaggle_step.py"

    def provider(self) -> KaggleModelParams:
        return KaggleModelParams(uri=f"{MODEL}/3", api_token=TOKEN, ignore_patterns=["*.h5"])


class TestKaggleDataset(DatasetProviderTests):
    name, tested_elsewhere = "kaggle", "plugins/kaggle/tests/test_kaggle_step.py"

    def provider(self) -> KaggleDatasetParams:
        return KaggleDatasetParams(uri=f"{DATASET}/versions/7", eval_dataset=COMPETITION, username=USER, key=KEY)


@given(HANDLES)
def test_every_handle_survives_its_uri(handle: KaggleDataset | KaggleModel | KaggleCompetition) -> None:
    assert parse_uri(handle.uri) == handle
    assert parse_uri(f"{handle.uri}/") == handle


@given(st.sampled_from(["datasets", "models", "competitions"]), st.text(alphabet="ab1./%\\@?#-\0 ü"))
def test_hostile_handles_are_refused_or_harmless(kind: str, text: str) -> None:
    try:
        handle = parse_uri(f"kaggle://{kind}/{text}")
    except RequestError:
        return
    assert handle.uri.rstrip("/") == f"kaggle://{kind}/{text}".rstrip("/")
    assert ".." not in handle.uri
    assert not set("%\\@?# \0") & set(handle.uri)


@pytest.mark.parametrize(
    "uri",
    ["kaggle://", "kaggle://owner/name", "kaggle://datasets", "kaggle://datasets/owner", "kaggle://datasets/owner/name/versions",
     "kaggle://datasets/owner/name/versions/0", "kaggle://datasets/owner/name/versions/latest", "kaggle://datasets/owner/name/7",
     "kaggle://models/owner/model", "kaggle://models/owner/model/framework", "kaggle://models/owner/model/framework/variation/x",
     "kaggle://models/owner/model/framework/variation/1/2", "kaggle://competitions/", "kaggle://competitions/a/b",
     "kaggle://datasets/../name", "kaggle://datasets/owner/..", "kaggle://datasets/owner/a..b", "kaggle://datasets//name",
     "kaggle://datasets/owner/-name", "kaggle+https://datasets/owner/name", "kaggle:datasets/owner/name"],
)  # fmt: skip
def test_what_names_nothing_on_kaggle_is_refused(uri: str) -> None:
    for make, field in ((KaggleModelParams, "KaggleModelParams.uri"), (KaggleDatasetParams, "KaggleDatasetParams.uri")):
        with pytest.raises(RequestError, match=field):
            make(uri=uri)


@pytest.mark.parametrize("uri", [DATASET, COMPETITION])
def test_data_is_no_model(uri: str) -> None:
    with pytest.raises(RequestError, match=r"names data.*Write it as kaggle://models/owner/model/framework/variation"):
        KaggleModelParams(uri=uri)


def test_a_model_is_no_data() -> None:
    with pytest.raises(RequestError, match=r"names a model.*Write it as kaggle://datasets/owner/name"):
        KaggleDatasetParams(uri=MODEL)
    with pytest.raises(RequestError, match=r"KaggleDatasetParams\.eval_dataset.*names a model"):
        KaggleDatasetParams(uri=DATASET, eval_dataset=MODEL)


@pytest.mark.parametrize(
    "fields",
    [
        {"username": USER},
        {"key": KEY},
        {"api_token": TOKEN, "username": USER, "key": KEY},
        {"api_token": f"{TOKEN}\n"},
        {"api_token": 3},
        {"dataset": DATASET},
    ],
)
def test_half_and_double_credentials_are_refused_unseen(fields: dict[str, object]) -> None:
    with pytest.raises(RequestError) as caught:
        KaggleDatasetParams(uri=DATASET, **fields)  # type: ignore[arg-type]
    for secret in (TOKEN, USER, KEY):
        assert secret not in str(caught.value)


@pytest.mark.parametrize("user", [f"{USER}:{KEY}", f"{KEY}"])
def test_credentials_in_the_uri_are_refused_unseen(user: str) -> None:
    with pytest.raises(RequestError) as caught:
        KaggleDatasetParams(uri=f"kaggle://{user}@datasets/owner/name")
    assert KEY not in str(caught.value)


def test_the_keps_spellings() -> None:
    assert KaggleModelParams(model=MODEL) == KaggleModelParams(uri=MODEL)  # type: ignore[call-arg]
    given = KaggleDatasetParams(dataset=DATASET, username=SecretRef(name="kaggle", key="user"), key=KEY)  # type: ignore[call-arg]
    assert given.uri == DATASET
