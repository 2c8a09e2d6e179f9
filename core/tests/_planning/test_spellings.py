"""Other spellings: KEP-2003's arguments by position and by name, and kubeflow-training 1.9's names."""

import copy
from types import SimpleNamespace

import pytest

from tunewright import RequestError, SecretRef, SecretValue
from tunewright._planning.spellings import TRAIN, create_job_keywords, train_keywords

KEP = (
    1,
    2,
    {"gpu": "2", "cpu": 8, "memory": "16Gi"},
    "hf://openchat/openchat_3.5",
    "s3://b/train",
    {"learning_rate": 0.1},
)
NAMES = ("num_workers", "num_procs_per_worker", "resources_per_worker", "model", "dataset", "trainer")
MEANT = dict(zip(NAMES, (*KEP[:5], {"provider": "hf", "learning_rate": 0.1}), strict=True))


def test_the_keps_arguments_in_their_order() -> None:
    assert train_keywords(KEP, {}) == MEANT


@pytest.mark.parametrize("name", ["sft", None])
def test_a_name_may_stand_before_them(name: str | None) -> None:
    assert train_keywords((name, *KEP), {}) == {"name": name, **MEANT}
    assert train_keywords((name,), dict(zip(NAMES, KEP, strict=True))) == {"name": name, **MEANT}


@pytest.mark.parametrize("count", range(len(KEP) + 1))
def test_they_may_be_given_partly_by_position_and_partly_by_name(count: int) -> None:
    assert train_keywords(KEP[:count], dict(list(zip(NAMES, KEP, strict=True))[count:])) == MEANT


def test_the_keps_own_names() -> None:
    keywords = {"model_args": KEP[3], "dataset_args": KEP[4], "parameters": KEP[5]}
    assert train_keywords(KEP[:3], keywords) == MEANT


def test_the_names_of_kubeflow_training_1_9() -> None:
    theirs = {
        "name": "sft",
        "num_workers": 2,
        "model_provider_parameters": "hf://org/model",
        "dataset_provider_parameters": "s3://b/p",
        "trainer_parameters": "hf",
        "storage_config": {"size": "10Gi", "storage_class": None, "access_modes": ["ReadWriteOnce", "ReadOnlyMany"]},
        "queue_name": "team",
        "env_vars": {"A": "1"},
        "init_env_vars": {"B": "2"},
    }
    before = copy.deepcopy(theirs)
    assert train_keywords((), theirs) == {
        "name": "sft", "num_workers": 2, "model": "hf://org/model", "dataset": "s3://b/p", "trainer": "hf",
        "storage": theirs["storage_config"], "queue": "team", "env": {"A": "1"}, "init_env": {"B": "2"},
    }  # fmt: skip
    assert theirs == before


def test_variables_may_be_a_list_of_kubernetes_objects() -> None:
    kubernetes = pytest.importorskip("kubernetes.client")
    variables = [
        kubernetes.V1EnvVar(name="A", value="1"),
        {"name": "B", "value": "2"},
        SimpleNamespace(name="C", value=""),
    ]
    for make in (lambda k: train_keywords((), k), create_job_keywords):
        assert make({"env_vars": variables})["env"] == {"A": "1", "B": "2", "C": ""}


def test_a_variable_from_elsewhere_says_how_to_write_it() -> None:
    kubernetes = pytest.importorskip("kubernetes.client")
    source = kubernetes.V1EnvVarSource(secret_key_ref=kubernetes.V1SecretKeySelector(name="s", key="k"))
    for variable in (kubernetes.V1EnvVar(name="TOKEN", value_from=source), {"name": "TOKEN", "valueFrom": {}}):
        with pytest.raises(RequestError, match=r"env_vars\['TOKEN'\].*env=\{'TOKEN': SecretRef"):
            create_job_keywords({"env_vars": [variable]})


@pytest.mark.parametrize("item", ["A=1", 3, {"value": "1"}, None])
def test_a_list_of_anything_else_is_refused(item: object) -> None:
    with pytest.raises(RequestError, match=r"env_vars: contains a .*, which names no variable"):
        create_job_keywords({"env_vars": [item]})


@pytest.mark.parametrize("make", [lambda k: train_keywords((), k), create_job_keywords])
def test_the_namespace_is_the_clients(make) -> None:
    with pytest.raises(RequestError, match=r"namespace='team'.*TrainingClient\(namespace=…\)"):
        make({"namespace": "team"})


