"""The client: what train() and create_job() make of their arguments, and what it hands to a backend."""

import json

import pytest

from tunewright import Job, JobError, JobState, Manifests, RequestError, TrainingClient
from tunewright.events import ClusterEvent, Fetched, Step
from tunewright.status.status import JobStatus

GOOD = {"model": "acme://m", "dataset": "acme://d", "trainer": "acme"}


def train_function(parameters):
    print(parameters)


@pytest.mark.parametrize("backend", ["kubernetes", "local", "memory"])
def test_a_dry_run_gives_manifests_and_creates_nothing(client, backend: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TUNEWRIGHT_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    on = TrainingClient(backend)
    found = [
        on.train("sft", **GOOD, dry_run=True),
        on.create_job("code", train_func=train_function, parameters={"lr": 1}, dry_run=True),
        on.create_job("code", base_image="image:1", command=["./start"], dry_run=True),
    ]
    for manifests in found:
        assert isinstance(manifests, Manifests)
        assert len(manifests.to_yaml()) > 100
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("backend", ["kubernetes", "local"])
def test_what_a_function_is_shipped_as_is_in_the_manifests_to_the_letter(
    client, backend: str, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("TUNEWRIGHT_HOME", str(tmp_path / "state"))

    def train(parameters):
        print("$HOME `id` << EOM \\ '\"", parameters)

    manifests = TrainingClient(backend).create_job(
        "code", train_func=train, parameters={"a": "$HOME `x`\n\\"}, dry_run=True
    )
    files = next(d["data"] for d in manifests if "data" in d and "train_func.py" in d["data"])
    assert '        print("$HOME `id` << EOM \\\\ \'\\"", parameters)\n' in files["train_func.py"]
    assert json.loads(files["parameters.json"]) == {"a": "$HOME `x`\n\\"}


def test_names_are_generated_where_none_is_given(client) -> None:
    names = {client.train(**GOOD, dry_run=True)[0]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("train-") for name in names)
    assert client.create_job(base_image="a:1", dry_run=True)[0]["name"].startswith("job-")
    assert client.train("mine", **GOOD, dry_run=True)[0]["name"] == "mine"
    assert client.train(name="mine", **GOOD, dry_run=True)[0]["name"] == "mine"
    assert client.create_job("mine", base_image="a:1", dry_run=True)[0]["name"] == "mine"


def test_none_means_not_given(client) -> None:
    plain = client.train_request("sft", **GOOD)
    options = dict.fromkeys(
        [
            "num_workers",
            "storage",
            "output",
            "env",
            "labels",
            "elastic",
            "ttl",
            "image",
            "eval_dataset",
            "suspend",
            "base_folder",
        ]
    )
    assert client.train_request("sft", **GOOD, **options) == plain
    code = client.code_request("c", base_image="a:1")
    options = dict.fromkeys(
        ["args", "command", "parameters", "train_func", "script", "packages_to_install", "pip_index_url", "num_workers"]
    )
    assert client.code_request("c", base_image="a:1", **options) == code


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda c: c.train(modle="acme://m", dataset="acme://d", trainer="acme"),
            r"modle: is not an argument\. Did you mean 'model'\?",
        ),
        (lambda c: c.train(**GOOD, num_worker=2), r"num_worker: is not an argument\. Did you mean 'num_workers'\?"),
        (lambda c: c.train(**GOOD, dryrun=True), r"dryrun: is not an argument\. Did you mean 'dry_run'\?"),
        (lambda c: c.train(**GOOD, train_func=print), r"train_func: is not an argument"),
        (lambda c: c.train(**GOOD, zzz=1), r"zzz: is not an argument\. There are: adapter, affinity, "),
        (
            lambda c: c.train(**GOOD, command=["x"]),
            r"command: is not an argument of a training\. .* give base_image too",
        ),
        (lambda c: c.create_job(train_fun=print), r"train_fun: is not an argument\. Did you mean 'train_func'\?"),
        (lambda c: c.create_job(base_image="a:1", gpu=1), r"gpu: is not an argument"),
        (lambda c: c.create_job(base_image="a:1", model="acme://m"), r"model: is not an argument"),
    ],
)
def test_unknown_arguments_are_asked_about_before_anything_else(client, call, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        call(client)
    assert client.backend.plans == {}


@pytest.mark.parametrize("missing", ["model", "dataset", "trainer"])
def test_what_is_missing_is_named_with_an_example(client, missing: str) -> None:
    with pytest.raises(RequestError, match=rf"^{missing}.*is missing.*\"") as caught:
        client.train(**{k: v for k, v in GOOD.items() if k != missing})
    assert caught.value.field == missing


def script(folder) -> str:
    (folder / "train.py").write_text("print(1)")
    return str(folder / "train.py")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, r"create_job\(\): has nothing to run\. Give train_func=, script=, base_image= or manifest="),
        ({"command": ["./start"]}, r"create_job\(\): has nothing to run"),
        ({"train_func": train_function, "script": True}, "train_func: cannot be given with script"),
        ({"script": True, "parameters": {"a": 1}}, r"parameters: are arguments of a function\. Give args=\[…\]"),
        (
            {"train_func": train_function, "parameters": {}, "args": ["a"]},
            r"args: are arguments of a script or an image\. Give parameters=",
        ),
        ({"train_func": train_function, "command": ["a"]}, "command: is for an image that starts itself"),
        ({"script": True, "command": ["a"]}, "command: is for an image that starts itself"),
        ({"base_image": "a:1", "image": "b:1"}, "image: means the same as base_image, and both are given"),
        ({"base_image": "a:1", "args": ["--fast"]}, r"args: are arguments of a program\. Give command=\[…\] too"),
        ({"script": True, "args": "--lr 1"}, r"args='--lr 1': must be a list\. Write args="),
        ({"base_image": "a:1", "command": "./start"}, r"command='./start': must be a list"),
        ({"base_image": "a:1", "command": 3}, r"command=3: must be a list"),
        ({"script": True, "packages_to_install": "einops"}, r"packages_to_install='einops': must be a list"),
        ({"script": True, "pip_index_url": " "}, "pip_index_url=' ': must be text"),
        ({"script": "missing.py"}, "script='missing.py': cannot be read"),
        ({"base_image": "a:1", "script_folder": "."}, "script_folder: is shipped with a script, but there is none"),
        ({"base_image": ""}, "^base_image='': is not an image reference"),
        ({"train_func": lambda: None}, "train_func='<lambda>': is not a plain function"),
    ],
)
def test_code_jobs_that_contradict_themselves_are_refused(client, tmp_path, options, says: str) -> None:
    if options.get("script") is True:
        options = {**options, "script": script(tmp_path)}
    with pytest.raises(RequestError, match=says):
        client.create_job("code", **options)
    assert client.backend.plans == {}


