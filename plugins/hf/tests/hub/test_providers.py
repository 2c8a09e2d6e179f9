"""The client half of `hf://`: repositories, fields and other spellings."""

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright import RequestError, SecretRef
from tunewright._planning.assemble import document_of
from tunewright.plugins.registry import Registry
from tunewright.providers.outputs import OutputTarget
from tunewright.providers.uris import ref_problem
from tunewright.testing import DatasetProviderTests, ModelProviderTests
from tunewright_hf.config.dataset_part import DatasetPart
from tunewright_hf.hub.providers import HuggingFaceDatasetParams, HuggingFaceModelParams
from tunewright_hf.hub.uri import HubRepo, parse_uri

MODEL = "hf://openchat/openchat_3.5"
DATASET = "hf://datasets/imdatta0/ultrachat_1k"
TOKEN = "a-token-for-the-test"

# Names that the Hub takes, apart from those of its other name spaces.
NAMES = st.from_regex(r"[A-Za-z0-9]([_.-]?[A-Za-z0-9]){0,20}", fullmatch=True).filter(
    lambda s: not s.endswith(".git") and s not in ("datasets", "models", "spaces", "buckets", "kernels")
)
IDS = NAMES | st.tuples(NAMES, NAMES).map("/".join)
REVISIONS = st.none() | st.text(min_size=1).filter(lambda s: not ref_problem(s))
CONFIGS = st.none() | st.text(min_size=1).filter(lambda s: s.isprintable() and s.strip())
REPOS = st.builds(HubRepo, repo_type=st.just("model"), repo_id=IDS, revision=REVISIONS) | st.builds(
    HubRepo,
    repo_type=st.just("dataset"),
    repo_id=IDS,
    revision=REVISIONS,
    config=CONFIGS,
    split=st.sampled_from([None, "train", "train_sft[:10%]", "test[5:]"]),
)


class TestHuggingFaceModel(ModelProviderTests):
    name, tested_elsewhere = "hf", "plugins/hf/tests/hub/test_fetch_step.py"

    def provider(self) -> HuggingFaceModelParams:
        return HuggingFaceModelParams(
            uri=MODEL,
            revision="v1.0",
            access_token=TOKEN,
            endpoint="https://hub.example",
            allow_patterns=["*.safetensors", "*.json"],
            ignore_patterns="original/",
            transformer_type="AutoModelForCausalLM",
        )


class TestHuggingFaceDataset(DatasetProviderTests):
    name, tested_elsewhere = "hf", "plugins/hf/tests/hub/test_fetch_step.py"

    def provider(self) -> HuggingFaceDatasetParams:
        return HuggingFaceDatasetParams(uri=DATASET, eval_dataset="hf://org/eval@v2", access_token=TOKEN)


class TestPartOfHuggingFaceDataset(DatasetProviderTests):
    name, tested_elsewhere = "hf", "plugins/hf/tests/hub/test_fetch_step.py"

    def provider(self) -> HuggingFaceDatasetParams:
        return HuggingFaceDatasetParams(uri=f"{DATASET}@v1", config="en", split="train[:10%]", access_token=TOKEN)


@given(REPOS)
def test_every_repository_survives_its_uri(repo: HubRepo) -> None:
    assert parse_uri(repo.uri, repo.repo_type) == repo


@settings(deadline=None)  # its first call imports huggingface_hub
@given(st.sampled_from(["model", "dataset"]), st.text(alphabet="ab1_.-/@%:\\ \0é2fF"))
def test_what_is_taken_the_hubs_own_library_takes(repo_type: str, text: str) -> None:
    validators = pytest.importorskip("huggingface_hub.utils")
    try:
        repo = parse_uri(f"hf://{text}", repo_type)  # type: ignore[arg-type]
    except RequestError:
        return
    validators.validate_repo_id(repo.repo_id)
    assert repo.revision is None or not ref_problem(repo.revision)


@settings(deadline=None)
@given(st.text(alphabet="ab1_.-/", min_size=1))
def test_what_the_hubs_own_library_takes_is_taken(repo_id: str) -> None:
    validators = pytest.importorskip("huggingface_hub.utils")
    try:
        validators.validate_repo_id(repo_id)
    except ValueError:
        return
    assert parse_uri(f"hf://{repo_id}", "model").repo_id == repo_id


@pytest.mark.parametrize(
    ("uri", "repo_id", "revision"),
    [
        ("hf://org/name", "org/name", None),
        ("hf://gpt2", "gpt2", None),
        ("hf://gpt2@main", "gpt2", "main"),
        ("hf://org/name@refs/pr/1", "org/name", "refs/pr/1"),
        ("hf://org/name@refs%2Fpr%2F1", "org/name", "refs/pr/1"),
    ],
)
def test_uris_of_models(uri: str, repo_id: str, revision: str | None) -> None:
    assert HuggingFaceModelParams(uri=uri).repo == HubRepo(repo_type="model", repo_id=repo_id, revision=revision)


