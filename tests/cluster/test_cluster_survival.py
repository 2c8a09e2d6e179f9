"""What jobs on a real cluster survive: lost pods, crashes, slow and cut downloads, fewer workers; and what ends them."""

import itertools
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.cluster import Cluster
from tests.cluster.helpers import (
    CHEAP,
    RUN,
    STEPS,
    ReachableS3,
    at_s3,
    client_in,
    command,
    eventually,
    fresh_namespace,
    make_claim,
    sees_in_place_of_training,
    volumes_in,
)
from tests.servers.s3 import Gateway, S3Proxy

from tunewright import JobError, JobState, TrainingClient
from tunewright.events import Progress, parse_event

# The job of the fixture runs beside all tests here, because it takes minutes and does next to nothing.
pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("slow")]

SHARED = {"access_modes": ["ReadWriteMany"]}
MEGABYTE = 1 << 20
LATE = 300  # seconds


def delete_pod(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.kubectl("delete", "pod", name, "-n", namespace, "--wait=false")


def test_a_pod_that_is_deleted_in_a_download_goes_on_where_it_was(
    own_cluster: Cluster,
    client: TrainingClient,
    namespace: str,
    image: str,
    on_node,
    volumes,
    gateway: Gateway,
    s3: S3Proxy,
) -> None:
    folder, size = volumes(), 48 * MEGABYTE
    for part in range(3):
        gateway.put(f"models/large/part-{part}.bin", bytes([part]) * (size // 3))
    gateway.put("data/small/rows.jsonl", b'{"text": "a row"}\n')
    job = client.train(
        "cut",
        model=at_s3(s3, "models/large"),
        dataset=at_s3(s3, "data/small"),
        trainer="hf",
        image=image,
        init_env={"TUNEWRIGHT_FETCH_RATE": str(4 * MEGABYTE)},
        resources_per_worker=CHEAP,
        pod_overrides=sees_in_place_of_training(on_node),
    )
    seen, before = [], 0
    for line in job.log_lines(follow=True):
        event = parse_event(line.text)
        if isinstance(event, Progress) and not seen and event.done > size // 2:
            seen.append(job.status())
            before = len(s3.log)
            delete_pod(own_cluster, namespace, "cut-worker-0")
        if line.text == "has seen":
            (folder / "output" / "go").touch()
    assert job.wait(timeout=180).state is JobState.SUCCEEDED
    assert seen[0].state is JobState.DOWNLOADING
    assert "%" in seen[0].detail
    ranges = [r.headers.get("range", "bytes=0-0")[len("bytes=") :].split("-") for r in s3.log[before:]]
    assert 0 < sum(int(stop) - int(start) for start, stop in ranges) < size * 3 // 4
    parts = [(folder / "model" / f"part-{part}.bin").read_bytes() for part in range(3)]
    assert parts == [bytes([part]) * (size // 3) for part in range(3)]


def trains_through_faults(steps: int) -> None:
    """Counts, on two workers, with a checkpoint every five steps; rank 1 crashes once, at step 12."""
    import json
    import os
    import pathlib
    import time

    import torch
    import torch.distributed as dist

    from tunewright.runner.checkpoints import mark_checkpoint, newest_checkpoint

    output = pathlib.Path(os.environ["TUNEWRIGHT_WORKSPACE"], "output")
    dist.init_process_group("gloo")
    rank, newest = dist.get_rank(), newest_checkpoint(output / "checkpoints")
    step = int(newest.name.rpartition("-")[2]) if newest else 0
    total = torch.tensor(float(json.loads((newest / "total.json").read_text())) if newest else 0.0)
    dist.barrier()
    if rank == 0:
        print("begins after", step, "of", dist.get_world_size(), flush=True)
    while step < steps:
        step += 1
        one = torch.tensor(1.0)
        dist.all_reduce(one)
        total += one / dist.get_world_size()
        if rank == 0:
            print("step", step, "of", dist.get_world_size(), flush=True)
        if rank == 0 and step % 5 == 0:
            folder = output / "checkpoints" / f"checkpoint-{step}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "total.json").write_text(json.dumps(float(total)))
            mark_checkpoint(folder)
        if rank == 1 and step == 12 and not (output / "crashed").exists():
            (output / "crashed").touch()
            raise RuntimeError("a crash at step 12")
        time.sleep(0.3)
    if rank == 0:
        (output / "total.json").write_text(json.dumps(float(total)))
    dist.barrier()
    dist.destroy_process_group()


def test_a_crash_and_the_loss_of_each_pod_are_survived_from_the_newest_checkpoint(
    own_cluster: Cluster, client: TrainingClient, namespace: str, image: str, on_node, volumes
) -> None:
    folder = volumes("ReadWriteMany")
    job = client.create_job(
        "faults",
        train_func=trains_through_faults,
        parameters={"steps": 60},
        base_image=image,
        num_workers=2,
        max_restarts=1,
        storage=SHARED,
        resources_per_worker=CHEAP,
        pod_overrides=on_node(),
    )
    lost = {25: "faults-worker-1", 42: "faults-worker-0"}  # the last one hosts the rendezvous
    begins, steps = [], []
    for line in job.logs(follow=True):
        words = line.split()
        if line.startswith("begins after"):
            begins.append(int(words[2]))
        if line.startswith("step ") and (steps := [*steps, int(words[1])])[-1] in lost:
            delete_pod(own_cluster, namespace, lost.pop(steps[-1]))
    assert job.wait(timeout=180).state is JobState.SUCCEEDED
    assert len(begins) == 4
    assert begins[0] == 0
    assert begins[1] == 10
    assert 20 <= begins[2] <= 30
    assert 40 <= begins[3] <= 50
    assert float((folder / "output" / "total.json").read_text()) == 60


def test_a_command_that_always_crashes_is_given_up_after_its_restarts(
    client: TrainingClient, image: str, volumes
) -> None:
    folder = volumes()
    text = (
        "import os, pathlib; pathlib.Path(os.environ['TUNEWRIGHT_WORKSPACE'], 'output', f'{os.urandom(4).hex()}.life')"
    )
    job = client.create_job(
        "hopeless", base_image=image, command=command(f"{text}.touch(); raise SystemExit(3)"), max_restarts=2
    )
    with pytest.raises(JobError, match=r"exit code 3; 3 of 3 attempts since the last checkpoint"):
        job.wait(timeout=180)
    assert len(list((folder / "output").glob("*.life"))) == 3


@pytest.fixture(scope="module")
def slow(own_cluster: Cluster, image: str, on_node, gateway: Gateway) -> Iterator[list[str]]:
    """The log of a job whose worker 0, which hosts the rendezvous, downloads five minutes longer than the other."""
    late = f"case $TUNEWRIGHT_WORKER in *-0) sleep {LATE};; esac; exec python -m tunewright_launcher fetch model"
    meet = ["torchrun", "--max-restarts=0", "--no-python", "sh", "-c", "echo rank $RANK of $WORLD_SIZE; sleep 3"]
    commands = {"fetch-model": ["sh", "-c", late], "check": ["true"], "train": [*RUN, *meet]}
    gateway.put("models/slow/config.json", b"{}")
    gateway.put("data/slow/rows.jsonl", b"{}")
    lines: list[str] = []
    with (
        ReachableS3(gateway) as proxy,
        fresh_namespace(own_cluster) as namespace,
        volumes_in(own_cluster, namespace) as volume,
    ):
        for _ in range(2):
            volume()
        job = client_in(own_cluster, namespace).train(
            "slow",
            model=at_s3(proxy, "models/slow"),
            dataset=at_s3(proxy, "data/slow"),
            trainer="hf",
            num_workers=2,
            output=at_s3(proxy, "results/slow"),
            image=image,
            resources_per_worker=CHEAP,
            pod_overrides=on_node(*STEPS, commands=commands),
        )

        # Volumes are anybody's until they are bound: those of the tests must not be taken for this job.
        phases = ("pvc", "-n", namespace)
        eventually(
            lambda: [claim["status"]["phase"] for claim in own_cluster.json(*phases)["items"]], ["Bound", "Bound"], 180
        )

        def follow() -> None:
            lines.extend(job.logs(follow=True))
            lines.append(str(job.state))

        threading.Thread(target=follow, daemon=True).start()
        yield lines


@pytest.fixture
def small(own_cluster: Cluster, namespace: str, volumes) -> Iterator[Path]:
    """A file system of 24 MiB behind the claim `small`."""
    folder = volumes("ReadWriteOnce")
    disk = own_cluster.state / "volumes" / f"{folder.name}.disk"
    with disk.open("wb") as file:
        file.truncate(24 * MEGABYTE)
    for words in (["mkfs.ext4", "-q", str(disk)], ["mount", "-o", "loop", str(disk), str(folder)]):
        subprocess.run(words, check=True)
    make_claim(own_cluster, namespace, "small", "ReadWriteOnce")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
    disk.unlink()


def test_a_volume_that_is_too_small_is_said_before_it_is_full(
    client: TrainingClient, image: str, on_node, small: Path, gateway: Gateway, s3: S3Proxy
) -> None:
    gateway.put("models/too-large/weights.bin", bytes(40 * MEGABYTE))
    gateway.put("data/small/rows.jsonl", b'{"text": "a row"}\n')
    job = client.train(
        "full",
        model=at_s3(s3, "models/too-large"),
        dataset=at_s3(s3, "data/small"),
        trainer="hf",
        storage={"claim": "small"},
        image=image,
        resources_per_worker=CHEAP,
        pod_overrides=sees_in_place_of_training(on_node),
    )
    with pytest.raises(JobError, match=r"40.*larger volume") as caught:
        job.wait(timeout=180)
    assert "weights.bin" not in [path.name for path in small.rglob("*")], caught.value
    assert s3.sent < MEGABYTE


def test_a_command_that_fills_the_volume_fails_the_job_with_its_error(
    client: TrainingClient, image: str, small: Path
) -> None:
    text = (
        "import os, pathlib; output = pathlib.Path(os.environ['TUNEWRIGHT_WORKSPACE'], 'output');"
        "(output / 'big').write_bytes(bytes(30 << 20))"
    )
    job = client.create_job("fills", base_image=image, command=command(text), storage={"claim": "small"})
    with pytest.raises(JobError, match="No space left on device"):
        job.wait(timeout=180)


def elastic_steps(stop: str) -> None:
    """Steps until a file says to stop, each with the number of workers; what is done is kept."""
    import os
    import pathlib
    import time

    import torch
    import torch.distributed as dist

    from tunewright.runner.checkpoints import mark_checkpoint, newest_checkpoint

    output = pathlib.Path(os.environ["TUNEWRIGHT_WORKSPACE"], "output")
    dist.init_process_group("gloo")
    rank, newest = dist.get_rank(), newest_checkpoint(output / "checkpoints")
    step, ends = int(newest.name.rpartition("-")[2]) if newest else 0, torch.tensor(0)
    while not int(ends):
        step += 1
        ends = torch.tensor(int(rank == 0 and (output / stop).exists()))
        dist.all_reduce(ends)
        if rank == 0:
            print("step", step, "of", dist.get_world_size(), flush=True)
            folder = output / "checkpoints" / f"checkpoint-{step}"
            folder.mkdir(parents=True, exist_ok=True)
            mark_checkpoint(folder)
        time.sleep(0.5)
    dist.destroy_process_group()


def test_an_elastic_job_goes_on_with_fewer_workers_and_grows_again(
    own_cluster: Cluster, client: TrainingClient, namespace: str, image: str, on_node, volumes
) -> None:
    folder = volumes("ReadWriteMany")
    job = client.create_job(
        "elastic",
        train_func=elastic_steps,
        parameters={"stop": "go"},
        base_image=image,
        num_workers=3,
        elastic=(1, 3),
        max_restarts=1,
        storage=SHARED,
        resources_per_worker=CHEAP,
        pod_overrides=on_node(),
    )
    plan = [(3, lambda: resize(own_cluster, namespace, 2)), (2, lambda: resize(own_cluster, namespace, 3))]
    plan += [(3, (folder / "output" / "go").touch)]
    steps, since = [], 0
    for line in job.logs(follow=True):
        if not line.startswith("step "):
            continue
        steps.append(tuple(int(word) for word in line.split()[1::2]))
        since = since + 1 if plan and steps[-1][1] == plan[0][0] else 0
        if since == 5:
            plan.pop(0)[1]()
            since = 0
    assert job.wait(timeout=180).state is JobState.SUCCEEDED
    assert not plan, steps
    numbers = [step for step, _ in steps]
    assert all(later - earlier in {0, 1} for earlier, later in itertools.pairwise(numbers)), steps


def resize(cluster: Cluster, namespace: str, workers: int) -> None:
    change = f'{{"spec": {{"pytorchReplicaSpecs": {{"Worker": {{"replicas": {workers}}}}}}}}}'
    cluster.kubectl("patch", "pytorchjob", "elastic", "-n", namespace, "--type=merge", "-p", change)


def test_a_download_that_takes_five_minutes_longer_on_one_worker_is_waited_for(slow: list[str]) -> None:
    """The job began with the module's first test, and all this time one worker has waited for the other."""
    eventually(lambda: slow[-1:], ["Succeeded"], 400)
    assert sorted(line for line in slow if line.startswith("rank")) == ["rank 0 of 2", "rank 1 of 2"]
