"""Volumes on a real cluster, by access mode: who downloads how often, who shares with whom, and what stays."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cluster.cluster import Cluster
from tests.cluster.helpers import (
    CHEAP,
    at_s3,
    downloads,
    eventually,
    left,
    make_claim,
    nothing_left,
    sees_in_place_of_training,
)
from tests.servers.hub import Hub
from tests.servers.s3 import BUCKET, Gateway, S3Proxy

from tunewright import Job, JobError, JobState, TrainingClient

pytestmark = pytest.mark.timeout(600)

WEIGHTS, ROWS = b"w" * 100_000, b'{"text": "a row"}\n'
SEEN = {
    "sees model/complete.json",
    "sees model/config.json",
    "sees model/weights.bin",
    "sees dataset/complete.json",
    "sees dataset/rows.jsonl",
    "writes refused: Read-only file system",
}


@pytest.fixture(scope="module")
def filled(gateway: Gateway) -> None:
    """A model and two datasets."""
    gateway.put("models/one/config.json", b"{}")
    gateway.put("models/one/weights.bin", WEIGHTS)
    for name in ("rows", "others"):
        gateway.put(f"data/{name}/rows.jsonl", ROWS)


@pytest.fixture
def look(client: TrainingClient, s3: S3Proxy, image: str, on_node, filled: None) -> Callable[..., Job]:
    """Starts a job that fetches a model and a dataset, and tells what it sees."""

    def start(name: str, *, rows: str = "rows", **more: object) -> Job:
        return client.train(
            name,
            model=at_s3(s3, "models/one"),
            dataset=at_s3(s3, f"data/{rows}"),
            trainer="hf",
            image=image,
            resources_per_worker=CHEAP,
            pod_overrides=sees_in_place_of_training(on_node),
            **more,
        )

    return start


def has_seen(job: Job, workers: int = 1) -> None:
    """Each worker has told that it sees everything."""
    job.wait([JobState.RUNNING], timeout=180)
    for worker in range(workers):
        eventually(lambda worker=worker: "has seen" in job.logs(container="train", worker=worker), True)
        lines = list(job.logs(container="train", worker=worker))
        said = {line.rpartition(" ")[0] if line.startswith("sees") else line for line in lines}
        assert said == {*SEEN, "has seen"}


def let_end(job: Job, *outputs: Path) -> None:
    for output in outputs:
        (output / "go").touch()
    assert job.wait(timeout=180).state is JobState.SUCCEEDED


def test_three_workers_on_one_volume_download_once(look, volumes, s3: S3Proxy) -> None:
    folder = volumes("ReadWriteMany")
    job = look("shared", num_workers=3, storage={"access_modes": ["ReadWriteMany"]})
    has_seen(job, workers=3)
    assert downloads(s3) == {"models/one/config.json": 1, "models/one/weights.bin": 1, "data/rows/rows.jsonl": 1}
    let_end(job, folder / "output")


def test_three_workers_with_a_volume_each_download_each_and_the_volumes_go_with_them(
    look, volumes, s3: S3Proxy, own_cluster: Cluster, namespace: str
) -> None:
    folders = [volumes() for _ in range(3)]
    job = look("apart", num_workers=3, output=at_s3(s3, "results/apart"))
    has_seen(job, workers=3)
    assert downloads(s3)["models/one/weights.bin"] == downloads(s3)["data/rows/rows.jsonl"] == 3
    claims = own_cluster.json("pvc", "-n", namespace)["items"]
    owners = {claim["metadata"]["ownerReferences"][0]["name"] for claim in claims}
    assert owners == {f"apart-worker-{worker}" for worker in range(3)}
    let_end(job, *(folder / "output" for folder in folders))
    job.delete()
    nothing_left(own_cluster, namespace)


def test_jobs_that_need_the_same_share_one_download_of_it(
    look, volumes, s3: S3Proxy, own_cluster: Cluster, namespace: str
) -> None:
    folder = volumes("ReadWriteMany")
    make_claim(own_cluster, namespace, "models", "ReadWriteMany")
    storage = {"claim": "models", "access_modes": ["ReadWriteMany"], "key": "auto"}
    jobs = [look(name, rows=rows, storage=storage) for name, rows in (("a", "rows"), ("b", "rows"), ("c", "others"))]
    for job in jobs:
        has_seen(job)
    once = ("models/one/config.json", "models/one/weights.bin", "data/rows/rows.jsonl", "data/others/rows.jsonl")
    assert downloads(s3) == dict.fromkeys(once, 1)
    for job in jobs:
        let_end(job, folder / "jobs" / job.name / "output")
        job.delete()
    assert left(own_cluster, namespace, "models", "pvc") == ["PersistentVolumeClaim/models"]
    markers = [json.loads(file.read_text()) for file in folder.glob("*/*/complete.json")]
    assert sorted(marker["uri"].removeprefix(f"s3://{BUCKET}/") for marker in markers) == [
        "data/others",
        "data/rows",
        "models/one",
    ]


@pytest.mark.usefixtures("_reachable")
def test_a_volume_that_a_job_has_filled_is_read_by_two_others_at_once_without_a_download(
    client: TrainingClient, own_cluster: Cluster, namespace: str, image: str, on_node, volumes
) -> None:
    volumes("ReadWriteOnce", "ReadOnlyMany")
    make_claim(own_cluster, namespace, "prepared", "ReadWriteOnce", "ReadOnlyMany")
    rest = {"resources_per_worker": CHEAP}
    with Hub() as hub:
        hub.repo("acme/one", {"config.json": b"{}", "weights.bin": WEIGHTS})
        hub.repo("acme/rows", {"rows.jsonl": ROWS}, kind="datasets")
        fetch = "tunewright fetch hf://{} $TUNEWRIGHT_WORKSPACE/output --kind {}"
        both = " && ".join((fetch.format("acme/one", "model"), fetch.format("datasets/acme/rows", "dataset")))
        client.create_job(
            "prepare",
            base_image=image,
            command=["sh", "-c", both],
            env={"HF_ENDPOINT": hub.url},
            storage={"claim": "prepared"},
            pod_overrides=on_node(),
            **rest,
        ).wait(timeout=180)
        assert hub.log
    storage = {"claim": "prepared", "access_modes": ["ReadOnlyMany"], "key": "jobs/prepare/output"}
    outputs = [volumes() for _ in range(2)]
    jobs = [
        client.train(
            name,
            model="hf://acme/one",  # the Hub is gone, and there is no other that pods could reach
            dataset="hf://datasets/acme/rows",
            trainer="hf",
            storage=storage,
            image=image,
            pod_overrides=sees_in_place_of_training(on_node),
            **rest,
        )
        for name in ("first", "second")
    ]
    for job in jobs:
        has_seen(job)
    assert all(job.state is JobState.RUNNING for job in jobs)
    for folder in outputs:
        (folder / "output" / "go").touch()
    for job in jobs:
        assert job.wait(timeout=180).state is JobState.SUCCEEDED


def test_a_prepared_volume_that_lacks_something_fails_the_job(
    client: TrainingClient, own_cluster: Cluster, namespace: str, image: str, on_node, volumes
) -> None:
    volumes("ReadOnlyMany")
    make_claim(own_cluster, namespace, "empty", "ReadOnlyMany")
    volumes()
    job = client.train(
        "hungry",
        model="hf://acme/one",
        dataset="hf://datasets/acme/rows",
        trainer="hf",
        storage={"claim": "empty", "access_modes": ["ReadOnlyMany"], "key": "no/such"},
        image=image,
        resources_per_worker=CHEAP,
        pod_overrides=sees_in_place_of_training(on_node),
    )
    with pytest.raises(
        JobError, match="no/such/model does not hold what is requested, and the volume is mounted read-only"
    ):
        job.wait(timeout=180)
