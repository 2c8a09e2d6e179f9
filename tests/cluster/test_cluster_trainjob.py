"""What only TrainJobs have, on the real controllers of Trainer 2 and JobSet; what all kinds share is in test_cluster_kinds."""

from collections.abc import Iterator

import pytest
import yaml
from tests.cluster import trainer
from tests.cluster.cluster import Cluster
from tests.cluster.helpers import (
    CHEAP,
    RBAC,
    WAITS,
    at_s3,
    client_in,
    command,
    devices_of,
    downloads,
    eventually,
    left,
    sees_in_place_of_training,
)
from tests.servers.s3 import Gateway, S3Proxy

from tunewright import JobError, JobState, RequestError, TrainingClient
from tunewright.backends.base import BackendOptions
from tunewright.backends.trainjob import TrainJobBackend
from tunewright.backends.trainjob.render import ANCESTOR
from tunewright.plan.plan import ContainerSpec, JobPlan

pytestmark = pytest.mark.timeout(600)

DEVICE = "tunewright.test/device"
ALL = "trainjobs,trainingruntimes,jobsets,jobs,pods,services,secrets,configmaps"


@pytest.fixture(autouse=True)
def _trainer(cluster: Cluster) -> None:
    if not trainer.installed(cluster):
        pytest.skip(
            "needs Trainer: python -m tests.cluster up --with trainer, and TUNEWRIGHT_CLUSTER_TESTS=its KUBECONFIG"
        )


@pytest.fixture
def client(cluster: Cluster, namespace: str) -> TrainingClient:
    return client_in(cluster, namespace, "trainjob")


@pytest.fixture
def device(own_cluster: Cluster) -> Iterator[None]:
    """The node has one device."""
    with devices_of(own_cluster, DEVICE) as devices:
        devices(1)
        yield


@pytest.mark.usefixtures("device")
def test_no_device_is_held_until_everything_is_downloaded(
    own_cluster: Cluster,
    client: TrainingClient,
    namespace: str,
    image: str,
    volumes,
    on_node,
    s3: S3Proxy,
    gateway: Gateway,
) -> None:
    for name, content in (("model/config.json", b"{}"), ("data/rows.jsonl", b'{"text": "a row"}\n')):
        gateway.put(f"devices/{name}", content)
    folder = volumes("ReadWriteMany")
    s3.refusals = [("devices/", 503, "SlowDown")]
    job = client.train(
        "first",
        model=at_s3(s3, "devices/model"),
        dataset=at_s3(s3, "devices/data"),
        trainer="hf",
        image=image,
        storage={"access_modes": ["ReadWriteMany"]},
        resources_per_worker={**CHEAP, DEVICE: 1},
        pod_overrides=sees_in_place_of_training(on_node),
    )

    def holders() -> set[str]:
        """The replicated jobs whose pods ask for the device."""
        pods = own_cluster.json("pods", "-n", namespace)["items"]
        return {
            pod["metadata"]["labels"]["jobset.sigs.k8s.io/replicatedjob-name"]
            for pod in pods
            if any(DEVICE in c["resources"].get("limits", {}) for c in pod["spec"]["containers"])
        }

    job.wait([JobState.DOWNLOADING], timeout=180)
    assert holders() == set()
    s3.log.clear()
    s3.refusals = []
    job.wait([JobState.RUNNING], timeout=180)
    assert holders() == {"node"}
    eventually(lambda: "has seen" in job.logs(container="train"), wanted=True)
    assert set(downloads(s3).values()) == {1}, "the workers' own steps find everything there"
    (folder / "output" / "go").touch()
    assert job.wait(timeout=180).state is JobState.SUCCEEDED


def test_under_restricted_pod_security_it_runs(
    cluster: Cluster, client: TrainingClient, namespace: str, image: str, volumes
) -> None:
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    volumes("ReadWriteMany")
    shared = {"access_modes": ["ReadWriteMany"]}
    job = client.create_job("pair", base_image=image, command=command("print('hello')"), num_workers=2, storage=shared)
    assert job.wait(timeout=180).state is JobState.SUCCEEDED


def test_the_pods_of_a_finished_job_go_after_its_ttl_and_the_job_stays(
    own_cluster: Cluster, client: TrainingClient, namespace: str, image: str, volumes
) -> None:
    volumes()
    job = client.create_job("brief", base_image=image, command=command("print('hello')"), ttl=3)
    job.wait(timeout=180)
    eventually(lambda: own_cluster.json("pods,jobsets", "-n", namespace)["items"], [])
    assert job.state is JobState.SUCCEEDED
    job.delete()
    eventually(lambda: left(own_cluster, namespace, "brief", ALL), [])


