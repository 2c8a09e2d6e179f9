"""The state of a job in a cluster, from what the API says of it."""

import json
import re

import attrs
import pytest

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.events import events_about
from tunewright.backends.kubernetes.failures import ApiFailure, explained
from tunewright.backends.kubernetes.informer import Informer
from tunewright.backends.kubernetes.live import LiveJob, Pod
from tunewright.backends.kubernetes.record import record_of
from tunewright.backends.kubernetes.state import hopeless, phase_of, start_of, status_of
from tunewright.backends.pytorchjob.kind import PyTorchJob
from tunewright.errors import Failure
from tunewright.status.state import JobState

KIND = PyTorchJob()

CREATED = "2026-11-24T12:00:00Z"


def job(
    *conditions: str, suspend: bool = False, workers: int = 1, labels: dict | None = None, **message: str
) -> LiveJob:
    """A PyTorchJob; `message` is each condition's."""
    containers = {"initContainers": [{"name": "fetch-model"}, {"name": "check"}], "containers": [{"name": "pytorch"}]}
    document = {
        "metadata": {
            "name": "sft",
            "namespace": "team",
            "uid": "1",
            "creationTimestamp": CREATED,
            "labels": {**names.labels("sft"), **(labels or {})},
            "annotations": {names.OUTPUT: "pvc://sft-workspace/output"},
        },
        "spec": {
            "runPolicy": {"suspend": suspend},
            "pytorchReplicaSpecs": {"Worker": {"replicas": workers, "template": {"spec": containers}}},
        },
        "status": {
            "conditions": [
                {"type": c, "status": "True", "message": message.get(c, ""), "lastTransitionTime": CREATED}
                for c in conditions
            ]
        },
    }
    return KIND.read(document)


def pod(worker: int = 0, *, master: bool = False, ending: bool = False, **containers: dict) -> Pod:
    """A pod; `containers`: name → state, "main" for the training container."""
    statuses = [
        {"name": {"main": "pytorch"}.get(name, name.replace("_", "-")), "state": state, "restartCount": 0}
        for name, state in containers.items()
    ]
    main = [s for s in statuses if s["name"] == "pytorch"]
    role = "master" if master else "worker"
    document = {
        "metadata": {
            "name": f"sft-{role}-{worker}",
            "uid": f"{role}-{worker}-{ending}",
            "labels": {
                "training.kubeflow.org/replica-type": role,
                "training.kubeflow.org/replica-index": str(worker),
            },
            **({"deletionTimestamp": CREATED} if ending else {}),
        },
        "spec": {"initContainers": [{"name": "fetch-model"}]},
        "status": {
            "phase": "Pending",
            "initContainerStatuses": [s for s in statuses if s not in main],
            "containerStatuses": main,
        },
    }
    return KIND.read_pod(document)


RUNS = {"running": {"startedAt": CREATED}}
WAITS = {"waiting": {"reason": "PodInitializing"}}


def ended(code: int, message: str = "", reason: str = "Error", at: str = CREATED) -> dict:
    return {"terminated": {"exitCode": code, "message": message, "reason": reason, "finishedAt": at}}


