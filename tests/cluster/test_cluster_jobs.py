"""Jobs on a real cluster, from submit to what is left of them. They need Python and no torch."""

import json
import time

import pytest
from tests.cluster.cluster import Cluster
from tests.cluster.helpers import WAITS, command, eventually, left, requests

from tunewright import JobError, JobState, SecretValue, TrainingClient
from tunewright.backends.kubernetes.failures import NameTaken, Refused
from tunewright.errors import AlreadyRunning, AlreadySucceeded

pytestmark = pytest.mark.timeout(600)

SECRET = "a-literal-secret-of-a-test"
RANK = """
import os, pathlib, time
print("rank", os.environ["RANK"], "of", os.environ["WORLD_SIZE"], flush=True)
while not pathlib.Path("/tmp/go").exists():
    time.sleep(0.2)
"""
WRITING = ("create", "update", "patch", "delete")


def test_a_command_runs_to_its_end(client: TrainingClient, image: str, volumes) -> None:
    volumes()
    job = client.create_job("hello", base_image=image, command=command("print('hello from a pod')"))
    seen = []
    status = job.wait(timeout=180, callback=lambda status: seen.append(status.state))
    assert status.state is JobState.SUCCEEDED
    assert seen[0] is JobState.CREATED
    assert status.result == "pvc://hello-workspace/output"
    assert None not in (status.created, status.started, status.finished)
    assert "hello from a pod" in list(job.logs())
    assert "hello from a pod" in list(job.logs(container="train", worker=0))
    with pytest.raises(JobError, match=r"no container 'fetch-model'\. It has: train"):
        job.logs(container="fetch-model")
    with pytest.raises(JobError, match=r"no worker 1\. Its workers are 0 to 0"):
        job.logs(worker=1)


def test_submitting_writes_four_objects_and_deleting_leaves_the_claim_alone(
    own_cluster: Cluster, client: TrainingClient, namespace: str, image: str, volumes
) -> None:
    volumes()
    env = {"TOKEN": SecretValue(SECRET)}
    job = client.create_job("four", base_image=image, command=command("import time; time.sleep(600)"), env=env)
    kinds = ("configmaps", "persistentvolumeclaims", "pytorchjobs", "secrets")
    asked = requests(own_cluster, namespace)
    assert {what: n for what, n in asked.items() if what.split()[0] in WRITING} == {f"create {k}": 1 for k in kinds}
    job.wait([JobState.RUNNING], timeout=180)
    assert [(p.name, p.worker, p.phase, p.container) for p in client.get_job_pods("four")] == [
        ("four-master-0", 0, "Running", "train")
    ]
    uid = own_cluster.json("pytorchjob", "four", "-n", namespace)["metadata"]["uid"]
    for kind, name in (("secret", "four-secrets"), ("configmap", "four-config")):
        owners = own_cluster.json(kind, name, "-n", namespace)["metadata"]["ownerReferences"]
        assert [owner["uid"] for owner in owners] == [uid]
    pod = own_cluster.json("pod", "four-master-0", "-n", namespace)
    assert SECRET not in json.dumps(pod)
    own_cluster.kubectl("wait", "-n", namespace, "pod/four-master-0", "--for=condition=Ready", "--timeout=180s")
    assert own_cluster.kubectl("exec", "-n", namespace, "four-master-0", "--", "printenv", "TOKEN").strip() == SECRET
    job.delete()
    eventually(lambda: left(own_cluster, namespace, "four"), [])
    claims = own_cluster.json("pvc", "-n", namespace)["items"]
    assert [claim["metadata"]["name"] for claim in claims] == ["four-workspace"]
    with pytest.raises(JobError, match="There is no job 'four'"):
        job.status()


def test_the_same_job_submitted_again_goes_on_and_another_one_of_its_name_is_refused(
    cluster: Cluster, client: TrainingClient, namespace: str, image: str, volumes
) -> None:
    volumes()

    def submit(text: str = "pass", **more: object):
        return client.create_job("twice", base_image=image, command=command(text), **more)

    job = submit(suspend=True)
    eventually(lambda: job.state, JobState.SUSPENDED)
    with pytest.raises(NameTaken, match="already exists, and this request differs from it in "):
        submit("print(1)")
    submit(labels={"mood": "impatient"})  # goes on with the suspended one
    job.wait(timeout=180)
    with pytest.raises(AlreadySucceeded, match="To run it again: tunewright delete twice"):
        submit()
    job.delete()
    with pytest.raises(NameTaken, match="A claim named 'twice-workspace' already exists"):
        submit("print(1)")
    assert left(cluster, namespace, "twice") == []
    submit().wait(timeout=180)  # with its own claim


