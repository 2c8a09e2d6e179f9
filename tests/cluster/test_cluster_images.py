"""The storage image on a real cluster, as it is published: nothing of the node is in it."""

import json
from pathlib import Path

import pytest
from tests.cluster import images
from tests.cluster.cluster import Cluster
from tests.cluster.helpers import CHEAP, RUN, command
from tests.servers.git import GitServer, Lfs
from tests.servers.hub import Hub

from tunewright import JobState, TrainingClient

pytestmark = pytest.mark.timeout(600)

WEIGHTS = b"w" * 100_000
OVERRIDES = {
    "spec": {
        # In place of a training, which needs torch.
        "initContainers": [{"name": "check", "command": ["true"]}],
        "containers": [{"name": "pytorch", "command": [*RUN, *command("import os; print('user', os.getuid())")]}],
    }
}


@pytest.mark.usefixtures("_reachable")
def test_git_and_a_hub_are_fetched_from_in_it_under_restricted_pod_security(
    own_cluster: Cluster, client: TrainingClient, namespace: str, volumes, tmp_path: Path
) -> None:
    own_cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    folder = volumes()
    with GitServer(tmp_path) as git, Hub() as hub:
        git.commit("org/model", {"config.json": b"{}", "weights.bin": Lfs(WEIGHTS)})
        hub.repo("acme/rows", {"rows.jsonl": b'{"text": "a row"}\n'}, kind="datasets")
        job = client.train(
            "stock",
            model=git.uri(),
            dataset={"provider": "hf", "uri": "hf://datasets/acme/rows", "endpoint": hub.url},
            trainer="hf",
            image=images.STORAGE,
            resources_per_worker=CHEAP,
            pod_overrides=OVERRIDES,
        )
        status = job.wait(timeout=300)
    assert status.state is JobState.SUCCEEDED, status
    assert "user 1000" in list(job.logs(container="train"))
    assert (folder / "model" / "weights.bin").read_bytes() == WEIGHTS
    assert (folder / "dataset" / "complete.json").exists()
    pod = own_cluster.json("pod", "stock-worker-0", "-n", namespace)
    ran = [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]
    assert {container["image"] for container in ran} == {images.STORAGE}
    assert "serviceaccount" not in json.dumps(ran)
