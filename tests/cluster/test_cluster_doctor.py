"""`tunewright doctor` on a real cluster: it says what is there, and of what is missing what to do; it leaves nothing."""

from pathlib import Path

import pytest
import yaml
from tests.cluster.cluster import Cluster
from tests.cluster.helpers import client_in

from tunewright import TrainingClient
from tunewright._client.doctor import diagnose
from tunewright._planning.assemble import assemble
from tunewright.backends.base import Finding

pytestmark = [pytest.mark.timeout(600)]  # the first of these files waits for the cluster, too

DOCTOR_ROLE = Path(__file__).parents[2] / "deploy" / "rbac" / "doctor.yaml"


def found(client: TrainingClient, **job: object) -> dict[str, Finding]:
    """What is said of each thing, about a job of an image that starts itself if there are arguments."""
    make = (lambda: client.code_request("sick", **job)) if job else None
    return {finding.about: finding for finding in diagnose(client, make)}


def levels(findings: dict[str, Finding]) -> dict[str, str]:
    return {about: finding.level for about, finding in findings.items() if about != "plugins"}


def test_a_user_with_the_published_role_can_run_jobs(cluster: Cluster, client: TrainingClient, namespace: str) -> None:
    findings = found(client)
    expected = {"kind": "note", "images": "ok", "cluster": "ok", "rights": "ok", "operator": "ok", "storage": "note"}
    assert levels(findings) == expected, findings
    assert "accepted a dry run" in findings["operator"].text
    assert "deploy/rbac/doctor.yaml" in findings["storage"].remedy
    kinds = "pytorchjobs,pods,secrets,pvc"
    assert cluster.json(kinds, "-n", namespace)["items"] == []


def test_who_may_read_more_is_told_more(own_cluster: Cluster, client: TrainingClient, namespace: str) -> None:
    own_cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    role = yaml.safe_load(DOCTOR_ROLE.read_text("utf-8"))
    own_cluster.apply(role)
    binding = f"doctor-{namespace}"
    own_cluster.kubectl("create", "clusterrolebinding", binding, "--clusterrole=tunewright-doctor", "--user=alice")
    try:
        findings = found(client)
        assert (findings["storage"].level, findings["pod security"].level) == ("ok", "ok")
        assert "'local' (kubernetes.io/no-provisioner, WaitForFirstConsumer)" in findings["storage"].text
        shared = {"access_modes": ["ReadWriteMany"], "storage_class": "none-of-that-name"}
        pair = found(client, base_image="cluster.test/any:1", command=["true"], num_workers=2, storage=shared)
        assert pair["pod security"].level == "problem"
        assert "init-pytorch" in pair["pod security"].text
    finally:
        own_cluster.kubectl("delete", "clusterrolebinding", binding)


def test_a_storage_class_that_is_not_there_is_a_problem(cluster: Cluster, namespace: str) -> None:
    client = TrainingClient("kubernetes", namespace=namespace, config_file=str(cluster.kubeconfig))
    storage = {"storage_class": "none-of-that-name"}
    finding = found(client, base_image="cluster.test/any:1", command=["true"], storage=storage)["storage"]
    assert finding.level == "problem"
    assert "'none-of-that-name'. Its classes: " in finding.text


def test_rights_that_are_missing_are_listed(own_cluster: Cluster, namespace: str) -> None:
    rights = ("--verb=create,get,list,watch,patch,delete", "--resource=pytorchjobs.kubeflow.org")
    own_cluster.kubectl("create", "role", "some", "-n", namespace, *rights)
    own_cluster.kubectl("create", "rolebinding", "some", "-n", namespace, "--role=some", "--user=mallory")
    config = str(own_cluster.state / "kubeconfig-mallory")
    findings = found(TrainingClient("kubernetes", namespace=namespace, config_file=config))
    assert (findings["rights"].level, findings["operator"].level) == ("problem", "ok")
    assert "pytorchjobs" not in findings["rights"].text
    for missing in ("get, list, watch pods;", "get pods/log;", "create secrets;", "create, get configmaps;"):
        assert missing in findings["rights"].text
    assert "deploy/rbac/user.yaml" in findings["rights"].remedy


def test_without_any_rights_no_dry_run_is_tried(own_cluster: Cluster, namespace: str) -> None:
    config = str(own_cluster.state / "kubeconfig-mallory")
    findings = found(TrainingClient("kubernetes", namespace=namespace, config_file=config))
    assert (findings["rights"].level, findings["operator"].level) == ("problem", "note")