def test_a_whole_job_is_looked_after_like_any_other(
    cluster: Cluster, client: TrainingClient, namespace: str, image: str
) -> None:
    pod = {"containers": [{"name": "pytorch", "image": image, "command": command(RANK)}]}
    replica = {"replicas": 1, "restartPolicy": "Never", "template": {"spec": pod}}
    about = {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": {"name": "whole"}}
    manifest = {**about, "spec": {"pytorchReplicaSpecs": {"Master": replica, "Worker": replica}}}
    with pytest.raises(Refused, match=r'unknown field "spec\.runPolicy\.ttl"'):
        client.create_job(manifest={**manifest, "spec": {**manifest["spec"], "runPolicy": {"ttl": 1}}})
    assert left(cluster, namespace, "whole") == []

    job = client.create_job(manifest=manifest)
    with pytest.raises(AlreadyRunning, match="An identical job 'whole' is already running"):
        client.create_job(manifest=manifest)
    eventually(lambda: job.status().pods, {"train": 2}, 180)
    assert [pod.name for pod in client.get_job_pods("whole")] == ["whole-master-0", "whole-worker-0"]
    own = cluster.json("pod", "whole-master-0", "-n", namespace)["spec"]
    assert own["securityContext"] == {}
    assert [mount["name"] for mount in own["volumes"]] == [own["volumes"][0]["name"]]  # the service account's token
    for worker, name in ((1, "whole-worker-0"), (0, "whole-master-0")):  # when the Master ends, the job does
        cluster.kubectl("exec", "-n", namespace, name, "--", "touch", "/tmp/go")
        eventually(lambda worker=worker: client.get_job_pods("whole")[worker].phase, "Succeeded", 180)
    assert job.wait(timeout=180).state is JobState.SUCCEEDED
    assert list(job.logs(container="train")) == ["rank 0 of 2", "rank 1 of 2"]
    assert [j.name for j in client.list_jobs()] == ["whole"]
    assert job.report().record.workers == 2
    job.delete()
    eventually(lambda: left(cluster, namespace, "whole"), [])


def test_a_deleted_pod_comes_back_and_the_log_is_followed_across_it(
    own_cluster: Cluster, client: TrainingClient, namespace: str, image: str, volumes
) -> None:
    folder = volumes()
    job = client.create_job("phoenix", base_image=image, command=command(WAITS))
    lines, states = [], []
    for line in job.logs(follow=True):
        lines.append(line)
        if line == "lives: 1":
            states.append(job.state)
            own_cluster.kubectl("delete", "pod", "phoenix-master-0", "-n", namespace, "--wait=false")
        if line == "lives: 2":
            states.append(job.state)
            (folder / "output" / "go").touch()
    assert [line for line in lines if line.startswith("lives")] == ["lives: 1", "lives: 2"]
    assert lines[-1] == "the end"
    assert states[0] is JobState.RUNNING
    assert job.wait(timeout=180).state is JobState.SUCCEEDED


def test_the_log_is_followed_across_a_restart_of_the_api_server(
    own_cluster: Cluster, client: TrainingClient, image: str, volumes
) -> None:
    volumes()
    counts = "import time\nfor i in range(60):\n    print('count', i, flush=True)\n    time.sleep(0.5)"
    job = client.create_job("steady", base_image=image, command=command(counts))
    lines = []
    for line in job.logs(follow=True):
        lines.append(line)
        if line == "count 10":
            own_cluster.restart("kube-apiserver")
    assert [line for line in lines if line.startswith("count")] == [f"count {i}" for i in range(60)]
    assert job.wait(timeout=180).state is JobState.SUCCEEDED


def test_a_suspended_job_has_no_pods_and_goes_on_when_it_is_resumed(
    own_cluster: Cluster, client: TrainingClient, namespace: str, image: str, volumes
) -> None:
    folder = volumes()
    job = client.create_job("pause", base_image=image, command=command(WAITS))
    job.wait([JobState.RUNNING], timeout=180)
    job.suspend()
    assert own_cluster.json("pods", "-n", namespace)["items"] == []
    eventually(lambda: job.state, JobState.SUSPENDED)
    with pytest.raises(JobError, match="is Suspended"):
        job.wait(timeout=1)
    (folder / "output" / "go").touch()
    job.resume()
    assert job.wait(timeout=180).state is JobState.SUCCEEDED
    with pytest.raises(JobError, match="has succeeded"):
        job.resume()
    with pytest.raises(JobError, match="already ended"):
        job.suspend()


def test_a_client_in_a_pod_is_the_pods_service_account(
    own_cluster: Cluster, client: TrainingClient, namespace: str, image: str, volumes, on_node
) -> None:
    volumes()
    own_cluster.kubectl(
        "create",
        "rolebinding",
        "pod",
        "-n",
        namespace,
        "--role=tunewright-user",
        f"--serviceaccount={namespace}:default",
    )
    look = "import tunewright as t; print('sees', [j.name for j in t.TrainingClient('kubernetes').list_jobs()])"
    overrides = on_node()
    overrides["spec"]["automountServiceAccountToken"] = True
    job = client.create_job("inside", base_image=image, command=command(look), pod_overrides=overrides)
    job.wait(timeout=180)
    assert "sees ['inside']" in list(job.logs())


def test_jobs_are_listed_by_label_newest_first(client: TrainingClient, image: str) -> None:
    for name, team in (("one", "blue"), ("two", "red"), ("three", "blue")):
        client.create_job(name, base_image=image, command=command("pass"), labels={"team": team}, suspend=True)
        time.sleep(1.1)  # times of creation are whole seconds
    assert [job.name for job in client.list_jobs()] == ["three", "two", "one"]
    assert [job.name for job in client.list_jobs({"team": "blue"})] == ["three", "one"]
    assert [job.name for job in client.list_jobs({"team": "green"})] == []


def test_a_queue_decides_when_a_job_runs(client: TrainingClient, image: str) -> None:
    job = client.create_job("patient", base_image=image, command=command("pass"), queue="team", suspend=True)
    assert job.status().state is JobState.QUEUED
    for call in (job.suspend, job.resume):
        with pytest.raises(JobError, match="queue 'team'; only Kueue suspends and resumes it"):
            call()