def test_a_trainjob_that_the_user_wrote_runs_with_a_runtime_of_others(
    own_cluster: Cluster, namespace: str, image: str
) -> None:
    """As Trainer 2's own examples: a runtime of the platform team's, and a TrainJob that names it."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "node", "image": image}]}
    ancestor = {"labels": {ANCESTOR: "trainer"}}
    node = {"name": "node", "template": {"metadata": ancestor, "spec": {"template": {"spec": pod}}}}
    api = {"apiVersion": "trainer.kubeflow.org/v1alpha1"}
    spec = {"mlPolicy": {"numNodes": 1, "torch": {}}, "template": {"spec": {"replicatedJobs": [node]}}}
    metadata = {"name": "torch", "namespace": namespace}
    own_cluster.apply({**api, "kind": "TrainingRuntime", "metadata": metadata, "spec": spec})
    says = ["python3", "-uc", "import os, time; print('node', os.environ['PET_NODE_RANK']); time.sleep(20)"]
    wrote = {
        "runtimeRef": {"kind": "TrainingRuntime", "name": "torch"},
        "trainer": {"numNodes": 2, "image": image, "command": says},
    }
    client = client_in(own_cluster, namespace, "kubernetes", role="trainjob")
    job = client.create_job(manifest={**api, "kind": "TrainJob", "metadata": {"name": "example"}, "spec": wrote})
    eventually(lambda: [(one.name, one.state) for one in client.list_jobs()], [("example", JobState.RUNNING)])
    assert job.wait(timeout=120).state is JobState.SUCCEEDED
    assert {line for line in job.logs() if "node" in line} == {"node 0", "node 1"}
    job.delete()
    eventually(lambda: left(own_cluster, namespace, "example", ALL), [])
    assert left(own_cluster, namespace, "torch", ALL) == ["TrainingRuntime/torch"], "it is not the job's"


@pytest.fixture
def of_the_cluster(own_cluster: Cluster, namespace: str) -> Iterator[None]:
    """Removes what a test has made besides its namespace."""
    yield
    own_cluster.kubectl("delete", "clustertrainingruntime", namespace, "--ignore-not-found")
    own_cluster.kubectl("delete", "clusterrolebinding", namespace, "--ignore-not-found")


@pytest.mark.usefixtures("of_the_cluster")
@pytest.mark.parametrize("scope", ["TrainingRuntime", "ClusterTrainingRuntime"])
def test_a_job_keeps_the_limits_and_the_sidecar_of_a_runtime_that_it_names(
    own_cluster: Cluster, namespace: str, image: str, volumes, scope: str
) -> None:
    volumes()
    ends = command("import signal; signal.sigwait([signal.SIGTERM])")
    sidecar = {"name": "meter", "image": image, "command": ends, "restartPolicy": "Always"}
    limits = {"cpu": "500m", "memory": "300Mi"}
    node = {
        "name": "node",
        "image": image,
        "resources": {"limits": limits},
        "env": [{"name": "POOL", "value": "research"}],
    }
    pod = {"initContainers": [sidecar], "containers": [node]}
    job = {"template": {"spec": pod}}
    named = {"name": "node", "template": {"metadata": {"labels": {ANCESTOR: "trainer"}}, "spec": job}}
    spec = {"mlPolicy": {"numNodes": 1, "torch": {}}, "template": {"spec": {"replicatedJobs": [named]}}}
    metadata = {"name": namespace, **({"namespace": namespace} if scope == "TrainingRuntime" else {})}
    runtime = {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": scope, "metadata": metadata, "spec": spec}
    own_cluster.apply(runtime)
    client = client_in(own_cluster, namespace, "kubernetes", role="trainjob")
    if scope == "ClusterTrainingRuntime":
        with pytest.raises(RequestError, match="that you may read"):
            client.create_job("based", base_image=image, command=["true"], runtime=namespace)
        reader = yaml.safe_load((RBAC / "runtimes.yaml").read_text("utf-8"))
        own_cluster.apply(reader)
        own_cluster.kubectl(
            "create", "clusterrolebinding", namespace, f"--clusterrole={reader['metadata']['name']}", "--user=alice"
        )
    says = command("import os; print('pool', os.environ['POOL'])")
    found = client.create_job("based", base_image=image, command=says, runtime=namespace)
    assert found.wait(timeout=180).state is JobState.SUCCEEDED
    assert "pool research" in list(found.logs())
    [ran] = own_cluster.json("pods", "-n", namespace)["items"]
    assert [c["name"] for c in ran["spec"]["initContainers"]] == ["meter"]
    assert ran["spec"]["containers"][0]["resources"]["limits"] == limits
    found.delete()
    eventually(lambda: left(own_cluster, namespace, "based", ALL), [])


def test_what_a_dead_client_left_is_deleted_under_the_jobs_name(
    own_cluster: Cluster, client: TrainingClient, namespace: str, image: str
) -> None:
    plan = JobPlan(name="half", init_containers=(), main=ContainerSpec(name="train", image=image, command=["true"]))
    own_cluster.apply(TrainJobBackend(BackendOptions(namespace=namespace)).render(plan).reveal()[0])
    assert left(own_cluster, namespace, "half", ALL) == ["TrainingRuntime/half"]
    client.delete_job("half")
    assert left(own_cluster, namespace, "half", ALL) == []
    with pytest.raises(JobError, match="There is no job 'half'"):
        client.delete_job("half")


def test_a_user_with_its_role_gets_a_trainjob_without_asking_for_one(
    own_cluster: Cluster, namespace: str, image: str, volumes
) -> None:
    folder = volumes()
    client = client_in(own_cluster, namespace, "kubernetes", role="trainjob")
    job = client.create_job("chosen", base_image=image, command=command(WAITS))
    assert left(own_cluster, namespace, "chosen", "pytorchjobs,trainjobs") == ["TrainJob/chosen"]
    job.wait([JobState.RUNNING], timeout=180)
    another = client_in(own_cluster, namespace, "kubernetes", role="trainjob")
    assert [found.name for found in another.list_jobs()] == ["chosen"]
    (folder / "output" / "go").touch()
    assert another.get_job("chosen").wait(timeout=120).state is JobState.SUCCEEDED
    another.delete_job("chosen")
    eventually(lambda: left(own_cluster, namespace, "chosen", ALL), [])
