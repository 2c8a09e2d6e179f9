"""TrainJobs of Kubeflow Trainer 2: the runtime that carries a plan, what is started again, and what a TrainJob cannot do."""

import attrs
import pytest

from tunewright import JobState, RequestError, SecretValue
from tunewright.backends.base import BackendOptions
from tunewright.backends.kubernetes.doctor import rights
from tunewright.backends.kubernetes.record import record_of
from tunewright.backends.kubernetes.state import phase_of
from tunewright.backends.kubernetes.submit import plan_digest
from tunewright.backends.trainjob import TrainJobBackend
from tunewright.backends.trainjob.kind import TrainJob
from tunewright.plan.plan import ContainerSpec, EphemeralClaim, ExistingClaim, JobPlan, Mount, NewClaim, Volume
from tunewright.plan.policies import RunPolicy, Scheduling
from tunewright.plan.resources import Resources
from tunewright.request.raw import raw_manifest
from tunewright.request.update import JobUpdate

KIND = TrainJob()
MAIN = ContainerSpec(name="train", image="i:1", command=["torchrun"], env={"TOKEN": SecretValue("s")})
FETCH = ContainerSpec(name="fetch-model", image="i:1", command=["fetch"])


def rendered(**changes: object) -> list[dict]:
    given: dict = {"name": "sft", "init_containers": [FETCH], "main": MAIN, "num_workers": 2, "num_procs_per_worker": 4}
    job = JobPlan(**{**given, **changes})
    return list(TrainJobBackend(BackendOptions(namespace="team")).render(job).reveal())


def job_set(documents: list[dict]) -> dict:
    return documents[0]["spec"]["template"]["spec"]


def test_the_runtime_comes_first_and_carries_everything_but_the_numbers() -> None:
    runtime, job, *owned = rendered()
    names = [(d["kind"], d["metadata"]["name"]) for d in (runtime, job, *owned)]
    assert names == [
        ("TrainingRuntime", "sft"),
        ("TrainJob", "sft"),
        ("Secret", "sft-secrets"),
        ("ConfigMap", "sft-config"),
    ]
    assert {d["metadata"]["namespace"] for d in (runtime, job, *owned)} == {"team"}
    assert job["spec"]["runtimeRef"] == {
        "apiGroup": "trainer.kubeflow.org",
        "kind": "TrainingRuntime",
        "name": "sft",
    }
    assert job["spec"]["trainer"] == {"numNodes": 2, "numProcPerNode": 4}
    (node,) = job_set([runtime])["replicatedJobs"]
    assert (node["name"], runtime["spec"]["mlPolicy"]["torch"]) == ("node", {}), "the torch plugin looks for this name"
    pod = node["template"]["spec"]["template"]["spec"]
    assert [c["name"] for c in (*pod["initContainers"], *pod["containers"])] == ["fetch-model", "node"]
    env = {v["name"]: v.get("value") for v in pod["containers"][0]["env"]}
    assert env["PET_MASTER_ADDR"] == "sft-node-0-0.sft"
    assert env["TUNEWRIGHT_WORKER"] == "sft-$(PET_NODE_RANK)", "a pod that replaces another has a name of its own"