@pytest.mark.parametrize("uri", ["hf://datasets/org/name@v1", "hf://org/name@v1"])
def test_a_datasets_uri_may_leave_out_that_it_is_one(uri: str) -> None:
    repo = HuggingFaceDatasetParams(uri=uri).repo
    assert repo == HubRepo(repo_type="dataset", repo_id="org/name", revision="v1")
    assert repo.uri == "hf://datasets/org/name@v1"
    assert HuggingFaceDatasetParams(uri="hf://datasets/squad").repo.repo_id == "squad"


@pytest.mark.parametrize(
    "uri",
    ["hf://", "hf:org/name", "hf:///name", "hf://org/", "hf://org/name/file", "hf://org/name@", "hf://org/name@-x",
     "hf://org/name@a..b", "hf://org/name@a%00", "hf://../name", "hf://org/..", "hf://org/na--me", "hf://org/name.git",
     "hf://-org/name", "hf://org/näme", "hf://models/org/name", "hf://spaces/org/name", "hf://datasets",
     f"hf://org/{'a' * 97}", "hf+https://org/name", "s3://org/name", "hf://org/name\n"],
)  # fmt: skip
def test_what_names_nothing_on_the_hub_is_refused(uri: str) -> None:
    with pytest.raises(RequestError, match=r"HuggingFaceModelParams\.uri"):
        HuggingFaceModelParams(uri=uri)
    with pytest.raises(RequestError, match=r"HuggingFaceDatasetParams\.eval_dataset"):
        HuggingFaceDatasetParams(uri=DATASET, eval_dataset=uri)


def test_a_dataset_is_no_model() -> None:
    with pytest.raises(RequestError, match=r"Hub's datasets, but a model is needed\. Write it as hf://org/name"):
        HuggingFaceModelParams(uri=DATASET)


def test_the_keps_example() -> None:
    given = HuggingFaceModelParams(model=MODEL, access_token=TOKEN)  # type: ignore[call-arg]
    assert given == HuggingFaceModelParams(uri=MODEL, access_token=TOKEN)
    assert HuggingFaceDatasetParams(dataset=DATASET).uri == DATASET  # type: ignore[call-arg]


def test_the_1_9_sdks_spellings() -> None:
    class AutoModelForCausalLM: ...

    model = HuggingFaceModelParams(
        model_uri="hf://google-bert/bert-base-cased",
        transformer_type=AutoModelForCausalLM,  # type: ignore[arg-type]
        access_token=None,
        num_labels=None,
    )  # type: ignore[call-arg]
    assert model.uri == "hf://google-bert/bert-base-cased"
    assert model.transformer_type == "AutoModelForCausalLM"
    dataset = HuggingFaceDatasetParams(repo_id="imdatta0/ultrachat_1k", access_token=TOKEN, split="train")  # type: ignore[call-arg]
    assert dataset.uri == DATASET
    assert HuggingFaceDatasetParams(repo_id=DATASET).uri == DATASET  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"transformer_type": "AutoModelForMaskedLM"}, "Did you mean 'AutoModelFor"),
        ({"num_labels": 0}, "1 for regression"),
        ({"trust_remote_code": True}, r"HuggingFaceTrainParams\(trust_remote_code=True\)"),
    ],
)
def test_what_a_download_cannot_do_is_refused_with_what_can(fields: dict[str, object], remedy: str) -> None:
    with pytest.raises(RequestError, match=f"{next(iter(fields))}.*{remedy}"):
        HuggingFaceModelParams(uri=MODEL, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "split", ["train+test", "", " ", "../x", "-x", "a b", "train[:1", "train[1:2][3:4]", "train[5]", 3]
)
def test_what_is_no_split_is_refused(split: object) -> None:
    with pytest.raises(RequestError, match=r"HuggingFaceDatasetParams\.split"):
        HuggingFaceDatasetParams(uri=DATASET, split=split)  # type: ignore[arg-type]
    assert HuggingFaceDatasetParams(uri=DATASET, split="train_sft").split == "train_sft"


@pytest.mark.parametrize("rows", ["[:1000]", "[10%:]", "[-500:]", "[:10%](pct1_dropremainder)"])
def test_rows_of_a_split_stay_on_the_client(rows: str) -> None:
    given = HuggingFaceDatasetParams(repo_id="org/name", split=f"train{rows}")  # type: ignore[call-arg] # as in 1.9
    assert (given.split, given.rows) == ("train", rows)
    assert given.part == DatasetPart(split="train", rows=rows)
    assert attrs.evolve(given, access_token=None).rows == rows
    document = document_of("dataset", Registry().get("hf"), given)
    assert document == document_of("dataset", Registry().get("hf"), attrs.evolve(given, rows=None)), "the same download"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rows": "[:3]"}, r"rows='\[:3\]': are those of no split"),
        ({"split": "train", "rows": ":3"}, "rows=':3': is not a slice"),
        ({"split": "train[:3]", "rows": "[:4]"}, r"rows='\[:4\]': differs"),
        ({"config": ""}, "config"),
        ({"config": "a\n"}, "config"),
        ({"config": 3}, "config"),
    ],
)
def test_parts_that_cannot_be_told_are_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        HuggingFaceDatasetParams(uri=DATASET, **fields)  # type: ignore[arg-type]


