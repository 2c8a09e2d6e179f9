"""Programs for kubeflow-training 1.9 run with only their imports changed: calls like those of its end-to-end test and its notebooks."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from tunewright import RequestError
from tunewright import TrainingClient as OurClient
from tunewright.kubeflow import TrainingClient, constants
from tunewright.status.state import JobState
from tunewright_hf import HuggingFaceDatasetParams, HuggingFaceModelParams, HuggingFaceTrainerParams
from tunewright_s3 import S3DatasetParams


def documents(manifests: object) -> dict[str, dict[str, object]]:
    return {d["kind"]: d for d in manifests}  # type: ignore[attr-defined]


def test_a_classifier_is_trained_as_in_the_end_to_end_test() -> None:
    client = TrainingClient(job_kind=constants.PYTORCHJOB_KIND)
    assert client.job_kind == "PyTorchJob"
    found = documents(
        client.train(
            name="from-train-api",
            namespace="team",
            model_provider_parameters=HuggingFaceModelParams(
                model_uri="hf://org/encoder", transformer_type="AutoModelForSequenceClassification", num_labels=5
            ),
            dataset_provider_parameters=HuggingFaceDatasetParams(repo_id="reviews", split="train[:8]"),
            trainer_parameters=HuggingFaceTrainerParams(
                training_parameters={"save_strategy": "no", "eval_strategy": "no", "num_train_epochs": 1},
                lora_config={"r": 8, "lora_alpha": 8, "lora_dropout": 0.1, "bias": "none"},
            ),
            num_workers=1,
            num_procs_per_worker=1,
            resources_per_worker={"gpu": 0, "cpu": 2, "memory": "10G"},
            storage_config={"size": "10Gi", "access_modes": ["ReadWriteOnce"]},
            dry_run=True,
        )
    )
    assert found["PyTorchJob"]["metadata"]["namespace"] == "team"  # type: ignore[index]
    assert "hf://datasets/reviews" in found["ConfigMap"]["data"]["dataset.json"]  # type: ignore[index]
    assert found["PersistentVolumeClaim"]["spec"]["resources"]["requests"]["storage"] == "10Gi"  # type: ignore[index]


def test_real_objects_of_the_libraries_are_taken(tmp_path: Path) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    arguments = transformers.TrainingArguments(
        output_dir=constants.INIT_CONTAINER_MOUNT_PATH, num_train_epochs=1, per_device_train_batch_size=1, warmup_steps=0.02,
        gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": False}, learning_rate=1,
        lr_scheduler_type="cosine", bf16=False, logging_steps=0.01, optim="sgd", save_steps=0.01, save_total_limit=3,
        disable_tqdm=False, resume_from_checkpoint=True, remove_unused_columns=True,
    )  # fmt: skip
    found = documents(
        TrainingClient().train(
            name="s3-test",
            num_workers=2,
            num_procs_per_worker=1,
            model_provider_parameters=HuggingFaceModelParams(
                model_uri="hf://org/chat", transformer_type=transformers.AutoModelForCausalLM
            ),
            dataset_provider_parameters=S3DatasetParams(
                endpoint_url="http://store.example", bucket_name="test", file_key="org___chats", region_name="us-east-1",
                access_key="an-id", secret_key="a-secret",
            ),
            trainer_parameters=HuggingFaceTrainerParams(
                lora_config=peft.LoraConfig(r=8, lora_alpha=8, lora_dropout=0.2, bias="none", task_type="CAUSAL_LM"),
                training_parameters=arguments,
            ),
            resources_per_worker={"gpu": 1, "cpu": 8, "memory": "8Gi"},
            dry_run=True,
        )
    )  # fmt: skip
    trainer = found["ConfigMap"]["data"]["trainer.json"]  # type: ignore[index]
    assert '"use_reentrant":false' in trainer
    assert "resume_from_checkpoint" not in trainer
    assert found["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]  # type: ignore[index]


@pytest.mark.slow
def test_a_job_is_followed_as_in_the_end_to_end_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TUNEWRIGHT_HOME", str(tmp_path / "state"))
    script = tmp_path / "train.py"
    script.write_text("print('trained')\n")
    client = TrainingClient(backend="local")
    client.create_job(name="job", namespace="team", script=script, num_workers=1)
    told: list[object] = []
    job = client.wait_for_job_conditions("job", "team", wait_timeout=100, callback=told.append)
    assert (job.metadata.name, job.metadata.namespace, job.kind) == ("job", "team", "PyTorchJob")
    assert told
    assert [c.type for c in client.get_job_conditions(job=job)][-1] == constants.JOB_CONDITION_SUCCEEDED
    assert client.is_job_created(job=job)
    assert client.is_job_succeeded(name="job", namespace="team")
    assert not any(ask(job=job) for ask in (client.is_job_running, client.is_job_restarting, client.is_job_failed))
    assert (
        client.wait_for_job_conditions("job", expected_conditions={"Running"}).status.conditions[0].type == "Succeeded"
    )
    assert [found.metadata.name for found in client.list_jobs("team")] == ["job"]
    assert client.get_job("job", "team", job_kind="PyTorchJob").metadata.name == "job"
    assert client.get_job_pod_names("job", "team") == []  # this machine has no pods
    logs, events = client.get_job_logs("job", "team", follow=True)
    assert ("trained\n" in logs["job-worker-0"], events) == (True, {})
    assert re.search(r"^\[Pod job-worker-0\]: .*trained$", capsys.readouterr().out, re.MULTILINE)
    client.delete_job("job", "team")
    assert client.list_jobs() == []


def test_a_manifest_comes_first_and_has_its_own_namespace() -> None:
    container = {"name": "pytorch", "image": "busybox:1"}
    spec = {"pytorchReplicaSpecs": {"Master": {"replicas": 1, "template": {"spec": {"containers": [container]}}}}}
    manifest = {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": "mnist", "namespace": "user"},
    }
    found = documents(TrainingClient(namespace="other").create_job({**manifest, "spec": spec}, dry_run=True))
    assert found["PyTorchJob"]["metadata"]["namespace"] == "user"  # type: ignore[index]


def test_pods_are_chosen_as_in_1_9(monkeypatch: pytest.MonkeyPatch) -> None:
    pods = [
        SimpleNamespace(name=f"job-{kind}-{i}", worker=w)
        for w, (kind, i) in enumerate([("master", 0), ("worker", 0), ("worker", 1)])
    ]
    monkeypatch.setattr(OurClient, "get_job_pods", lambda self, name: pods)
    client = TrainingClient()
    assert client.get_job_pod_names("job") == ["job-master-0", "job-worker-0", "job-worker-1"]
    assert client.get_job_pod_names("job", is_master=True) == ["job-master-0"]
    assert client.get_job_pod_names("job", "team", replica_type="Worker", replica_index=1) == ["job-worker-1"]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: TrainingClient(job_kind="TFJob"), "job_kind='TFJob': is not a kind that Tunewright runs"),
        (lambda: TrainingClient().get_job("a", job_kind="MPIJob"), "job_kind='MPIJob'"),
        (lambda: TrainingClient(client_configuration=object()), "client_configuration: is not supported"),
        (lambda: TrainingClient().is_job_running(), r"name: is missing\. Give name= or job="),
    ],
)
def test_what_has_no_equivalent_is_refused(call, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        call()


MODEL = HuggingFaceModelParams(uri="hf://org/model")
DATASET = S3DatasetParams(dataset="s3://bucket/train")
TRAINER = HuggingFaceTrainerParams(learning_rate=1e-4)


@pytest.mark.parametrize(
    "positional",
    [
        (MODEL, DATASET, TRAINER),
        (TRAINER, MODEL, DATASET),
        ("sft", DATASET, MODEL, TRAINER),
        (1, 1, {"cpu": 2}, MODEL, DATASET, TRAINER),
    ],
)
def test_objects_are_known_by_their_types(positional: tuple[object, ...]) -> None:
    keywords = {} if len(positional) > 4 else {"num_workers": 1, "resources_per_worker": {"cpu": 2}}
    request = OurClient().train_request(*positional, dry_run=True, **keywords)
    assert (request.model.provider, request.dataset.provider) == (MODEL, DATASET)
    assert dict(request.trainer.provider.training_parameters) == {"learning_rate": 1e-4}
    assert request.resources_per_worker.cpu == 2


def test_two_objects_of_one_type_are_refused() -> None:
    with pytest.raises(RequestError, match="dataset: is given twice: a S3DatasetParams and a S3DatasetParams"):
        OurClient().train_request(MODEL, DATASET, DATASET, TRAINER, dry_run=True)


def test_states_have_the_names_of_1_9() -> None:
    names = {name for name in vars(constants) if name.startswith("JOB_CONDITION_")}
    assert {getattr(constants, name) for name in names} <= {str(state) for state in JobState}
