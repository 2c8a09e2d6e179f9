"""Job files: what YAML says becomes keywords, `--set` changes them, and secrets come from where the file says."""

from pathlib import Path

import pytest

from tunewright import RequestError, SecretRef, SecretValue
from tunewright.cli import jobfile

TEXT = """\
name: sft
backend: local
model: ./model
dataset: {provider: s3, uri: s3://b/p, secret_access_key: {secret: aws, key: secret}, session_token: {env: SESSION}}
trainer:
  provider: hf
  training_parameters: {learning_rate: 2.0e-4}
env: {WANDB: {env: WANDB_TOKEN}, PLAIN: text, REF: {secret: wandb, key: api.key}}
tolerations: [{key: gpu, operator: Exists}]
num_workers: 2
"""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SESSION", "s-literal")
    monkeypatch.setenv("WANDB_TOKEN", "w-literal")
    file = tmp_path / "job.yaml"

    def load(*assignments: str, text: str = TEXT) -> dict[str, object]:
        file.write_text(text, "utf-8")
        return jobfile.read(file, assignments).keywords

    return load


def test_a_file_becomes_keywords(job) -> None:
    found = job()
    assert found["name"] == "sft"
    assert found["trainer"] == {"provider": "hf", "training_parameters": {"learning_rate": 2e-4}}
    assert found["tolerations"] == [{"key": "gpu", "operator": "Exists"}]


def test_secrets_come_from_where_the_file_says(job) -> None:
    found = job()
    assert found["dataset"]["secret_access_key"] == SecretRef(name="aws", key="secret")
    assert found["dataset"]["session_token"] == "s-literal"
    assert found["env"] == {
        "WANDB": SecretValue("w-literal"),
        "PLAIN": "text",
        "REF": SecretRef(name="wandb", key="api.key"),
    }
    assert "w-literal" not in repr(found["env"])


def test_a_variable_that_is_not_set_is_named_with_the_remedy(job, monkeypatch) -> None:
    monkeypatch.delenv("SESSION")
    with pytest.raises(
        RequestError,
        match=r"session_token: refers to the environment variable SESSION, which is not set\. Run: export SESSION=…",
    ):
        job()


def test_the_environment_is_read_only_where_the_file_says_so(job, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "never")
    assert "never" not in repr(job())


def test_what_only_looks_like_a_secret_stays_as_it_is(job) -> None:
    text = "trainer: {provider: acme, options: {env: A, more: 1}, other: {secret: x}, third: {secret: x, key: 3}}\nenv: {env: plain}"
    assert job(text=text) == {
        "trainer": {"provider": "acme", "options": {"env": "A", "more": 1}, "other": {"secret": "x"}, "third": {"secret": "x", "key": 3}},
        "env": {"env": "plain"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("num_workers=3", ["num_workers"], 3),
        ("trainer.training_parameters.max_steps=100", ["trainer", "training_parameters", "max_steps"], 100),
        ("trainer.lora_config.r=8", ["trainer", "lora_config"], {"r": 8}),
        ("labels.team=a", ["labels"], {"team": "a"}),
        ("env.A=", ["env", "A"], None),
        ("env.A='1'", ["env", "A"], "1"),
        ("env.A=x=y=z", ["env", "A"], "x=y=z"),
        ("elastic=[1, 3]", ["elastic"], [1, 3]),
        ("model=hf://org/name", ["model"], "hf://org/name"),
        ("model.revision=v1", ["model"], {"uri": "./model", "revision": "v1"}),
        ("storage.size=5Gi", ["storage"], {"size": "5Gi"}),
        ("trainer.training_parameters={max_steps: 1}", ["trainer", "training_parameters"], {"max_steps": 1}),
        ("dataset.session_token={env: WANDB_TOKEN}", ["dataset", "session_token"], "w-literal"),
    ],
)
def test_set_changes_one_value(job, assignment: str, path: list[str], value: object) -> None:
    found: object = job(assignment)
    for key in path:
        found = found[key]  # type: ignore[index]
    assert found == value


def test_set_goes_into_short_spellings_of_trainer_and_dataset(job) -> None:
    text = "trainer: hf\ndataset: s3://b/p\neval_dataset: ./e\noutput: s3://b/o"
    changes = ("trainer.lora_config.r=4", "dataset.region=x", "eval_dataset.provider=file", "output.region=y")
    assert job(*changes, text=text) == {
        "output": {"uri": "s3://b/o", "region": "y"},
        "trainer": {"provider": "hf", "lora_config": {"r": 4}},
        "dataset": {"uri": "s3://b/p", "region": "x"},
        "eval_dataset": {"uri": "./e", "provider": "file"},
    }


def test_later_assignments_win(job) -> None:
    assert job("num_workers=3", "num_workers=4")["num_workers"] == 4