def test_the_image_of_a_code_job(client, tmp_path) -> None:
    path = script(tmp_path)
    assert client.code_request(script=path, base_image="a:1").image == "a:1"
    assert client.code_request(script=path, image="a:1").image == "a:1"
    assert client.code_request(script=path).image is None


@pytest.mark.parametrize("written", ["./data", "../folder/data", "{folder}/data", "path"])
def test_paths_are_relative_to_the_base_folder(client, tmp_path, monkeypatch, written: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    value = (folder / "data") if written == "path" else written.format(folder=folder)
    request = client.train_request(model="acme://m", dataset=value, trainer="acme", base_folder=folder)
    assert request.dataset.provider.uri == (folder / "data").as_uri()
    monkeypatch.chdir(folder)
    assert client.train_request(model="acme://m", dataset=value, trainer="acme").dataset == request.dataset


@pytest.mark.parametrize("field", ["model", "dataset", "eval_dataset", "output"])
@pytest.mark.parametrize("value", ["./data", "../data", "~/data"])
def test_relative_paths_are_refused_where_containers_do_not_see_this_machine(client, field: str, value: str) -> None:
    with pytest.raises(RequestError, match=rf"{field}='{value}': is a path on this machine.*pvc://"):
        TrainingClient("kubernetes").train_request(**GOOD | {field: value})
    TrainingClient("kubernetes").train_request(**GOOD | {"model": "/models/in-the-image"})


def test_a_dry_run_shows_what_a_job_for_this_machine_is_on_kubernetes(client) -> None:
    shown = TrainingClient("kubernetes").train(**GOOD | {"model": "./data"}, dry_run=True)
    assert "fetch-model" in shown.to_yaml()


def test_every_path_of_a_dict_is_relative_to_the_base_folder(client, tmp_path) -> None:
    dataset = {"uri": "./train", "eval_dataset": "./eval"}
    request = client.train_request(
        model={"provider": "file", "uri": "./train"}, dataset=dataset, trainer="acme", base_folder=tmp_path
    )
    assert request.model.provider.uri == request.dataset.provider.uri == (tmp_path / "train").as_uri()
    assert request.eval_dataset.provider.uri == (tmp_path / "eval").as_uri()
    assert dataset == {"uri": "./train", "eval_dataset": "./eval"}


def test_sources_may_be_spelt_in_several_ways(client) -> None:
    import tw_acme

    model = tw_acme.Model(uri="acme://m", revision="1")
    spellings = [model, {"provider": "acme", "uri": "acme://m", "revision": "1"}, {"uri": "acme://m", "revision": "1"}]
    found = [client.train_request("a", model=s, dataset="acme://d", trainer="acme") for s in spellings]
    assert found[0] == found[1] == found[2]
    trainers = ["acme", {"provider": "acme"}, tw_acme.Trainer()]
    assert (
        len({repr(client.train_request("a", model="acme://m", dataset="acme://d", trainer=t)) for t in trainers}) == 1
    )


@pytest.fixture(autouse=True)
def _loaded(client) -> None:
    client.registry.get("acme")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"model": "https://huggingface.co/org/name"}, "is a page for browsers. Write hf://org/name$"),
        ({"model": "folder"}, "model='folder': is neither a URI nor marked as a path.*./folder"),
        ({"model": 3}, "model=3: does not name a source"),
        ({"model": {}}, "model={}: does not name a source"),
        ({"model": {"uri": "acme://m", "revison": "1"}}, r"model.revison: is not a field of Model\. Did you mean 'revision'\?"),
        ({"model": {"uri": "acme://m", 3: "1"}}, "model: Model: .*Its fields are uri, .*token, revision"),
        ({"dataset": {"provider": "file", "uri": "acme://d"}}, r"FileDataset.uri='acme://d': is not a URI with the scheme file"),
        ({"trainer": 3}, "trainer=3: is not a trainer"),
        ({"trainer": {"provider": 3}}, "trainer.provider: must name a provider"),
        ({"trainer": {"provider": "acme", "rat": 1}}, r"trainer.rat: is not a field of Trainer\. Did you mean 'rate'\?"),
        ({"eval_dataset": "acme://e", "dataset": {"uri": "acme://d", "eval_dataset": "acme://f"}}, "eval_dataset: is given both to train.. and to the"),
        ({"dataset": {"uri": "acme://d", "eval_dataset": "file:///e"}}, "eval_dataset='file:///e': has a different scheme from the dataset"),
    ],
)  # fmt: skip
def test_what_is_no_source_or_trainer_is_refused(client, changed: dict[str, object], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        client.train(**GOOD | changed)


def test_an_object_of_another_kind_is_refused_with_the_right_class(client) -> None:
    import tw_acme

    with pytest.raises(
        RequestError, match=r"model: is a Data, but acme://d belongs to Model\. Write model=Model\(uri='acme://d'\)"
    ):
        client.train(**GOOD | {"model": tw_acme.Data(uri="acme://d")})


def test_an_object_of_no_plugin_is_refused(client) -> None:
    import attrs

    from tunewright import TrainerProvider

    @attrs.frozen(kw_only=True)
    class Mine(TrainerProvider):
        def train(self, run): ...

    with pytest.raises(
        RequestError, match=r"trainer: .*Mine does not belong to an installed plugin.*Installed plugins: acme"
    ):
        client.train(**GOOD | {"trainer": Mine()})


def test_inputs_on_this_machine_are_looked_at_before_submit(client, tmp_path, monkeypatch) -> None:
    with pytest.raises(RequestError, match=r"model='.*/missing': does not exist\. Give the path of a file or folder"):
        client.train(model=tmp_path / "missing", dataset="acme://d", trainer="acme")
    assert client.backend.plans == {}
    monkeypatch.setattr(type(client.backend), "shares_client_filesystem", False)
    client.train("sft", model=tmp_path / "missing", dataset="acme://d", trainer="acme")
    assert list(client.backend.plans) == ["sft"]


def test_a_job_is_submitted_once_and_handed_back(client) -> None:
    job = client.train("sft", **GOOD, labels={"team": "a"})
    assert isinstance(job, Job)
    assert (job.name, repr(job), job.state) == ("sft", "<Job sft>", JobState.CREATED)
    with pytest.raises(JobError, match="There is a job 'sft' already"):
        client.train("sft", **GOOD)
    assert [j.name for j in client.list_jobs()] == ["sft"]
    assert [j.name for j in client.list_jobs({"team": "a"})] == ["sft"]
    assert client.list_jobs({"team": "b"}) == []


def test_the_client_hands_its_options_to_the_backend(client) -> None:
    options = TrainingClient("memory", namespace="n", config_file="f", context="c").backend.options
    assert (options.namespace, options.config_file, options.context) == ("n", "f", "c")


def test_every_method_of_a_missing_job_says_that_it_is_missing(client) -> None:
    calls = [
        client.get_job,
        client.get_job_logs,
        client.get_job_events,
        client.is_job_running,
        client.suspend_job,
        client.resume_job,
    ]
    for call in [*calls, client.delete_job, client.wait_for_job_conditions]:
        with pytest.raises(JobError, match="There is no job 'nope'"):
            call("nope")


def test_the_methods_reach_the_job(client) -> None:
    client.train("sft", **GOOD)
    client.backend.lines["sft"] = [
        ("fetch-model", 0, '{"event": "fetched", "slot": "model", "files": 1, "bytes": 2}'), ("train", 0, "plain"), ("train", 1, "other"),
        ("train", 0, '[default0]:{"event": "step", "step": 1}'),
    ]  # fmt: skip
    assert list(client.get_job_logs("sft")) == ["plain", "other"]
    assert list(client.get_job_logs("sft", container="train", worker=1)) == ["other"]
    assert list(client.get_job_events("sft")) == [
        Fetched(slot="model", files=1, bytes=2), Step(step=1)
    ]  # fmt: skip
    client.backend.told["sft"] = [ClusterEvent(time="now", reason="Scheduled")]
    assert [e.event for e in client.get_job_events("sft", follow=True)] == ["cluster", "fetched", "step"]
    client.suspend_job("sft")
    client.resume_job("sft")
    client.delete_job("sft")
    assert [c for c in client.backend.calls if c[0] != "get"] == [
        ("suspend", "sft"),
        ("resume", "sft"),
        ("delete", "sft"),
    ]
    with pytest.raises(JobError):
        client.get_job("sft")


@pytest.mark.parametrize("state", JobState)
def test_a_jobs_state_may_be_asked_for(client, state: JobState) -> None:
    client.backend.script["sft"] = [JobStatus(name="sft", state=state)]
    asked = {
        JobState.CREATED: client.is_job_created, JobState.RUNNING: client.is_job_running, JobState.RESTARTING: client.is_job_restarting,
        JobState.SUCCEEDED: client.is_job_succeeded, JobState.FAILED: client.is_job_failed,
    }  # fmt: skip
    assert {s: ask("sft") for s, ask in asked.items()} == {s: s is state for s in asked}


@pytest.mark.parametrize("conditions", [["Running"], {"Running", "Succeeded"}, (JobState.RUNNING,), "Running"])
def test_conditions_are_waited_for_by_their_names(client, conditions) -> None:
    client.backend.script["sft"] = [JobStatus(name="sft", state=s) for s in (JobState.CREATED, JobState.RUNNING)]
    assert client.wait_for_job_conditions("sft", conditions).state == "Running"


@pytest.mark.parametrize("conditions", [["Runing"], "Runing", ["Succeeded", "Runing"]])
def test_a_misspelt_condition_is_asked_about(client, conditions) -> None:
    client.backend.script["sft"] = [JobStatus(name="sft", state=JobState.RUNNING)]
    with pytest.raises(
        RequestError, match=r"expected_conditions='Runing': is not a state of a job\. Did you mean 'Running'\?"
    ):
        client.wait_for_job_conditions("sft", conditions)