def test_the_job_set_starts_all_again_and_counts_and_final_codes_end_it_at_once() -> None:
    documents = rendered(run_policy=RunPolicy(max_restarts=5))
    policy = job_set(documents)["failurePolicy"]
    assert policy["maxRestarts"] == 5
    (final,) = policy["rules"]
    assert (final["action"], final["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    job = job_set(documents)["replicatedJobs"][0]["template"]["spec"]
    assert job["backoffLimit"] == 0
    fails = next(rule for rule in job["podFailurePolicy"]["rules"] if rule["action"] == "FailJob")["onExitCodes"]
    assert (fails["containerName"], fails["operator"], fails["values"]) == ("node", "NotIn", [129, 137, 143])


def test_the_policy_does_not_make_another_job_of_it_and_the_pods_do() -> None:
    policy = RunPolicy(suspend=True, ttl=60, deadline=3600, max_restarts=7)
    documents, others = rendered(run_policy=policy), rendered()
    assert (documents[1]["spec"]["suspend"], documents[1]["spec"]["activeDeadlineSeconds"]) == (True, 3600)
    assert job_set(documents)["ttlSecondsAfterFinished"] == 60
    assert KIND.suspended(documents[1])
    assert plan_digest(KIND, documents) == plan_digest(KIND, others)
    another = rendered(main=ContainerSpec(name="train", image="i:2", command=["torchrun"]))
    assert plan_digest(KIND, others) != plan_digest(KIND, another)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"elastic": (1, 2)}, "elastic=.*fixed number of peers.*backend=.pytorchjob."),
        ({"scheduling": Scheduling(scheduling_policy={"minAvailable": 2})}, "scheduling_policy: .*queue="),
    ],
    ids=["elastic", "gang"],
)
def test_what_it_cannot_do_is_refused_with_what_can(changes: dict, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        rendered(**changes)


def test_what_its_runtime_says_cannot_be_changed() -> None:
    job = rendered()[1]
    assert KIND.change(job, JobUpdate(labels={"a": "b"}), None) == {}
    for update in (JobUpdate(ttl=60), JobUpdate(max_restarts=9)):
        with pytest.raises(RequestError, match=r"cannot be changed.*submit it again"):
            KIND.change(job, update, lambda pod: pod)


def with_devices(source: object, **resources: object) -> list[dict]:
    mounts = [Mount(volume="shared", path="/workspace/model", sub_path="model")]
    main = attrs.evolve(
        MAIN,
        command=["python", "-m", "tunewright_launcher", "run", "--", "torchrun", "train"],
        resources=Resources(cpu=2, **resources),
        mounts=mounts,
    )
    fetch = attrs.evolve(FETCH, mounts=mounts)
    return rendered(main=main, init_containers=[fetch], volumes=[Volume(name="shared", source=source)])


SHARED = NewClaim(size="1Gi", access_modes=("ReadWriteMany",))


@pytest.mark.parametrize(
    ("source", "resources", "first"),
    [
        (SHARED, {"gpu": 8}, True),
        (SHARED, {"extended": {"example.com/accelerator": 1}}, True),
        (ExistingClaim(claim="team"), {"gpu": 8}, True),
        (SHARED, {}, False),
        (NewClaim(size="1Gi", access_modes=("ReadWriteOnce",)), {"gpu": 8}, False),
        (EphemeralClaim(size="1Gi"), {"gpu": 8}, False),
    ],
    ids=["gpu", "device", "existing", "no device", "one node", "own volume"],
)
def test_no_device_is_held_while_inputs_are_fetched_to_a_shared_volume(
    source: object, resources: dict, first: bool
) -> None:
    jobs = job_set(with_devices(source, **resources))["replicatedJobs"]
    assert [job["name"] for job in jobs] == (["prepare", "node"] if first else ["node"])
    assert jobs[-1].get("dependsOn") == ([{"name": "prepare", "status": "Complete"}] if first else None)
    if not first:
        return
    prepare, node = (job["template"]["spec"]["template"]["spec"] for job in jobs)
    assert prepare["initContainers"] == node["initContainers"]
    (main,) = prepare["containers"]
    assert main["command"] == ["python", "-m", "tunewright_launcher", "run", "--", "python", "-c", "pass"]
    assert {"name": "TUNEWRIGHT_WORKER", "value": "sft-prepare"} in main["env"]
    held = [c["resources"]["limits"] for c in (*prepare["initContainers"], main) if "limits" in c["resources"]]
    assert all(set(limits) <= {"cpu", "memory"} for limits in held)


def live(*conditions: str) -> dict:
    document = rendered()[1]
    document["metadata"] |= {"uid": "u", "creationTimestamp": "2026-11-29T12:00:00Z"}
    document["status"] = {"conditions": [{"type": name, "status": "True"} for name in conditions]}
    return document


def pod(attempt: str, *, trains: bool) -> dict:
    state = {"running": {}} if trains else {"waiting": {}}
    about = {"name": f"sft-node-0-0-{attempt}", "uid": attempt}
    labels = {"batch.kubernetes.io/job-completion-index": "0", "jobset.sigs.k8s.io/restart-attempt": attempt}
    status = {"phase": "Running", "containerStatuses": [{"name": "node", "state": state}]}
    return {"metadata": {**about, "labels": labels}, "spec": {"nodeName": "n"}, "status": status}


def test_a_job_whose_pods_were_all_replaced_starts_again_until_it_trains() -> None:
    def state(*pods: dict) -> JobState:
        document = live()
        document["spec"]["trainer"]["numNodes"] = 1
        return phase_of(KIND.read(document), [KIND.read_pod(found) for found in pods]).state

    assert state(pod("0", trains=False)) is JobState.CREATED
    assert state(pod("2", trains=False)) is JobState.RESTARTING
    assert state(pod("2", trains=True)) is JobState.RUNNING


def test_its_steps_are_known_without_its_runtime_and_its_images_with_it() -> None:
    found = KIND.read(live("Complete"))
    assert (found.steps, found.workers, found.ended) == (("fetch-model", "train"), 2, True)
    runtime = rendered()[0]
    assert KIND.holder(live()) == ("TrainingRuntime", "sft")
    assert record_of(KIND, live(), [], None, runtime).images == {"fetch-model": "i:1", "train": "i:1"}
    assert record_of(KIND, live(), [], None, {}).images == {}


def test_it_runs_since_it_was_resumed_or_else_created() -> None:
    assert KIND.read(live("Complete")).started == KIND.read(live("Complete")).created
    held = live("Suspended")
    assert KIND.read(held).started is None
    at = "2026-11-29T12:30:00Z"
    held["status"]["conditions"] = [{"type": "Suspended", "status": "False", "lastTransitionTime": at}]
    started = KIND.read(held).started
    assert started is not None
    assert started.minute == 30


def test_a_job_that_the_user_wrote_names_a_runtime_and_keeps_its_spec() -> None:
    about = {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": {"name": "mine"}}
    spec = {"runtimeRef": {"name": "torch-distributed"}, "trainer": {"numNodes": 2}}
    assert KIND.raw(raw_manifest(None, {**about, "spec": spec}, {})) == spec
    with pytest.raises(RequestError, match=r"manifest\.spec\.runtimeRef: has no name.*clustertrainingruntimes"):
        KIND.raw(raw_manifest(None, {**about, "spec": {}}, {}))


def test_its_users_need_rights_in_their_namespace_alone() -> None:
    needed = rights(KIND)
    assert needed["trainjobs.trainer.kubeflow.org"] == ("create", "get", "list", "watch", "patch", "delete")
    assert needed["trainingruntimes.trainer.kubeflow.org"] == ("create", "get", "patch", "delete")
