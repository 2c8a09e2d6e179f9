"""The conformance kit, and what the hook is for."""

from __future__ import annotations

from tunewright import TrainingClient
from tunewright.testing import ModifyPlanTests


class TestPolicyPlan(ModifyPlanTests):
    name = "policy"


def test_every_job_has_the_label_and_the_nodes() -> None:
    client = TrainingClient("kubernetes")
    job = {"base_image": "python:3.12", "command": ["python", "train.py"], "labels": {"a": "b"}}
    manifests = client.create_job(**job, dry_run=True)
    made = next(document for document in manifests if document["kind"] == "PyTorchJob")
    template = made["spec"]["pytorchReplicaSpecs"]["Master"]["template"]
    assert {"a": "b", "policy.example/cost-centre": "1234"}.items() <= template["metadata"]["labels"].items()
    assert template["spec"]["nodeSelector"] == {"policy.example/pool": "training"}