@pytest.mark.parametrize(
    ("live", "pods", "state", "detail"),
    [
        (job(), [], JobState.CREATED, ""),
        (job("Created"), [pod(fetch_model=WAITS)], JobState.CREATED, ""),
        (job("Created"), [pod(fetch_model=RUNS, main=WAITS)], JobState.DOWNLOADING, "fetch-model"),
        (job("Created"), [pod(fetch_model=ended(0), check=RUNS)], JobState.DOWNLOADING, "check"),
        (
            job("Created", workers=2),
            [pod(0, main=RUNS), pod(1, fetch_model=RUNS)],
            JobState.DOWNLOADING,
            "fetch-model of worker 1",
        ),
        (job("Created", "Running"), [pod(main=RUNS)], JobState.RUNNING, ""),
        (job("Created", "Running"), [pod(main=ended(0, reason="Completed"))], JobState.RUNNING, ""),
        (job("Created", "Restarting"), [pod(main=RUNS)], JobState.RUNNING, ""),
        (
            job("Created", "Restarting", workers=2),
            [pod(0, main=RUNS), pod(1, main=ended(137, reason="OOMKilled"))],
            JobState.RESTARTING,
            "Worker 1: train ran out of memory: its node has no more. Give it more",
        ),
        (job("Created", "Restarting"), [pod(fetch_model=RUNS)], JobState.RESTARTING, "fetch-model"),
        (job("Created", "Restarting", Restarting="lost"), [pod(main=RUNS, ending=True)], JobState.RESTARTING, "lost"),
        (
            job("Created", "Suspended", suspend=True),
            [],
            JobState.SUSPENDED,
            "",  # the screen says how to resume it
        ),
        (job("Created", suspend=True, labels={names.QUEUE: "team"}), [], JobState.QUEUED, "queue 'team'"),
        (job("Created", "Succeeded"), [], JobState.SUCCEEDED, ""),
        (job("Created", "Failed", Failed="1 replica failed."), [], JobState.FAILED, "1 replica failed."),
        (
            job("Created"),
            [pod(main={"waiting": {"reason": "ImagePullBackOff", "message": 'image "x:1"'}})],
            JobState.CREATED,
            'worker 0: train cannot start: ImagePullBackOff: image "x:1"',
        ),
        (
            job("Created"),
            [
                pod(
                    fetch_model={"terminated": {"exitCode": 0, "message": "The volume lacks it."}},
                    check={"waiting": {"reason": "CreateContainerConfigError", "message": "no subPath"}},
                )
            ],
            JobState.CREATED,
            "worker 0: check cannot start: CreateContainerConfigError: no subPath. The volume lacks it.",
        ),
    ],
)
def test_a_state_follows_from_conditions_and_pods(live: LiveJob, pods: list[Pod], state: JobState, detail: str) -> None:
    moment = phase_of(live, pods)
    assert moment.state is state
    assert detail in moment.detail
    assert bool(moment.detail) == bool(detail)


def test_the_cause_of_a_failure_is_the_message_of_what_ended_first() -> None:
    pods = [
        pod(0, main=ended(1, "The peers are gone.", at="2026-11-24T12:00:09Z")),
        pod(1, fetch_model=ended(0), main=ended(77, "The token is wrong. Get another.", at="2026-11-24T12:00:05Z")),
    ]
    assert phase_of(job("Failed"), pods).detail == "The token is wrong. Get another."


def test_a_failure_in_a_termination_message_names_the_container_that_failed() -> None:
    told = Failure(77, "The token is wrong.", "Get another.", "fetch-model")
    pods = [pod(1, fetch_model=ended(0, told.to_message().decode()), main=ended(77, told.to_message().decode()))]
    phase = phase_of(job("Failed"), pods)
    assert phase.failure == Failure(77, "The token is wrong.", "Get another.", "fetch-model", 1)
    status = status_of(job("Failed"), phase)
    assert (status.detail, status.failure) == ("The token is wrong. Get another.", phase.failure)


def test_a_failure_of_which_nobody_said_anything_has_its_origin_and_its_exit_code() -> None:
    failure = phase_of(job("Failed"), [pod(2, main=ended(3, "Killed by a library."))]).failure
    assert failure == Failure(3, "Killed by a library.", "", "train", 2)
    assert phase_of(job("Failed", Failed="1 replica failed."), []).failure == Failure(1, "1 replica failed.")
    assert phase_of(job("Succeeded"), []).failure is None


def test_what_holds_a_pod_up_is_told_with_the_failure_of_its_init_container_as_a_sentence() -> None:
    told = Failure(66, "The volume lacks it.", "Fill it.", "fetch-model").to_message().decode()
    stuck = pod(
        fetch_model={"terminated": {"exitCode": 0, "message": told}},
        check={"waiting": {"reason": "CreateContainerConfigError", "message": "no subPath"}},
    )
    assert phase_of(job("Created"), [stuck]).detail.endswith("no subPath. The volume lacks it. Fill it.")


