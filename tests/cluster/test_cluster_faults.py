"""What goes wrong on a real cluster: the job's status says why, or submitting says so and leaves nothing over."""

import re
import signal
import subprocess
import sys
import time

import pytest
from tests.cluster.cluster import Cluster
from tests.cluster.helpers import client_in, eventually, nothing_left
from tests.servers.hub import Hub

from tunewright import JobError, JobState, TrainingClient
from tunewright._planning.assemble import assemble
from tunewright.backends.kubernetes import submit
from tunewright.backends.kubernetes.failures import (
    Forbidden,
    NotInstalled,
    NotLoggedIn,
    OperatorDown,
    QuotaExceeded,
    Refused,
    Unavailable,
)

pytestmark = pytest.mark.timeout(600)

TOKEN = "hf_" + "wrong" * 6


def failure_within(job, seconds: float) -> str:
    with pytest.raises(JobError) as caught:
        job.wait(timeout=seconds)
    assert job.state is JobState.FAILED
    return str(caught.value)


@pytest.mark.usefixtures("_reachable")
def test_a_wrong_token_fails_the_job_with_its_cause_and_shows_nowhere(
    own_cluster: Cluster, client: TrainingClient, namespace: str, image: str, volumes, on_node
) -> None:
    volumes()
    steps = ("fetch-model", "fetch-dataset", "check")
    with Hub() as hub:
        hub.repo("acme/tiny", {"config.json": b"{}"}, private=True)
        hub.repo("acme/rows", {"rows.jsonl": b"{}"}, kind="datasets")
        job = client.train(
            "refused",
            model={"provider": "hf", "uri": "hf://acme/tiny", "access_token": TOKEN, "endpoint": hub.url},
            dataset={"provider": "hf", "uri": "hf://datasets/acme/rows", "endpoint": hub.url},
            trainer="hf",
            image=image,
            pod_overrides=on_node(*steps),
        )
        cause = failure_within(job, 180)
    assert "acme/tiny" in cause
    failure = job.status().failure
    assert failure is not None
    assert (failure.container, failure.worker) == ("fetch-model", 0)
    assert str(failure) in cause
    created, *_, failed = client.get_job_conditions("refused")
    assert (failed.since - created.since).total_seconds() < 60
    pod = own_cluster.json("pod", "refused-worker-0", "-n", namespace)
    assert all(not status["restartCount"] for status in pod["status"]["initContainerStatuses"])
    holders = [
        container["name"]
        for container in (*pod["spec"]["initContainers"], *pod["spec"]["containers"])
        for variable in container.get("env", [])
        if "secretKeyRef" in variable.get("valueFrom", {})
    ]
    assert holders == ["fetch-model"]
    assert TOKEN not in own_cluster.kubectl("get", "pytorchjobs,pods,configmaps,events", "-n", namespace, "-o", "yaml")
    assert TOKEN not in "\n".join(line.text for line in job.log_lines())
    job.delete()


def test_packages_that_cannot_be_installed_fail_the_job_with_the_cause(
    client: TrainingClient, image: str, volumes, on_node
) -> None:
    volumes()
    job = client.create_job(
        "unpacked",
        train_func=nothing,
        base_image=image,
        packages_to_install=["tunewright-no-such-package"],
        pip_index_url="http://127.0.0.1:9/simple",
        init_env={"PIP_RETRIES": "0"},
    )
    assert "install-packages" in failure_within(job, 180)
    assert "tunewright-no-such-package" in "\n".join(job.logs(container="install-packages"))


def nothing() -> None:
    pass


def test_an_image_that_is_not_there_is_named_in_the_status(client: TrainingClient, volumes) -> None:
    volumes()
    job = client.create_job("imageless", base_image="cluster.test/no-such-image:1", command=["python3"])
    end = time.monotonic() + 180
    while "cannot start" not in (status := job.status()).detail:
        assert time.monotonic() < end, status
        time.sleep(0.5)
    assert status.state is JobState.CREATED
    assert "cluster.test/no-such-image:1" in status.detail
    job.delete()


