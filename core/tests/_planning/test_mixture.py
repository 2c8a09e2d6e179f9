"""A list of datasets: what may be written, what is fetched where, and what reaches the trainer."""

import json
from pathlib import Path

import pytest

from tunewright import RequestError, SecretRef, TrainingClient, environment
from tunewright._planning.assemble import assemble
from tunewright.cli import jobfile
from tunewright.providers.mixture import MixturePart, load_mixture

MIXES = """

@attrs.frozen(kw_only=True)
class Mixer(Trainer):
    def check_mixture(self, parts): ...


@hookimpl
def tunewright_trainer_provider():
    return Mixer
"""


@pytest.fixture
def client(client, site) -> TrainingClient:
    """With a plugin `mixer` beside `acme`, whose trainer takes a list."""
    site.providers("mixer", MIXES)
    return TrainingClient("memory")


@pytest.fixture
def request_of(client):
    return lambda datasets, **more: client.train_request(
        **{"name": "sft", "model": "acme://m", "dataset": datasets, "trainer": "mixer", **more}
    )


def parts_of(request) -> list[MixturePart]:
    return [resolved.part for resolved in request.mixture]


def test_each_dataset_has_its_own_provider_fetch_and_document(request_of) -> None:
    tickets = {"uri": "acme://x/tickets", "token": "t-literal", "weight": 2, "data": {"format": "chat"}}
    request = request_of([tickets, {"provider": "mixer", "uri": "mixer://docs", "weight": 1, "repeat": False}])
    assert request.dataset is None
    assert list(request.sources) == ["model", "dataset_1", "dataset_2"]
    plan = assemble(request)
    steps = {c.name: c for c in plan.init_containers}
    assert list(steps) == ["fetch-model", "fetch-dataset-1", "fetch-dataset-2", "check"]
    assert steps["fetch-dataset-1"].command[-2:] == ("fetch", "dataset_1")
    assert "ACME_TOKEN" in steps["fetch-dataset-1"].env
    assert "ACME_TOKEN" not in steps["fetch-dataset-2"].env
    assert {m.path for m in plan.main.mounts} >= {"/workspace/dataset_1", "/workspace/dataset_2"}
    assert all(m.read_only for m in plan.main.mounts if "dataset" in m.path)
    documents = {name: json.loads(plan.files[f"{name}.json"]) for name in ("dataset_1", "dataset_2")}
    assert [(d["kind"], d["provider"]) for d in documents.values()] == [("dataset", "acme"), ("dataset", "mixer")]
    assert load_mixture(plan.files["mixture.json"]) == (
        MixturePart(slot="dataset_1", name="tickets", weight=2, data={"format": "chat"}),
        MixturePart(slot="dataset_2", name="docs", weight=1, repeat=False),
    )
    assert "t-literal" not in repr(plan) + "".join(plan.files.values())


def test_equal_lists_give_equal_plans(request_of) -> None:
    datasets = [{"uri": "acme://a", "weight": 1}, {"uri": "acme://b", "weight": 2}]
    assert assemble(request_of(datasets)) == assemble(request_of(datasets))
    assert assemble(request_of(datasets)).files != assemble(request_of(datasets[::-1])).files


def test_what_is_listed_twice_is_fetched_once(request_of) -> None:
    train, old = ({"uri": "acme://a", "data": {"train_split": split}} for split in ("train", "old"))
    request = request_of([train, "acme://b", old])
    assert [(p.slot, p.name) for p in parts_of(request)] == [
        ("dataset_1", "a"),
        ("dataset_2", "b"),
        ("dataset_1", "a-2"),
    ]
    assert list(request.sources) == ["model", "dataset_1", "dataset_2"]


@pytest.mark.parametrize("one", [["acme://d"], [{"uri": "acme://d", "weight": 3, "name": "d"}], ("acme://d",)])
def test_a_list_of_one_is_a_plain_dataset(one, request_of) -> None:
    assert assemble(request_of(one)) == assemble(request_of("acme://d"))


def test_a_list_of_one_with_options_is_a_mixture(request_of) -> None:
    (part,) = parts_of(request_of([{"uri": "acme://d", "data": {"format": "text"}}]))
    assert part.data == {"format": "text"}


