"""Real training on a real cluster: torchrun over several pods, and a fine-tuning from a hub to the finished model.

The pods get this machine's Python environment, because an image with torch has gigabytes.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.cluster import trainer
from tests.cluster.cluster import Cluster
from tests.cluster.helpers import CHEAP, STEPS, PackageIndex, at_s3, build_wheel, client_in
from tests.servers.hub import Hub
from tests.servers.s3 import Gateway, S3Proxy
from tests.test_plugins_isolation import MODULE, PYPROJECT

from tunewright import Job, JobState, TrainingClient
from tunewright.events import Event, Start, Step, Uploaded, parse_event

BUILD = PYPROJECT.partition("[project]")[0]
pytestmark = pytest.mark.timeout(900)


SCRIPT = """
import sys, time
import greeting
from steps.reduce import all_reduce

line = " ".join(map(str, (greeting.words, *sys.argv[1:], *all_reduce())))
sys.stdout.write(line + "\\n")  # at once: ranks share what they write to
sys.stdout.flush()
time.sleep(15)  # the log of a worker that the operator removes is gone with it
"""
REDUCE = """
import os
import torch
import torch.distributed as dist

def all_reduce():
    dist.init_process_group("gloo")
    ranks = torch.tensor([dist.get_rank() + 1])
    dist.all_reduce(ranks)
    dist.destroy_process_group()
    return *(os.environ[k] for k in ("RANK", "LOCAL_RANK", "WORLD_SIZE")), int(ranks)
