"""What differs between two jobs of one name: keys of a job file with old and new values, and never a secret."""

from collections.abc import Mapping
from typing import Any

import pytest

from tunewright import TrainingClient
from tunewright.plan.changes import file_changes, job_changes, listed, spec_changes

BASE: dict[str, Any] = {
    "model": "acme://m", "dataset": "acme://d", "trainer": {"provider": "acme", "options": {"steps": 1}},
    "resources_per_worker": {"gpu": 1}, "output": "acme-out://x", "env": {"MODE": "a"},
}  # fmt: skip


def rendered(client: TrainingClient, backend: str, keywords: Mapping[str, Any]) -> tuple[Any, Any]:
    documents = TrainingClient(backend, registry=client.registry).train("job", dry_run=True, **keywords)
    kinds = {d["kind"]: d for d in documents.reveal()}
    job = kinds.get("PyTorchJob") or kinds["LocalJob"]
    files = kinds.get("ConfigMap") or kinds["LocalFiles"]
    claim = {"claim": kinds["PersistentVolumeClaim"]["spec"]} if "PersistentVolumeClaim" in kinds else {}
    return {**job["spec"], **claim}, files["data"]


@pytest.mark.parametrize("backend", ["kubernetes", "local"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"trainer": {"provider": "acme", "options": {"steps": 2}}}, "trainer.options.steps (1 → 2)"),
        ({"trainer": {"provider": "acme", "options": {"steps": 1}, "rate": 0.5}}, "trainer.rate (not given → 0.5)"),
        ({"trainer": "acme"}, "trainer.options.steps (1 → not given)"),
        ({"model": "acme://other"}, "model.uri (acme://m → acme://other)"),
        ({"eval_dataset": "acme://e"}, "eval_dataset (not given → acme://e)"),
        ({"num_procs_per_worker": 2}, "num_procs_per_worker (1 → 2)"),
        ({"resources_per_worker": {"gpu": 2}}, "resources_per_worker.gpu (1 → 2)"),
        ({"env": {"MODE": "b"}}, "env.MODE (a → b)"),
        ({"env": {}}, "env.MODE (a → not given)"),
    ],
)
def test_a_difference_is_named_by_its_key_with_both_values(
    client, backend: str, change: dict[str, Any], says: str
) -> None:
    base = {k: v for k, v in BASE.items() if k != "output"}
    old, new = (rendered(client, backend, {**base, **more}) for more in ({}, change))
    found = listed(job_changes(old, new, only_given=backend == "kubernetes"))
    assert says in found.replace("not given → 2", "1 → 2")  # a default is not in every manifest


def test_a_version_of_a_plugin_and_a_claim_are_named(client) -> None:
    base = {k: v for k, v in BASE.items() if k != "output"}
    old, files = rendered(client, "kubernetes", base)
    new, _ = rendered(client, "kubernetes", {**base, "storage": {"size": "9Gi"}})
    assert listed(spec_changes(old, new, only_given=True)) == "storage.size (50Gi → 9Gi)"
    newer = {name: text.replace('"version":"', '"version":"9') for name, text in files.items()}
    assert "the version of tunewright-acme (" in listed(file_changes(files, newer))


def test_secrets_and_long_texts_are_not_shown() -> None:
    old = {
        "worker": {"env": {"API_KEY": "first-value-of-it", "TOKEN_URL": "https://user:pass@host/x", "TEXT": "a" * 100}}
    }
    new = {"worker": {"env": {"API_KEY": "second-value-of-it", "TOKEN_URL": "hf_" + "a" * 30, "TEXT": "b" * 100}}}
    text = listed(spec_changes(old, new))
    assert "env.API_KEY (<redacted> → <redacted>)" in text
    assert "env.TOKEN_URL (<redacted> → <redacted>)" in text
    assert "a" * 61 not in text
    assert "-value-of-it" not in text


def test_what_the_cluster_adds_is_no_difference() -> None:
    old = {"nprocPerNode": "1", "pytorchReplicaSpecs": {"Worker": {"replicas": 1, "restartPolicy": "Never"}}}
    new = {"nprocPerNode": "1", "pytorchReplicaSpecs": {"Worker": {"replicas": 1, "template": {"x": 1}}}}
    assert listed(spec_changes(old, {"pytorchReplicaSpecs": {"Worker": {"replicas": 2}}}, only_given=True)).startswith(
        "num_"
    )
    assert listed(spec_changes(old, new, only_given=True)) == "pytorchReplicaSpecs.Worker.template.x (not given → 1)"


def test_only_the_first_differences_are_listed() -> None:
    old, new = ({"worker": {"env": {f"V{i}": str(value) for i in range(8)}}} for value in (1, 2))
    assert listed(spec_changes(old, new)).endswith("env.V4 (1 → 2), and 3 more")


def test_code_and_damaged_files_are_named_without_their_text() -> None:
    assert (
        listed(file_changes({"a.py": "1", "b.json": "{"}, {"a.py": "2", "b.json": "[]"}))
        == "the text of a.py, the text of b.json"
    )