def test_the_cause_of_a_failure_is_not_the_message_of_a_bystander_that_was_to_be_started_again() -> None:
    pods = [
        pod(0, main=ended(129, "Connection closed by peer", at="2026-11-24T12:00:01Z"), ending=True),
        pod(1, main=ended(1, "4 of 4 attempts: CUDA out of memory.", at="2026-11-24T12:00:02Z")),
    ]
    assert phase_of(job("Failed"), pods).detail == "4 of 4 attempts: CUDA out of memory."
    assert phase_of(job("Failed"), pods[:1]).detail == "Connection closed by peer"


def test_a_failure_without_a_message_is_told_by_its_exit_code() -> None:
    assert phase_of(job("Failed"), [pod(main=ended(2))]).detail == "Worker 0: train ended with exit code 2."
    init = phase_of(job("Failed"), [pod(1, fetch_model=ended(9))]).detail
    assert init == "Worker 1: fetch-model ended with exit code 9."


def test_a_lack_of_memory_is_called_so_whatever_run_says_of_a_signal() -> None:
    message = json.dumps({"code": 1, "cause": "The training command ended with signal SIGKILL.", "remedy": "Look."})
    found = pod(main=ended(137, message, reason="OOMKilled"))
    limited = attrs.evolve(found, containers=tuple(attrs.evolve(c, memory="64Gi") for c in found.containers))
    failure = phase_of(job("Failed"), [limited]).failure
    assert failure is not None
    assert failure.cause == "Worker 0: train ran out of memory: the memory limit of 64Gi is too small for it."
    assert "resources_per_worker={'memory': …}" in failure.remedy


NO_PYTHON = 'exec: "python3": executable file not found in $PATH'


@pytest.mark.parametrize(
    ("pods", "words"),
    [
        ([pod(main=ended(128, NO_PYTHON, reason="StartError"))], "train cannot be started: exec.*holds Python 3"),
        ([pod(check=ended(137, reason="OOMKilled"), main=WAITS)], "check ran out of memory"),
        ([pod(main=ended(137, reason="OOMKilled"))], None),
        ([pod(main=ended(129))], None),
        ([pod(check=ended(0), main=RUNS)], None),
    ],
    ids=["no python", "step without memory", "training without memory", "crash", "runs"],
)
def test_what_fails_each_time_in_the_same_way_is_told_from_what_may_not(pods: list[Pod], words: str | None) -> None:
    failure = hopeless(pods)
    assert (failure is None) == (words is None)
    if failure is not None:
        assert re.search(words or "", str(failure))
        noted = attrs.evolve(job(), annotations={names.FAILURE: failure.to_message().decode()})
        noted = attrs.evolve(noted, conditions={"Failed": (failure.to_message().decode(), None)})
        assert phase_of(noted, []).failure == failure, "whatever becomes of its pods"


def test_the_model_of_a_training_has_a_folder_of_its_own() -> None:
    done = job("Succeeded")
    assert status_of(done, phase_of(done, [])).result == "pvc://sft-workspace/output/model"
    assert status_of(job(), phase_of(job(), [])).result is None


def test_a_master_is_worker_0_and_the_others_come_after_it() -> None:
    assert pod(0, master=True).worker == 0
    assert pod(1).worker == 1
    document_of_a_worker_beside_a_master = {
        "metadata": {
            "name": "sft-worker-0",
            "uid": "1",
            "labels": {"training.kubeflow.org/replica-type": "worker", "training.kubeflow.org/replica-index": "0"},
        },
        "spec": {"initContainers": [{"name": "init-pytorch"}]},
    }
    assert KIND.worker(document_of_a_worker_beside_a_master) == 1


