"""Real training on a real cluster: torchrun over several pods, and a fine-tuning from a hub to the finished model.

The pods get this machine's Python environment, because an image with torch has gigabytes.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.cluster.cluster import Cluster
from tests.servers.hub import Hub

from tunewright import Job, JobState, TrainingClient
from tunewright.events import parse_event

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = ("fetch-model", "fetch-dataset", "check")


def all_reduce(rounds: int) -> None:
    import os

    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    for _ in range(rounds):
        ranks = torch.tensor([dist.get_rank() + 1])
        dist.all_reduce(ranks)
    seen = {k: os.environ[k] for k in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    print("ranks", seen["RANK"], seen["LOCAL_RANK"], seen["WORLD_SIZE"], "sum", int(ranks), flush=True)
    dist.destroy_process_group()


def test_two_workers_of_two_processes_each_reduce_together(
    own_cluster: Cluster, client: TrainingClient, image: str, volumes, on_node
) -> None:
    volumes("ReadWriteMany")
    job = client.create_job(
        "reduce",
        train_func=all_reduce,
        parameters={"rounds": 3},
        base_image=image,
        num_workers=2,
        num_procs_per_worker=2,
        storage={"access_modes": ["ReadWriteMany"]},
        pod_overrides=on_node(),
    )
    # The operator removes the pod of a worker that still ends when another has succeeded, and its log with it.
    lines = list(job.log_lines(follow=True))
    assert job.wait(timeout=60).state is JobState.SUCCEEDED, lines
    said = {line.text.rpartition("ranks ")[2] for line in lines if "ranks " in line.text}
    assert said == {f"{rank} {rank % 2} 4 sum 10" for rank in range(4)}
    assert {line.worker for line in lines} == {0, 1}


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
    own_cluster: Cluster, client: TrainingClient, image: str, on_node, model: Path, _reachable
) -> Iterator[Callable]:
    """Submits a fine-tuning from a hub; `training` are fields of TrainingArguments."""
    rows = "".join(json.dumps({"text": f"{n} and {n} make {n + n}."}) + "\n" for n in range(32))
    overrides = on_node(*STEPS)
    for container in overrides["spec"]["initContainers"]:
        container["image"] = image
    with Hub() as hub:
        hub.repo("acme/tiny", {file.name: file.read_bytes() for file in model.iterdir()})
        hub.repo("acme/rows", {"rows.jsonl": rows.encode()}, kind="datasets")

        def submit(name: str, **training: object) -> Job:
            arguments = {"per_device_train_batch_size": 4, "logging_steps": 1, **training}
            return client.train(
                name,
                model={"provider": "hf", "uri": "hf://acme/tiny", "endpoint": hub.url},
                dataset={"provider": "hf", "uri": "hf://datasets/acme/rows", "endpoint": hub.url},
                trainer={"provider": "hf", "training_parameters": arguments},
                image=image,
                pod_overrides=overrides,
            )

        yield submit


def events_of(job: Job) -> list[dict]:
    return [event for line in job.log_lines() if (event := parse_event(line.text))]


def test_a_model_of_a_hub_is_tuned_and_lies_on_the_claim(tune, volumes) -> None:
    folder = volumes()
    job = tune("tune", max_steps=6)
    seen = []
    status = job.wait(timeout=600, callback=seen.append)
    assert status.state is JobState.SUCCEEDED
    assert status.result == "pvc://tune-workspace/output/model"
    assert (folder / "output" / "model" / "config.json").exists()
    assert JobState.DOWNLOADING in [status.state for status in seen]
    assert {"fetched", "step", "saved"} <= {event["event"] for event in events_of(job)}
    assert {line.step for line in job.log_lines(step="fetch-model")} == {"fetch-model"}


def test_a_worker_whose_pod_is_deleted_while_it_trains_goes_on_from_its_checkpoint(
    own_cluster: Cluster, namespace: str, tune, volumes
) -> None:
    folder = volumes()
    job = tune("again", max_steps=400, save_strategy="steps", save_steps=20)
    starts, deleted = [], False
    for event in job.events(follow=True):
        if event["event"] == "start":
            starts.append(event["resumed_from"])
        if event["event"] == "step" and event["step"] > 50 and not deleted:
            own_cluster.kubectl("delete", "pod", "again-worker-0", "-n", namespace, "--wait=false")
            deleted = True
    assert job.wait(timeout=60).state is JobState.SUCCEEDED
    assert len(starts) == 2
    assert not starts[0]
    assert starts[1] >= 40
    assert (folder / "output" / "model" / "config.json").exists()
    assert events_of(job)[-1]["event"] == "saved"