def test_a_pattern_needs_no_quotes() -> None:
    job = jobfile.of_options({"model": "hf://org/name"}, ["model.allow_patterns=*.json"])
    assert job.keywords["model"] == {"uri": "hf://org/name", "allow_patterns": "*.json"}


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("num_workers", r"--set='num_workers': is not an assignment\. Write --set num_workers=2"),
        ("=3", "is not an assignment"),
        ("a..b=3", "is not an assignment"),
        (".a=3", "is not an assignment"),
        ("num_workers.more=3", "cannot be applied. num_workers is 2, which has no keys"),
        ("name.more=3", "cannot be applied. name is 'sft'"),
        ("tolerations.0.key.x=3", "cannot be applied. key is 'gpu'"),
        ("name=[", r"--set='name=\[': has a value that is not YAML.*Quote the value"),
        ("name=a: b: c", "has a value that is not YAML"),
    ],
)
def test_what_cannot_be_assigned_is_refused(job, assignment: str, says: str) -> None:
    with pytest.raises(RequestError, match=f"(?s){says}"):
        job(assignment)


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "is not a mapping. Write one `keyword: value` per line"), ("- a\n- b", "is not a mapping"), ("just text", "is not a mapping")],
)  # fmt: skip
def test_what_is_no_job_file_is_refused_with_its_name(job, text: str, says: str) -> None:
    with pytest.raises(RequestError, match=rf"(?s)job file='.*job\.yaml': {says}"):
        job(text=text)


def test_a_script_in_place_of_a_job_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import torch\nif True:\n    print(1)\n")
    with pytest.raises(RequestError, match=r"is a script.*tunewright run .*train\.py"):
        jobfile.read(tmp_path / "train.py")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing.yaml", tmp_path, tmp_path / "binary.yaml"):
        with pytest.raises(RequestError, match=r"job file.*cannot be read.*(Pass a YAML file|Save it as a text file)"):
            jobfile.read(path)


def test_the_clients_keywords_are_split_off(job) -> None:
    found = job()
    client, rest = jobfile.split(found)
    assert client == {"backend": "local", "kind": None, "namespace": None, "context": None}
    assert set(rest) == set(found) - {"backend"}
    assert "backend" in found


def test_the_clients_keywords_are_names() -> None:
    with pytest.raises(RequestError, match=r"namespace=\['a'\]: must be a string"):
        jobfile.split({"namespace": ["a"]})


@pytest.mark.parametrize(
    ("text", "code"),
    [(TEXT, False), ("script: a.py", True), ("base_image: a:1", True), ("image: a:1\nmodel: x", False)],
)
def test_a_file_with_code_is_one_for_create_job(job, text: str, code: bool) -> None:
    assert jobfile.is_code(job(text=text)) is code


@pytest.mark.parametrize(
    ("before", "keys"),
    [
        ("trainer: hf", {"provider": "hf"}),
        ("trainer: {provider: hf, data: {format: text}}", {"provider": "hf", "data": {"format": "text"}}),
        ("", {}),
    ],
)
def test_dotted_keys_are_those_below_as_messages_name_them(
    tmp_path: Path, before: str, keys: dict[str, object]
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(f"{before}\ntrainer.data.on_bad_row: drop\nlabels: {{a.b/c: d}}\n")
    found = jobfile.read(file)
    data = {**keys.get("data", {}), "on_bad_row": "drop"}
    assert found.written == {"trainer": {**keys, "data": data}, "labels": {"a.b/c": "d"}}
    with pytest.raises(RequestError, match=r"job\.yaml:2:\d+"), found.located():
        raise RequestError("is bad", field="trainer.data.on_bad_row", value="drop", remedy="Change it.")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("trainer: {data: {format: text}}\ntrainer.data.format: chat", "format is given there already"),
        ("num_workers: 2\nnum_workers.more: 3", "num_workers is 2, which has no keys"),
    ],
)
def test_a_dotted_key_that_contradicts_another_is_refused_where_it_is(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    with pytest.raises(RequestError, match=problem) as refused:
        jobfile.read(file)
    assert "job.yaml:2:1" in str(refused.value)


MIXTURE = "dataset: [./a, {uri: s3://b/p, weight: 1}]\n"


def test_items_of_a_list_are_set_by_their_index(job) -> None:
    found = job("dataset.0.weight=2", "dataset.1.data.format=text", text=MIXTURE)
    assert found["dataset"] == [
        {"uri": "./a", "weight": 2},
        {"uri": "s3://b/p", "weight": 1, "data": {"format": "text"}},
    ]
    assert job("dataset.1=./b", text=MIXTURE)["dataset"] == ["./a", "./b"]


@pytest.mark.parametrize("assignment", ["dataset.2.weight=1", "dataset.x=1", "dataset.-1=./c"])
def test_an_item_that_the_list_does_not_have_cannot_be_set(job, assignment: str) -> None:
    with pytest.raises(RequestError, match=r"dataset is a list with 2 items, and .* is not one of them"):
        job(assignment, text=MIXTURE)