def test_the_part_may_stand_in_the_uri_or_in_its_fields() -> None:
    part = DatasetPart(config="en", split="train", rows="[:3]")
    uri = f"{DATASET}@v1?config=en&split=train[:3]"
    for provider in (
        HuggingFaceDatasetParams(uri=uri),
        HuggingFaceDatasetParams(uri=uri, split="train[:3]"),
        HuggingFaceDatasetParams(uri=f"{DATASET}@v1", config="en", split="train[:3]"),
    ):
        assert provider.part == part
        assert provider.repo.revision == "v1"
    for fields in ({"config": "fr"}, {"split": "test"}, {"split": "train[:4]"}):
        with pytest.raises(RequestError, match=f"{next(iter(fields))}=.*differs"):
            HuggingFaceDatasetParams(uri=uri, **fields)
    evaluated = HuggingFaceDatasetParams(uri=uri, eval_dataset=f"{DATASET}?config=en&split=test")
    assert attrs.evolve(evaluated, uri=evaluated.eval_dataset, eval_dataset=None).part.split == "test"


@pytest.mark.parametrize(
    "query", ["", "x=1", "config=a&config=b", "config=", "split=a b", "split=train[:", "config", "revision=v1"]
)
def test_queries_that_name_no_part_are_refused(query: str) -> None:
    with pytest.raises(RequestError, match=r"HuggingFaceDatasetParams\.uri"):
        HuggingFaceDatasetParams(uri=f"{DATASET}?{query}")
    with pytest.raises(RequestError, match=r"HuggingFaceModelParams\.uri"):
        HuggingFaceModelParams(uri=f"{MODEL}?{query}")


@pytest.mark.parametrize("fields", [{"split": "train"}, {"config": "en"}])
def test_a_part_of_two_datasets_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(RequestError, match="would also apply to eval_dataset"):
        HuggingFaceDatasetParams(uri=DATASET, eval_dataset="hf://org/eval", **fields)


def test_the_revision_may_stand_in_the_uri_or_in_its_field() -> None:
    assert HuggingFaceModelParams(uri=f"{MODEL}@v1").repo == HuggingFaceModelParams(uri=MODEL, revision="v1").repo
    assert HuggingFaceModelParams(uri=f"{MODEL}@v1", revision="v1").repo.revision == "v1"
    with pytest.raises(RequestError, match=r"HuggingFaceModelParams\.revision='v2': differs"):
        HuggingFaceModelParams(uri=f"{MODEL}@v1", revision="v2")


@pytest.mark.parametrize(
    "fields",
    [
        {"model": MODEL},
        {"model_uri": MODEL},
        {"revision": "-x"},
        {"revision": "a b"},
        {"revision": ""},
        {"revision": 3},
        {"access_token": f"{TOKEN}\n"},
        {"access_token": 3},
        {"endpoint": "hub.example"},
        {"endpoint": f"https://user:{TOKEN}@hub.example"},
        {"transformer_type": "Auto Model"},
        {"transformer_type": 3},
        {"num_labels": 0},
        {"num_labels": "3"},
        {"num_labels": True},
        {"trust_remote_code": "no"},
        {"allow_patterns": [3]},
        {"revision": "hf_" + "x" * 30},
    ],
)
def test_bad_fields_are_named_and_no_token_shows(fields: dict[str, object]) -> None:
    with pytest.raises(RequestError, match=next(iter(fields))) as caught:
        HuggingFaceModelParams(uri=MODEL, **fields)  # type: ignore[arg-type]
    assert TOKEN not in str(caught.value)
    assert "x" * 30 not in str(caught.value)


def test_a_token_in_the_uri_is_refused_unseen() -> None:
    with pytest.raises(RequestError) as caught:
        HuggingFaceModelParams(uri=f"hf://user:{TOKEN}@org/name")
    assert TOKEN not in str(caught.value)


def test_a_model_can_be_an_output_and_a_dataset_cannot() -> None:
    source = HuggingFaceModelParams(uri=MODEL, access_token=SecretRef(name="hf", key="token"))
    assert isinstance(source, OutputTarget)
    assert not isinstance(HuggingFaceDatasetParams(uri=DATASET), OutputTarget)