@pytest.mark.parametrize(
    ("positional", "keywords", "says"),
    [
        ((), {"model": "a", "model_args": "b"}, r"model_args: means the same as model, and both are given"),
        (
            (),
            {"model_args": "b", "model_provider_parameters": "a"},
            "model_provider_parameters: means the same as model",
        ),
        ((1,), {"num_workers": 1}, "num_workers: is a positional argument, too, and both are given"),
        (("n",), {"name": "n"}, "name: is a positional argument, too"),
        ((*KEP, "more"), {}, r"train\(\): takes 6 positional arguments, but 7 were given.*use keywords"),
        (("n", *KEP, "more"), {}, r"takes 7 positional arguments, but 8 were given"),
    ],
)
def test_an_argument_is_given_once(positional: tuple[object, ...], keywords: dict[str, object], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        train_keywords(positional, keywords)


def test_parameters_without_a_provider_are_for_the_hf_trainer_and_are_not_changed() -> None:
    given = {"learning_rate": 0.1}
    assert train_keywords((), {"parameters": given})["trainer"] == {"provider": "hf", "learning_rate": 0.1}
    assert given == {"learning_rate": 0.1}
    named = {"provider": "acme", "rate": 1}
    assert train_keywords((), {"parameters": named})["trainer"] == named


def test_the_keps_call_makes_the_request_that_the_keywords_make(client) -> None:
    from tunewright_hf import HuggingFaceModelParams, HuggingFaceTrainParams
    from tunewright_s3 import S3DatasetParams

    model = HuggingFaceModelParams(model="hf://openchat/openchat_3.5", access_token="a-literal")
    dataset = S3DatasetParams(
        dataset="s3://doc-example-bucket1/train_dataset",
        eval_dataset="s3://doc-example-bucket1/eval_dataset",
        access_token="KEYID:SECRETKEY",
        region="us-west-2",
    )
    trainer = HuggingFaceTrainParams(learning_rate=0.1, transformerClass="Trainer", peft_config={})
    resources = {"gpu": "2", "cpu": 8, "memory": "16Gi"}
    by_position = client.train_request("kep", 1, 1, resources, model, dataset, trainer)
    by_name = client.train_request(
        name="kep",
        num_workers=1,
        num_procs_per_worker=1,
        resources_per_worker=resources,
        model=model,
        dataset=dataset,
        trainer=trainer,
    )
    theirs = client.train_request(
        name="kep", resources_per_worker=resources,
        model_provider_parameters=model, dataset_provider_parameters=dataset, trainer_parameters=trainer,
    )  # fmt: skip
    assert by_position == by_name == theirs
    assert by_name.resources_per_worker.gpu == 2
    assert by_name.eval_dataset.provider.uri == "s3://doc-example-bucket1/eval_dataset"
    assert client.train("kep", 1, 1, resources, model, dataset, trainer, dry_run=True)


def test_key_value_pairs_are_the_hf_trainers_parameters(client) -> None:
    request = client.train_request(
        model="acme://m", dataset="acme://d", parameters={"learning_rate": 0.1, "peft_config": {"r": 4}}
    )
    assert dict(request.trainer.provider.training_parameters) == {"learning_rate": 0.1}
    assert dict(request.trainer.provider.lora_config) == {"r": 4}


def test_variables_of_1_9_reach_the_request(client) -> None:
    request = client.train_request(
        model="acme://m", dataset="acme://d", trainer="acme", queue_name="team",
        env_vars=[{"name": "A", "value": "1"}], init_env_vars={"B": SecretValue("x"), "C": SecretRef(name="s", key="k")},
    )  # fmt: skip
    assert (request.scheduling.queue, request.env) == ("team", {"A": "1"})
    assert request.init_env == {"B": SecretValue("x"), "C": SecretRef(name="s", key="k")}


@pytest.mark.parametrize(
    ("theirs", "field"),
    [
        ({"queue_name": "Team A"}, "queue_name"),
        ({"env_vars": {"A": 1}}, "env_vars['A']"),
        ({"init_env_vars": {"HF_TOKEN": "plain-text-token"}}, "init_env_vars['HF_TOKEN']"),
        ({"storage_config": {"size": "16 gigs"}}, "storage_config.size"),
        ({"storage_config": {"sise": "1Gi"}}, "storage_config.sise"),
        ({"trainer_parameters": {"provider": "acme", "rat": 1}}, "trainer_parameters.rat"),
        ({"model_provider_parameters": {"uri": "acme://m", "revison": "1"}}, "model_provider_parameters.revison"),
        ({"dataset_args": "folder"}, "dataset_args"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["train", "train_request"])
def test_errors_name_the_keyword_that_the_user_wrote(client, theirs: dict, field: str, method: str) -> None:
    good = {"model": "acme://m", "dataset": "acme://d", "trainer": "acme"}
    kept = {ours: value for ours, value in good.items() if ours not in {TRAIN.get(name) for name in theirs}}
    with pytest.raises(RequestError) as caught:
        getattr(client, method)(**kept, **theirs)
    assert caught.value.field == field
    assert str(caught.value).startswith(field)
    assert str(caught.value).endswith(caught.value.remedy)


def test_errors_about_the_plan_name_it_too(client) -> None:
    with pytest.raises(RequestError, match=r"^storage_config\.claim='data': is a ReadWriteOnce claim"):
        client.train(
            "sft", model="acme://m", dataset="acme://d", trainer="acme", num_workers=3, storage_config={"claim": "data"}
        )


def test_an_error_about_another_argument_stays_as_it_is(client) -> None:
    with pytest.raises(RequestError, match=r"^num_workers=0: must be at least 1"):
        client.code_request(base_image="a:1", queue_name="team", num_workers=0)
    with pytest.raises(RequestError, match=r"^queue=3: "):
        client.code_request(base_image="a:1", queue=3)


def test_lists_of_variables_are_named_as_written() -> None:
    with pytest.raises(
        RequestError, match=r"^init_env_vars\['T'\]: has no literal value\. Write init_env=\{'T': SecretRef"
    ):
        create_job_keywords({"init_env_vars": [{"name": "T"}]})