def test_a_crash_without_attempts_left_fails_the_job_with_its_exit_code(
    client: TrainingClient, image: str, volumes
) -> None:
    volumes()
    job = client.create_job("crash", base_image=image, command=["python3", "-c", "raise SystemExit(3)"], max_restarts=0)
    assert "exit code 3" in failure_within(job, 180)


def test_a_job_that_cannot_be_scheduled_says_why(client: TrainingClient, image: str, volumes) -> None:
    volumes()
    job = client.create_job("greedy", base_image=image, command=["true"], resources_per_worker={"gpu": 8})
    end = time.monotonic() + 180
    # At first the claim is missing, which is created last; and the scheduler's event may come before the pod's condition.
    while not re.match(r"worker 0 cannot be scheduled: .*nvidia\.com/gpu", (status := job.status()).detail):
        assert time.monotonic() < end, status
        time.sleep(0.5)
    job.delete()


def test_a_user_without_rights_is_told_which_are_missing(own_cluster: Cluster, namespace: str, image: str) -> None:
    config = str(own_cluster.state / "kubeconfig-mallory")
    client = TrainingClient("kubernetes", namespace=namespace, config_file=config)
    with pytest.raises(Forbidden, match=r"mallory.*pytorchjobs"):
        client.create_job("mine", base_image=image, command=["true"])
    with pytest.raises(Forbidden, match=namespace):
        client.list_jobs()
    nothing_left(own_cluster, namespace)


def test_a_user_who_may_not_create_secrets_leaves_no_job(own_cluster: Cluster, namespace: str, image: str) -> None:
    rights = ("--verb=get,list,create,delete", "--resource=pytorchjobs.kubeflow.org,pods,persistentvolumeclaims")
    own_cluster.kubectl("create", "role", "some", "-n", namespace, *rights)
    own_cluster.kubectl("create", "rolebinding", "some", "-n", namespace, "--role=some", "--user=mallory")
    config = str(own_cluster.state / "kubeconfig-mallory")
    client = TrainingClient("kubernetes", namespace=namespace, config_file=config)
    with pytest.raises(Forbidden, match="configmaps"):
        client.create_job("half", base_image=image, command=["true"])
    nothing_left(own_cluster, namespace)


def test_a_quota_that_is_exceeded_is_named(own_cluster: Cluster, client: TrainingClient, namespace: str, image) -> None:
    own_cluster.kubectl("create", "quota", "none", "-n", namespace, "--hard=count/pytorchjobs.kubeflow.org=0")
    counted = ("resourcequota", "none", "-n", namespace)  # its controller counts first
    eventually(lambda: list(own_cluster.json(*counted)["status"].get("used", {})), ["count/pytorchjobs.kubeflow.org"])
    with pytest.raises(QuotaExceeded, match="exceeded quota: none"):
        client.create_job("late", base_image=image, command=["true"])
    nothing_left(own_cluster, namespace)


def test_what_the_operators_webhook_refuses_is_said(cluster: Cluster, namespace: str, image: str) -> None:
    client = client_in(cluster, namespace, "pytorchjob")
    plan = assemble(client.code_request("odd", base_image=image, command=["true"]))
    documents = client.backend.render(plan).reveal()
    documents[0]["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"][0]["name"] = "other"
    with pytest.raises(Refused, match="pytorch"), client.backend._explained("odd"):
        submit.submit(client.backend.api, documents, ())
    nothing_left(cluster, namespace)


def test_a_field_that_the_api_does_not_know_is_refused(
    client: TrainingClient, cluster: Cluster, namespace, image
) -> None:
    with pytest.raises(Refused, match="nodeSelektor"):
        client.create_job("typo", base_image=image, command=["true"], pod_overrides={"spec": {"nodeSelektor": {}}})
    nothing_left(cluster, namespace)


def test_an_unknown_namespace_is_named(cluster: Cluster, image: str) -> None:
    client = TrainingClient("kubernetes", namespace="nowhere", config_file=str(cluster.kubeconfig))
    with pytest.raises(NotInstalled, match="Namespace 'nowhere' does not exist"):
        client.create_job("lost", base_image=image, command=["true"])
    assert client.list_jobs() == []


