"""Manifests that others apply: those of a dry run, and what the documents tell a platform's engineers to apply."""

import re
from pathlib import Path

import pytest
from tests.cluster.cluster import Cluster
from tests.cluster.helpers import command, nothing_left

from tunewright import JobState, TrainingClient

pytestmark = pytest.mark.timeout(600)

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "restricted-clusters.md"


def test_the_manifests_of_a_dry_run_are_a_job(
    cluster: Cluster, client: TrainingClient, namespace: str, image: str, volumes
) -> None:
    volumes()
    given = {"base_image": image, "command": command("print('applied by somebody else')")}
    manifests = client.create_job("applied", **given, dry_run=True)
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=manifests.to_yaml())
    job = client.get_job("applied")
    assert job.wait(timeout=180).state is JobState.SUCCEEDED
    assert "applied by somebody else" in list(job.logs())
    cluster.kubectl("delete", "-n", namespace, "-f", "-", stdin=manifests.to_yaml())
    nothing_left(cluster, namespace)


def test_the_documented_network_policy_is_one(cluster: Cluster, namespace: str) -> None:
    text = next(t for t in re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL) if "NetworkPolicy" in t)
    found = cluster.kubectl("apply", "--dry-run=server", "-n", namespace, "-f", "-", stdin=text)
    assert found.strip() == "networkpolicy.networking.k8s.io/tunewright-jobs created (server dry run)"