@pytest.mark.parametrize(
    ("status", "message", "kind", "remedy"),
    [
        (0, "timed out", "Unavailable", "kubectl cluster-info"),
        (401, "Unauthorized", "NotLoggedIn", "Log in again"),
        (403, 'pytorchjobs is forbidden: User "x" cannot create', "Forbidden", "ask your cluster admin"),
        (403, 'pytorchjobs "x" is forbidden: exceeded quota: gpus', "QuotaExceeded", "kubectl describe quota -n team"),
        (403, 'admission webhook "v.acme" denied the request: no', "Refused", "Change the job accordingly"),
        (500, 'failed calling webhook "validator": connection refused', "OperatorDown", "wait until its pod runs"),
        (404, "404 page not found", "NotInstalled", "training-operator"),
        (404, "the server could not find the requested resource", "NotInstalled", "training-operator"),
        (404, 'namespaces "team" not found', "NotInstalled", "create namespace team"),
        (404, 'pytorchjobs.kubeflow.org "sft" not found', "ClusterError", "tunewright list"),
        (409, 'pytorchjobs.kubeflow.org "sft" already exists', "NameTaken", "Choose another name"),
        (422, "spec.x: Invalid value", "Refused", "pod_overrides"),
        (503, "etcd is slow", "Unavailable", "Try again"),
    ],
)
def test_a_refusal_says_what_to_do(status: int, message: str, kind: str, remedy: str) -> None:
    error = explained(ApiFailure(status, message), KIND, name="sft", namespace="team")
    assert type(error).__name__ == kind
    assert remedy in str(error)
    assert error.name == "sft"
    assert ("--backend kubernetes" in str(error)) == ("--backend kubernetes -n team" in str(error))


def test_a_hint_finds_the_job_again() -> None:
    found = "tunewright logs -f sft --backend kubernetes -n team"
    assert names.command_for("logs -f", "sft", "team", backend="kubernetes") == found
    assert (
        names.command_for("logs -f", "sft", "team", backend="kubernetes", context="prod") == f"{found} --context prod"
    )


def test_a_refusal_soon_after_the_connection_broke_is_not_believed() -> None:
    feed = Informer(api=None)  # type: ignore[arg-type]
    refused, broken = ApiFailure(403, "no such role"), ApiFailure(0, "connection reset")
    assert feed.believes(refused)
    assert not feed.believes(broken)
    assert not feed.believes(refused)


def test_a_record_has_the_conditions_and_the_steps_in_the_order_of_their_times() -> None:
    later = "2026-11-24T12:05:00Z"
    config = {"data": {"model.json": '{"provider": "hf"}', "damaged.json": "{", "run.py": "x"}}
    document = {
        "metadata": {"name": "sft", "namespace": "team", "uid": "1", "creationTimestamp": CREATED},
        "spec": {
            "nprocPerNode": "2",
            "pytorchReplicaSpecs": {
                "Worker": {
                    "replicas": 3,
                    "template": {
                        "spec": {
                            "initContainers": [{"name": "fetch-model", "image": "storage:1"}],
                            "containers": [
                                {"name": "pytorch", "image": "trainer:1", "command": ["run"], "args": ["x"]}
                            ],
                        }
                    },
                }
            },
        },
        "status": {
            "conditions": [
                {"type": "Succeeded", "status": "True", "message": "all done", "lastTransitionTime": later},
                {"type": "Running", "status": "False", "lastTransitionTime": "2026-11-24T12:02:00Z"},
                {"type": "Odd", "status": "True", "lastTransitionTime": later},
            ]
        },
    }
    begun = {"terminated": {"exitCode": 0, "startedAt": "2026-11-24T12:01:00Z", "finishedAt": later}}
    earlier = {"terminated": {"exitCode": 0, "startedAt": CREATED, "finishedAt": later}}
    record = record_of(KIND, document, [pod(0, fetch_model=begun), pod(1, fetch_model=earlier)], config, document)
    assert [(str(c.state), c.detail) for c in record.conditions] == [
        ("Downloading", "fetch-model"),
        ("Running", ""),
        ("Succeeded", "all done"),
    ]
    assert record.conditions[0].since is not None
    assert record.conditions[0].since.isoformat() == CREATED.replace("Z", "+00:00")
    assert (record.workers, record.processes, record.command) == (3, 2, ("run", "x"))
    assert record.images == {"fetch-model": "storage:1", "train": "trainer:1"}
    assert record.documents == {"model.json": {"provider": "hf"}}