def test_an_operator_that_is_not_installed_is_said(
    cluster: Cluster, namespace: str, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = TrainingClient("pytorchjob", namespace=namespace, config_file=str(cluster.kubeconfig))
    # The real server's answer for a group that it does not know; the operator itself stays for the other tests.
    monkeypatch.setattr("tunewright.backends.pytorchjob.kind.PyTorchJob.api_version", "not-installed.example/v1")
    for call in (lambda: client.create_job("none", base_image=image, command=["true"]), client.list_jobs):
        with pytest.raises(NotInstalled, match="training-operator is not installed"):
            call()
    nothing_left(cluster, namespace)


def test_under_restricted_pod_security_a_job_runs_and_what_cannot_run_says_why(
    cluster: Cluster, client: TrainingClient, namespace: str, image: str, volumes
) -> None:
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    volumes()
    client.create_job("alone", base_image=image, command=["true"]).wait(timeout=180)
    volumes("ReadWriteMany")
    # The operator's own init container, which a worker beside a Master gets, has no security context.
    shared = {"access_modes": ["ReadWriteMany"]}
    job = client.create_job("pair", base_image=image, command=["sleep", "600"], num_workers=2, storage=shared)
    end = time.monotonic() + 180
    while "violates PodSecurity" not in (status := job.status()).detail:
        assert time.monotonic() < end, status
        time.sleep(0.5)
    job.delete()


def test_a_login_that_has_expired_is_said(own_cluster: Cluster, tmp_path, image: str) -> None:
    text = (own_cluster.kubeconfig).read_text().replace('"token": "', '"token": "expired')
    (tmp_path / "config").write_text(text)
    with pytest.raises(NotLoggedIn, match="Log in again"):
        TrainingClient("kubernetes", config_file=str(tmp_path / "config")).list_jobs()


def test_an_api_server_that_is_not_there_is_said(cluster: Cluster, tmp_path) -> None:
    text = cluster.kubeconfig.read_text().replace(":6443", ":6444")
    (tmp_path / "config").write_text(text)
    with pytest.raises(Unavailable, match="cannot be reached"):
        TrainingClient("kubernetes", config_file=str(tmp_path / "config")).list_jobs()


# Kills itself, as the kernel would for want of memory, once so many objects are written.
DIES = """
import os, signal, sys
from tunewright import SecretValue, TrainingClient
from tunewright.backends.kubernetes.api import Api
config, namespace, image, left = *sys.argv[1:4], int(sys.argv[4])
create = Api.create
def dying(self, document):
    global left
    created = create(self, document)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return created
Api.create = dying
client = TrainingClient("kubernetes", namespace=namespace, config_file=config)
client.create_job("stub", base_image=image, command=["true"], env={"TOKEN": SecretValue("a-secret")})
"""


@pytest.mark.parametrize("written", [1, 2, 3])
def test_a_client_that_is_killed_between_two_writes_leaves_an_incomplete_job_that_can_be_deleted(
    written: int, own_cluster: Cluster, client: TrainingClient, namespace: str, image: str
) -> None:
    config = own_cluster.state / "kubeconfig-alice"
    command = [sys.executable, "-c", DIES, str(config), namespace, image, str(written)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    status = client.get_job("stub").status()
    assert status.state is JobState.CREATED
    assert status.detail.startswith("Incomplete: PersistentVolumeClaim/stub-workspace is missing")
    client.delete_job("stub")
    nothing_left(own_cluster, namespace)


def test_an_operator_that_is_down_is_said(own_cluster: Cluster, client: TrainingClient, namespace: str, image) -> None:
    scale = ("-n", "kubeflow", "scale", "deploy/training-operator")
    own_cluster.kubectl(*scale, "--replicas=0")
    own_cluster.kubectl("-n", "kubeflow", "wait", "--for=delete", "pod", "--all", "--timeout=180s")
    try:
        with pytest.raises(OperatorDown, match="training-operator"):
            client.create_job("early", base_image=image, command=["true"])
        nothing_left(own_cluster, namespace)
    finally:
        own_cluster.kubectl(*scale, "--replicas=1")
        own_cluster.kubectl("-n", "kubeflow", "rollout", "status", "deploy/training-operator", "--timeout=180s")
