"""Indexed Jobs of Kubernetes itself: how workers find each other, what is started again, and what a Job cannot do."""

from datetime import UTC, datetime, timedelta

import kubernetes_validate
import pytest

from tunewright import JobState, RequestError
from tunewright.backends.base import BackendOptions
from tunewright.backends.job import IndexedJobBackend
from tunewright.backends.job.kind import IndexedJob
from tunewright.backends.kubernetes.live import Container, Pod
from tunewright.backends.kubernetes.state import phase_of, status_of
from tunewright.backends.kubernetes.submit import plan_digest
from tunewright.plan.plan import ContainerSpec, JobPlan
from tunewright.plan.policies import RunPolicy, Scheduling
from tunewright.request.raw import raw_manifest
from tunewright.request.update import JobUpdate

KIND = IndexedJob()
MAIN = ContainerSpec(name="train", image="i:1", command=["torchrun"])
NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


def rendered(**changes: object) -> list[dict]:
    given: dict = {"name": "sft", "init_containers": [], "main": MAIN, "num_workers": 2, "num_procs_per_worker": 4}
    job = JobPlan(**{**given, **changes})
    return list(IndexedJobBackend(BackendOptions(namespace="team")).render(job).reveal())


def variables(document: dict) -> dict[str, object]:
    env = document["spec"]["template"]["spec"]["containers"][0]["env"]
    return {v["name"]: v.get("value", v.get("valueFrom")) for v in env}


def test_workers_find_worker_0_by_the_name_that_the_service_gives_it() -> None:
    job, service, *_ = rendered()
    pod = job["spec"]["template"]["spec"]
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": "sft"}
    assert (pod["subdomain"], service["metadata"]["name"]) == ("sft", "sft")
    found = variables(job)
    assert found["PET_MASTER_ADDR"] == "sft-0.sft"
    assert (found["PET_NNODES"], found["PET_NPROC_PER_NODE"]) == ("2", "4")
    assert "job-completion-index" in str(found["PET_NODE_RANK"])
    assert found["TUNEWRIGHT_WORKER"] == "sft-$(PET_NODE_RANK)", "a pod that replaces another has a name of its own"
    assert KIND.processes(job) == 4


def test_an_image_that_starts_itself_gets_what_pytorch_reads() -> None:
    found = variables(rendered(self_starting=True)[0])
    expected = {"MASTER_ADDR": "sft-0.sft", "MASTER_PORT": "29500", "WORLD_SIZE": "8", "RANK": "$(PET_NODE_RANK)"}
    assert {name: found[name] for name in expected} == expected


def decision(document: dict, code: int, *, disrupted: bool = False) -> str:
    """What the Job controller does about a pod whose main container ended so, by the API's rules."""
    for rule in document["spec"]["podFailurePolicy"]["rules"]:
        if "onPodConditions" in rule and disrupted:
            return rule["action"]
        if codes := rule.get("onExitCodes"):
            listed = code in codes["values"]
            if code and listed == (codes["operator"] == "In"):
                return rule["action"]
    return "Count"


@pytest.mark.parametrize(
    ("code", "action"),
    [(1, "FailJob"), (66, "FailJob"), (128, "FailJob"), (129, "Ignore"), (143, "Ignore"), (137, "Count")],
)
def test_what_a_worker_ends_with_decides_whether_it_starts_again(code: int, action: str) -> None:
    job = rendered(run_policy=RunPolicy(max_restarts=5))[0]
    assert decision(job, code) == action
    assert decision(job, 137, disrupted=True) == "Ignore", "a drain is nobody's fault"
    assert job["spec"]["backoffLimit"] == 5


def test_its_own_fields_carry_the_policy_and_do_not_make_another_job_of_it() -> None:
    policy = RunPolicy(suspend=True, ttl=60, deadline=3600)
    documents, others = rendered(run_policy=policy), rendered()
    spec = documents[0]["spec"]
    assert (spec["suspend"], spec["ttlSecondsAfterFinished"], spec["activeDeadlineSeconds"]) == (True, 60, 3600)
    kubernetes_validate.validate(documents[0], "1.34", strict=True)
    assert KIND.suspended(documents[0])
    assert not KIND.suspended(others[0])
    assert plan_digest(KIND, documents) == plan_digest(KIND, others)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"elastic": (1, 2)}, r"elastic=.*num_workers= alone, or use backend=.pytorchjob."),
        ({"scheduling": Scheduling(scheduling_policy={"minAvailable": 2})}, "scheduling_policy: .*queue="),
    ],
    ids=["elastic", "gang"],
)
def test_what_it_cannot_do_is_refused_with_what_can(changes: dict, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        rendered(**changes)


def test_pods_are_never_changed_as_the_api_would_refuse_it() -> None:
    job = rendered()[0]
    assert KIND.change(job, JobUpdate(ttl=60), None) == {"ttlSecondsAfterFinished": 60}
    with pytest.raises(RequestError, match=r"max_restarts: cannot be changed.*submit it again"):
        KIND.change(job, JobUpdate(max_restarts=9), lambda pod: pod)


def live(*conditions: str) -> object:
    document = rendered()[0]
    document["metadata"] |= {"uid": "u", "creationTimestamp": "2026-11-29T12:00:00Z"}
    document["status"] = {"conditions": [{"type": name, "status": "True"} for name in conditions]}
    return KIND.read(document)


def pod(worker: int, age: int, code: int | None = None) -> Pod:
    """A pod that trains, or ended with a code; `age` in seconds."""
    main = Container(
        name="train", step="train", init=False, phase="running" if code is None else "terminated", exit_code=code
    )
    name = f"sft-{worker}-{age:05d}"
    created = NOW - timedelta(seconds=age)
    phase = "Running" if code is None else "Failed"
    return Pod(name=name, uid=name, worker=worker, created=created, phase=phase, node="n", containers=(main,))


def test_pods_that_were_replaced_stay_for_their_logs_and_do_not_count() -> None:
    job, pods = live(), [pod(0, 90, code=129), pod(1, 90, code=129), pod(0, 10), pod(1, 10)]
    phase = phase_of(job, pods)
    assert phase.state is JobState.RUNNING
    assert {one.name for one, _ in phase.progress_sources} == {"sft-0-00010", "sft-1-00010"}
    assert status_of(job, phase, pods=pods).pods == {"train": 2}


def test_a_worker_that_will_be_replaced_is_a_restart_and_one_that_will_not_is_none() -> None:
    assert phase_of(live(), [pod(0, 10, code=129), pod(1, 10)]).state is JobState.RESTARTING
    assert phase_of(live(), [pod(0, 10, code=66), pod(1, 10)]).state is JobState.RUNNING
    failed = phase_of(live("Failed"), [pod(0, 90, code=129), pod(0, 10, code=66)])
    assert (failed.state, failed.failure and failed.failure.code) == (JobState.FAILED, 66)


def test_a_job_that_the_user_wrote_keeps_its_spec() -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "mine", "image": "i:1"}]}}
    manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "mine"}, "spec": {"template": template}}
    spec = KIND.raw(raw_manifest(None, manifest, {}))
    assert spec["template"]["spec"] == template["spec"]
    assert spec["template"]["metadata"]["labels"]["app.kubernetes.io/instance"] == "mine"
    with pytest.raises(RequestError, match=r"manifest\.spec\.template\.spec\.containers"):
        KIND.raw(raw_manifest("mine", {**manifest, "spec": {}}, {}))