def test_a_field_that_the_cluster_does_not_know_is_found_before_there_is_a_job(client: TrainingClient) -> None:
    overrides = {"spec": {"nodeSelektor": {}}}
    findings = found(client, base_image="cluster.test/any:1", command=["true"], pod_overrides=overrides)
    assert findings["operator"].level == "problem"
    assert "nodeSelektor" in findings["operator"].text


def test_an_operator_whose_webhook_does_not_answer_is_a_problem(
    own_cluster: Cluster, client: TrainingClient, namespace: str
) -> None:
    # One of our own, for this namespace: the operator itself stays for the other tests.
    name = f"silent-{namespace}"
    own_cluster.apply(_webhook(name, namespace))
    try:
        finding = found(client)["operator"]
        assert finding.level == "problem", finding
        assert "does not respond" in finding.text
        assert "kubeflow-training-operator" in finding.remedy
    finally:
        own_cluster.kubectl("delete", "validatingwebhookconfiguration", name)


def _webhook(name: str, namespace: str) -> dict:
    rule = {
        "apiGroups": ["kubeflow.org"],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pytorchjobs"],
        "scope": "Namespaced",
    }
    webhook = {
        "name": "silent.cluster.test",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "clientConfig": {"service": {"name": "nobody", "namespace": namespace, "path": "/"}},
        "rules": [rule],
    }
    about = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
    return {**about, "metadata": {"name": name}, "webhooks": [webhook]}


def test_a_cluster_without_the_operator_is_said(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The real server's answer for a group that it does not know.
    monkeypatch.setattr("tunewright.backends.pytorchjob.kind.PyTorchJob.api_version", "not-installed.example/v1")
    client = TrainingClient("pytorchjob", namespace=namespace, config_file=str(cluster.kubeconfig))
    finding = found(client)["operator"]
    assert (finding.level, "training-operator is not installed" in finding.text) == ("problem", True)


def test_a_queue_needs_kueue(client: TrainingClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunewright.backends.kubernetes.doctor._KUEUE", "not-installed.example")
    finding = found(client, base_image="cluster.test/any:1", command=["true"], queue="team")["queue"]
    assert (finding.level, "Kueue is not installed" in finding.text) == ("problem", True)


def test_a_queue_has_to_be_there(own_cluster: Cluster, client: TrainingClient, namespace: str) -> None:
    if not own_cluster.kubectl("get", "crd", "localqueues.kueue.x-k8s.io", "--ignore-not-found"):
        pytest.skip("needs Kueue: python -m tests.cluster up --with kueue, and TUNEWRIGHT_CLUSTER_TESTS=its KUBECONFIG")
    job = {"base_image": "cluster.test/any:1", "command": ["true"], "queue": "team"}
    assert found(client, **job)["queue"].level == "note"
    admin = TrainingClient("kubernetes", namespace=namespace, config_file=str(own_cluster.kubeconfig))
    finding = found(admin, **job)["queue"]
    assert (finding.level, "no local queue 'team'" in finding.text) == ("problem", True)
    about = {"apiVersion": "kueue.x-k8s.io/v1beta1", "kind": "LocalQueue"}
    metadata = {"name": "team", "namespace": namespace}
    own_cluster.apply({**about, "metadata": metadata, "spec": {"clusterQueue": "any"}})
    assert found(admin, **job)["queue"].level == "ok"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ((":6443", ":6444"), "cannot be reached"),
        (('"token": "', '"token": "expired'), "rejected your credentials"),
    ],
)
def test_a_cluster_that_is_not_there_or_knows_nobody_ends_the_look(
    cluster: Cluster, namespace: str, tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    (tmp_path / "config").write_text(cluster.kubeconfig.read_text().replace(*change))
    findings = found(TrainingClient("kubernetes", namespace=namespace, config_file=str(tmp_path / "config")))
    assert levels(findings) == {"images": "ok", "cluster": "problem"}
    assert says in findings["cluster"].text
    assert findings["cluster"].remedy


def test_a_namespace_that_is_not_there_is_a_problem(cluster: Cluster) -> None:
    client = TrainingClient("kubernetes", namespace="nowhere", config_file=str(cluster.kubeconfig))
    finding = found(client)["operator"]
    assert (finding.level, "Namespace 'nowhere' does not exist" in finding.text) == ("problem", True)


def test_a_job_of_that_name_is_not_in_the_way(cluster: Cluster, namespace: str) -> None:
    client = client_in(cluster, namespace, "pytorchjob")
    client.backend.api.create(client.backend.render(_plan(client)).reveal()[0])
    findings = found(client, base_image="cluster.test/any:1", command=["true"])
    assert findings["operator"].level == "ok"


def _plan(client: TrainingClient):
    return assemble(client.code_request("sick", base_image="cluster.test/any:1", command=["true"], suspend=True))