def test_providers_paths_and_uris_may_stand_in_one_list(request_of, client, tmp_path: Path) -> None:
    (tmp_path / "my docs").mkdir()
    provider = client.registry.get("acme").provider("dataset")(uri="acme://s/own", token=SecretRef(name="a", key="b"))
    datasets = [provider, tmp_path / "my docs", "./texts/", {"provider": provider, "weight": None, "name": "again"}]
    request = request_of(datasets, base_folder=tmp_path)
    assert [p.name for p in parts_of(request)] == ["own", "my-docs", "texts", "again"]
    uris = [s.provider.uri for s in request.sources.values()]
    assert uris[1:] == ["acme://s/own", (tmp_path / "my docs").as_uri(), (tmp_path / "texts").as_uri()]


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ([], r"dataset=\[\]: is an empty list|dataset: is an empty list"),
        ([{"uri": "acme://a", "weight": 1}, "acme://b"], r"dataset\[1\].weight: is missing, but a has one"),
        ([{"uri": "acme://a", "weight": 0}, "acme://b"], r"dataset\[0\].weight=0: is not a weight"),
        ([{"uri": "acme://a", "weight": 0}], r"dataset\[0\].weight=0: is not a weight"),
        ([{"uri": "acme://a", "weight": True}, "acme://b"], r"dataset\[0\].weight=True: is not a weight"),
        ([{"uri": "acme://a", "weight": float("inf")}, "acme://b"], r"dataset\[0\].weight=inf: is not a weight"),
        ([{"uri": "acme://a", "repeat": "no"}, "acme://b"], r"dataset\[0\].*repeat='no': is not a boolean"),
        ([{"uri": "acme://a", "name": "a b"}, "acme://b"], r"dataset\[0\].name='a b': is not a name"),
        (
            [{"uri": "acme://a", "name": "x"}, {"uri": "acme://b", "name": "x"}],
            r"dataset\[1\].name='x': is given twice",
        ),
        ([{"uri": "acme://a", "data": "text"}, "acme://b"], r"dataset\[0\].data='text': is not a mapping"),
        ([{"uri": "acme://a", "data": {"x": object()}}, "acme://b"], r"dataset\[0\].data: is not JSON-serializable"),
        (["acme://a", {"uri": "acme://b", "wieght": 1}], r"dataset\[1\].wieght: is not a field of Data"),
        (["acme://a", {"weight": 1}], r"dataset\[1\]={'weight': 1}|dataset\[1\]={}: does not name a source"),
        (["acme://a", {"uri": "acme://b", "eval_dataset": "acme://c"}], r"dataset\[1\].eval_dataset: belongs to the"),
    ],
)
def test_what_contradicts_itself_is_refused(datasets, message: str, request_of) -> None:
    with pytest.raises(RequestError, match=message):
        request_of(datasets)


def test_a_token_in_the_options_is_refused_without_repeating_it(request_of) -> None:
    token = "hf_" + "abcdef" * 6
    request = request_of(["acme://a", {"uri": "acme://b", "data": {"config": token}}])
    with pytest.raises(RequestError, match=r"dataset\[1\].data\['config'\]: looks like a literal token") as refusal:
        assemble(request)
    assert token not in str(refusal.value)


def test_a_trainer_that_cannot_mix_refuses_a_list_before_anything_is_created(client) -> None:
    options = {"model": "acme://m", "dataset": ["acme://a", "acme://b"], "trainer": "acme"}
    for dry_run in (True, False):
        with pytest.raises(RequestError, match="dataset: is a list of 2 datasets, but this trainer trains on a single"):
            client.train("sft", dry_run=dry_run, **options)
    assert client.list_jobs() == []


def test_an_error_names_the_argument_that_the_user_wrote(request_of, client) -> None:
    datasets = [{"uri": "acme://a", "weight": -1}, "acme://b"]
    with pytest.raises(RequestError, match=r"dataset_provider_parameters\[0\].weight"):
        client.train("sft", model="acme://m", dataset_provider_parameters=datasets, trainer_parameters="mixer")


def test_a_path_in_the_list_is_refused_for_a_cluster(client) -> None:
    with pytest.raises(RequestError, match=r"dataset\[1\]='./x': is a path on this machine"):
        TrainingClient("kubernetes").train("sft", model="acme://m", dataset=["acme://a", "./x"], trainer="mixer")


def test_a_path_in_the_list_that_does_not_exist_is_refused_by_the_argument(client, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"dataset\[1\]=.*: does not exist"):
        client.train("sft", model="acme://m", dataset=["acme://a", "./x"], trainer="mixer", base_folder=tmp_path)


def test_slots_of_a_mixture() -> None:
    assert [environment.is_input_slot(s) for s in ("dataset", "dataset_1", "dataset_12", "dataset_0", "output")] == [
        *(True, True, True, False, False)
    ]
    assert [environment.kind_of_slot(s) for s in ("model", "dataset_2", "eval_dataset", "output", "trainer")] == [
        *("model", "dataset", "dataset", "model", "trainer")
    ]
    assert environment.slot_variable("dataset_1") == "TUNEWRIGHT_SLOT_DATASET_1"


def test_the_job_file_that_is_kept_repeats_the_mixture(request_of, client, tmp_path: Path) -> None:
    tickets = {
        "uri": "acme://x/tickets",
        "token": SecretRef(name="s", key="k"),
        "weight": 2,
        "data": {"format": "chat"},
    }
    request = request_of([tickets, {"uri": "acme://docs", "weight": 1, "repeat": False}], eval_dataset="acme://e")
    kept = json.loads(assemble(request).files["job.json"])
    assert list(kept)[:4] == ["name", "model", "dataset", "eval_dataset"]
    assert kept["dataset"] == [
        {"provider": "acme", "uri": "acme://x/tickets", "token": {"secret": "s", "key": "k"}}
        | {"name": "tickets", "weight": 2, "data": {"format": "chat"}},
        {"uri": "acme://docs", "name": "docs", "weight": 1, "repeat": False},
    ]
    file = tmp_path / "job.yaml"
    file.write_text(json.dumps({key: value for key, value in kept.items() if key != "name"}), "utf-8")
    again = client.train_request("sft", **jobfile.read(file).keywords)
    assert assemble(again) == assemble(request)


def test_an_error_of_an_item_is_located_in_the_job_file(client, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    text = "model: acme://m\ntrainer: mixer\ndataset:\n  - acme://a\n  - {uri: acme://b, weight: -1}\n"
    file.write_text(text, "utf-8")
    job = jobfile.read(file)
    with pytest.raises(RequestError) as refusal, job.located():
        client.train_request("sft", **job.keywords)
    assert refusal.value.place.endswith("job.yaml:5:29")