"""


def test_two_workers_of_two_processes_each_reduce_together_in_a_script_with_its_folder_and_a_package(
    own_cluster: Cluster, client: TrainingClient, image: str, volumes, on_node, tmp_path: Path
) -> None:
    folder = volumes("ReadWriteMany")
    (tmp_path / "src" / "steps").mkdir(parents=True)
    (tmp_path / "src" / "train.py").write_text(SCRIPT)
    (tmp_path / "src" / "steps" / "reduce.py").write_text(REDUCE)
    project = '[project]\nname = "greeting"\nversion = "1.2"\n'
    wheel = build_wheel(tmp_path / "greeting", f"{BUILD}{project}", greeting="words = 'hello from'")
    with PackageIndex(wheel) as index:
        job = client.create_job(
            "reduce",
            script="train.py",
            script_folder=tmp_path / "src",
            args=["rank"],
            packages_to_install=["greeting>=1"],
            pip_index_url=f"{index.url}/simple",
            init_env={"PIP_TRUSTED_HOST": index.address},
            base_image=image,
            num_workers=2,
            num_procs_per_worker=2,
            storage={"access_modes": ["ReadWriteMany"]},
            resources_per_worker=CHEAP,
            pod_overrides=on_node(),
        )
        # The operator removes the pod of a worker that still ends when another has succeeded, and its log with it.
        lines = list(job.log_lines(follow=True))
    assert job.wait(timeout=180).state is JobState.SUCCEEDED, lines
    said = {line.text.rpartition("hello from ")[2] for line in lines if "hello from " in line.text}
    assert said == {f"rank {rank} {rank % 2} 4 10" for rank in range(4)}
    assert {line.worker for line in lines if "hello from" in line.text} == {0, 1}
    assert (folder / "output").is_dir()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two small layers with a byte-level tokenizer, saved by the real classes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {word: i for i, word in enumerate(["<s>", "</s>", *alphabet])}
    raw = Tokenizer(models.BPE(words, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(words), max_position_embeddings=128, bos_token_id=0, eos_token_id=1, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def tune(
    client: TrainingClient, image: str, on_node, model: Path, gateway: Gateway, s3: S3Proxy, _reachable
) -> Iterator[Callable]:
    """Submits a fine-tuning; `model` and `dataset` say from where, `training` are fields of TrainingArguments."""
    rows = "".join(json.dumps({"text": f"{n} and {n} make {n + n}."}) + "\n" for n in range(32)).encode()
    files = {file.name: file.read_bytes() for file in model.iterdir()}
    for key, body in {
        **{f"models/tiny/{name}": body for name, body in files.items()},
        "data/t/rows.jsonl": rows,
    }.items():
        gateway.put(key, body)
    with Hub() as hub:
        hub.repo("acme/tiny", files)
        hub.repo("acme/rows", {"rows.jsonl": rows}, kind="datasets")
        hf = {"provider": "hf", "endpoint": hub.url}
        models = {"hf": {**hf, "uri": "hf://acme/tiny"}, "s3": at_s3(s3, "models/tiny")}
        datasets = {"hf": {**hf, "uri": "hf://datasets/acme/rows"}, "s3": at_s3(s3, "data/t")}

        def submit(
            name: str,
            training: dict,
            *,
            model: str = "hf",
            dataset: str = "hf",
            by: TrainingClient = client,
            **more: object,
        ) -> Job:
            arguments = {"per_device_train_batch_size": 4, "logging_steps": 1, **training}
            return by.train(
                name,
                model=models[model],
                dataset=datasets[dataset],
                trainer={"provider": "hf", "training_parameters": arguments},
                image=image,
                resources_per_worker=CHEAP,
                pod_overrides=on_node(*STEPS, main="train"),
                **more,
            )

        yield submit


def assert_uploaded(gateway: Gateway, key: str, original: Path, folder: Path) -> None:
    """What lies there is whole, and a model that plain transformers load, with other weights than before."""
    import torch
    from transformers import AutoModelForCausalLM

    marker = json.loads(gateway.get(f"{key}/complete.json"))
    for name, record in marker["files"].items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gateway.get(f"{key}/{name}"))
        assert hashlib.sha256(file.read_bytes()).hexdigest() == record["sha256"]
    before, after = (AutoModelForCausalLM.from_pretrained(place).state_dict() for place in (original, folder))
    assert before.keys() == after.keys()
    assert not torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])


def events_of(job: Job) -> list[Event]:
    return [event for line in job.log_lines() if (event := parse_event(line.text))]


def test_a_model_of_a_hub_is_tuned_and_lies_on_the_claim(tune, volumes) -> None:
    folder = volumes()
    job = tune("tune", {"max_steps": 6})
    seen = []
    status = job.wait(timeout=600, callback=seen.append)
    assert status.state is JobState.SUCCEEDED
    assert status.result == "pvc://tune-workspace/output/model"
    assert (folder / "output" / "model" / "config.json").exists()
    assert JobState.DOWNLOADING in [status.state for status in seen]
    assert {"fetched", "step", "saved"} <= {event.event for event in events_of(job)}
    assert {line.container for line in job.log_lines(container="fetch-model")} == {"fetch-model"}


def test_a_worker_whose_pod_is_deleted_goes_on_from_its_checkpoint_and_its_model_is_uploaded(
    own_cluster: Cluster, namespace: str, tune, volumes, gateway: Gateway, s3: S3Proxy, model: Path, tmp_path: Path
) -> None:
    volumes()
    training = {"max_steps": 400, "save_strategy": "steps", "save_steps": 20}
    job = tune("again", training, model="s3", dataset="hf", output=at_s3(s3, "results/again"))
    starts, deleted = [], False
    for event in job.events(follow=True):
        if isinstance(event, Start):
            starts.append(event.resumed_from)
        if isinstance(event, Step) and event.step > 50 and not deleted:
            own_cluster.kubectl("delete", "pod", "again-worker-0", "-n", namespace, "--wait=false")
            deleted = True
    assert job.wait(timeout=180).state is JobState.SUCCEEDED
    assert len(starts) == 2
    assert not starts[0]
    assert starts[1] >= 40
    assert events_of(job)[-1].event == "uploaded"
    assert_uploaded(gateway, "results/again", model, tmp_path)


def test_three_workers_without_a_common_volume_lose_their_first_pod_and_go_on_from_an_uploaded_checkpoint(
    own_cluster: Cluster, namespace: str, tune, volumes, gateway: Gateway, s3: S3Proxy, model: Path, tmp_path: Path
) -> None:
    for _ in range(8):  # each of them may lose its volume once
        volumes()
    training = {"max_steps": 300, "save_strategy": "steps", "save_steps": 20, "per_device_train_batch_size": 1}
    output = at_s3(s3, "results/three")
    job = tune("three", training, model="hf", dataset="s3", num_workers=3, output=output)
    starts, deleted = [], False
    for event in job.events(follow=True):
        if isinstance(event, Start):
            starts.append(event.resumed_from)
        if isinstance(event, Uploaded) and not deleted:
            # It hosts the rendezvous, and its volume goes with it.
            own_cluster.kubectl("delete", "pod", "three-worker-0", "-n", namespace, "--wait=false")
            deleted = True
    status = job.wait(timeout=180)
    assert status.state is JobState.SUCCEEDED
    assert status.result == output["uri"]
    assert not starts[0]
    assert starts[-1] >= 20, starts
    assert_uploaded(gateway, "results/three", model, tmp_path)


def test_a_strangers_plugin_that_exists_only_as_a_wheel_is_installed_when_a_pod_starts(
    own_cluster: Cluster, namespace: str, image: str, volumes, on_node, tmp_path: Path, monkeypatch
) -> None:
    folder, wheel = volumes(), build_wheel(tmp_path / "weather", PYPROJECT, tunewright_weather=MODULE)
    shutil.unpack_archive(wheel, tmp_path / "site", "zip")  # as the user has it installed
    monkeypatch.syspath_prepend(tmp_path / "site")
    overrides = on_node(*STEPS)
    overrides["spec"]["initContainers"].append({"name": "install-plugins", "image": image})
    with PackageIndex(wheel) as index:
        job = client_in(own_cluster, namespace).train(
            "strange",
            model="weather://oslo",
            dataset={"provider": "weather", "uri": "weather://rain", "token": "a-literal", "days": 3},
            trainer="weather",
            init_env=index.env,
            pod_overrides=overrides,
        )
        job.wait(timeout=180)
    assert "tunewright-weather-0.3" in "\n".join(job.logs(container="install-plugins"))
    assert (folder / "output" / "model" / "averages.txt").read_text().startswith('["a-literal", 3] of 1')


def test_a_plugin_that_was_installed_from_a_folder_gets_into_the_pods_as_that_very_build(
    own_cluster: Cluster, namespace: str, image: str, volumes, on_node, tmp_path: Path, monkeypatch
) -> None:
    folder, wheel = volumes(), build_wheel(tmp_path / "weather", PYPROJECT, tunewright_weather=MODULE)
    shutil.unpack_archive(wheel, tmp_path / "site", "zip")
    record = next((tmp_path / "site").glob("*.dist-info")) / "direct_url.json"  # as pip leaves it
    record.write_text(json.dumps({"url": (tmp_path / "weather").as_uri(), "dir_info": {}}), "utf-8")
    monkeypatch.syspath_prepend(tmp_path / "site")
    overrides = on_node(*STEPS)
    overrides["spec"]["initContainers"].append({"name": "install-plugins", "image": image})
    job = client_in(own_cluster, namespace).train(
        "built",
        model="weather://oslo",
        dataset={"provider": "weather", "uri": "weather://rain", "token": "a-literal", "days": 3},
        trainer="weather",
        init_env={"PIP_NO_INDEX": "1"},
        pod_overrides=overrides,
    )
    assert job.wait(timeout=180).state is JobState.SUCCEEDED
    assert "tunewright-wheels/tunewright_weather-0.3" in "\n".join(job.logs(container="install-plugins"))
    assert (folder / "output" / "model" / "averages.txt").read_text().startswith('["a-literal", 3] of 1')


@pytest.mark.slow
def test_the_status_of_a_trainjob_has_the_progress_where_trainers_gate_is_on(
    own_cluster: Cluster, namespace: str, tune, volumes
) -> None:
    if not trainer.installed(own_cluster):
        pytest.skip("needs Trainer: python -m tests.cluster up --with trainer")
    for _ in range(2):
        volumes()
    admin = TrainingClient("trainjob", namespace=namespace, config_file=str(own_cluster.kubeconfig))
    with trainer.feature_gate(own_cluster, "TrainJobStatus"):
        job = tune("told", {"max_steps": 12}, by=admin)
        assert job.wait(timeout=600).state is JobState.SUCCEEDED, list(job.logs())[-20:]
        told = own_cluster.json("trainjob", "told", "-n", namespace)["status"]["trainerStatus"]
    assert told["progressPercentage"] == 100
    metrics = {metric["name"]: metric["value"] for metric in told["metrics"]}
    assert float(metrics["loss"]) > 0
    assert float(metrics["learning_rate"]) >= 0