def cluster_event(kind: str, name: str, at: str, reason: str, **more: object) -> dict:
    return {"involvedObject": {"kind": kind, "name": name}, "lastTimestamp": at, "reason": reason, **more}


def test_the_clusters_events_about_a_job_are_those_of_its_objects_since_it_was_created() -> None:
    live = attrs.evolve(job(), annotations={names.OBJECTS: "ConfigMap/sft-config,PersistentVolumeClaim/sft-workspace"})
    after, before = "2026-11-24T12:00:{:02}Z", "2026-11-24T11:59:59Z"
    found = [
        cluster_event("Pod", "sft-worker-0", after.format(9), "FailedScheduling", type="Warning", message="no node\n", count=3),
        cluster_event("PyTorchJob", "sft", after.format(1), "Created"),
        cluster_event("PersistentVolumeClaim", "sft-workspace", after.format(5), "Bound"),
        cluster_event("Pod", "sft-worker-0", before, "OfAnEarlierJob"),
        cluster_event("Pod", "sft-2-worker-0", after.format(2), "OfAnotherJob"),
        cluster_event("Pod", "sft", after.format(2), "OfAStranger"),
        {"involvedObject": {}, "eventTime": after.format(3), "metadata": {}},
    ]  # fmt: skip
    told = events_about(KIND, live, found)
    assert [event.reason for event in told] == ["Created", "Bound", "FailedScheduling"]
    assert told[2].to_dict() == {
        "event": "cluster", "time": after.format(9), "type": "Warning", "reason": "FailedScheduling",
        "about": "Pod/sft-worker-0", "message": "no node", "count": 3,
    }  # fmt: skip


def test_a_status_says_what_the_pods_are_at() -> None:
    live = job("Created", workers=4)
    pods = [pod(0, main=RUNS), pod(1, fetch_model=RUNS), pod(2, main=RUNS), pod(3), pod(0, main=RUNS, ending=True)]
    assert status_of(live, phase_of(live, pods), pods=pods).pods == {"train": 2, "fetch-model": 1, "Pending": 1}
    assert status_of(live, phase_of(live, pods)).pods == {}


PULLS = {"waiting": {"reason": "ContainerCreating"}}


@pytest.mark.parametrize(
    ("live", "pods", "said"),
    [
        (job(workers=2), [], "0 of 2 pods are created"),
        (job(workers=2), [pod(0)], "1 of 2 pods are created"),
        (job(workers=2), [pod(0), pod(1, ending=True)], "1 of 2 pods are created"),
        (job(), [pod(0)], "worker 0 waits for a node"),
        (
            job(),
            [attrs.evolve(pod(0, fetch_model=PULLS, main=WAITS), node="gpu-1")],
            "worker 0 starts fetch-model on gpu-1: pulling its image, or mounting its volumes",
        ),
        (job(), [attrs.evolve(pod(0, fetch_model=RUNS), node="gpu-1")], ""),
        (job(suspend=True), [], ""),
        (job("Succeeded"), [], ""),
    ],
)
def test_a_job_that_has_not_begun_says_what_its_pods_wait_for(live: LiveJob, pods: list[Pod], said: str) -> None:
    assert start_of(live, phase_of(live, pods), pods) == said


def test_what_is_wrong_with_a_pod_is_not_covered_by_what_it_waits_for() -> None:
    broken = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    pods = [attrs.evolve(pod(0, fetch_model=broken), node="gpu-1")]
    phase = phase_of(job(), pods)
    assert "ImagePullBackOff" in phase.detail
    assert start_of(job(), phase, pods) == ""
