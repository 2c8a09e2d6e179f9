"""Whole manifests, as the public client renders them, compared with the files in tests/golden/.

After a change that is meant, write them anew and read the difference:

    TUNEWRIGHT_REGENERATE=1 pytest tests/test_golden_manifests.py; git diff tests/golden

Each is also checked against the schema of the real PyTorchJob (tests/schemas/) and those of Kubernetes' own kinds, without
unknown fields, and for what schemas cannot say: that names refer to something.
"""

import copy
import functools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tunewright import Manifests, SecretRef, SecretValue, TrainingClient
from tunewright.cli import jobfile
from tunewright.plan.plan import JOB_FILE, RUNNER_FILE
from tunewright.runner.source import runner_source

HERE = Path(__file__).parent
REGENERATE = bool(os.environ.get("TUNEWRIGHT_REGENERATE"))
KUBERNETES = "1.34"

# Long enough to be taken for tokens, so that they are refused wherever they would show.
HF_TOKEN = "hf_" + "golden" * 6
S3_KEY_ID, S3_SECRET = "AKIA" + "GOLDEN0123456789", "golden/secret/access/key/of/a/test"
WANDB_KEY, ACME_TOKEN = "golden-wandb-key", "golden-acme-token"
LITERALS = (HF_TOKEN, S3_KEY_ID, S3_SECRET, WANDB_KEY, ACME_TOKEN)

CPU = {"cpu": 4, "memory": "16Gi"}
GPU = {"gpu": 8, "cpu": 64, "memory": "512Gi"}

ACME = """
import attrs
from tunewright import DatasetProvider, ModelProvider, SecretRef, hookimpl, secret
from tunewright.providers.outputs import OutputTarget

@attrs.frozen(kw_only=True)
class AcmeDataset(DatasetProvider):
    extra = "fetch"
    token: str | SecretRef | None = secret(env="ACME_TOKEN")

    def download_dataset(self, target): ...

@attrs.frozen(kw_only=True)
class AcmeModel(OutputTarget, ModelProvider):
    token: str | SecretRef | None = secret(env="ACME_TOKEN")

    def download_model(self, target): ...

    def store(self): ...

@hookimpl
def tunewright_dataset_provider():
    return AcmeDataset

@hookimpl
def tunewright_model_provider():
    return AcmeModel
"""


def fine_tuning(client: TrainingClient, name: str, **options) -> Manifests:
    """`train()` of a small model on the Hub; a case says what differs."""
    given = {"model": "hf://org/model@v1", "dataset": "s3://bucket/train", "trainer": "hf", "resources_per_worker": CPU}
    return client.train(name, dry_run=True, **given | options)


def hello(who: str, times: int = 1) -> None:
    """What a function job runs."""
    import os

    for _ in range(times):
        print(f"hello {who} $HOME `date` \\ from rank {os.environ['RANK']}")


def one_worker(client):
    return fine_tuning(client, "one-worker")


def three_workers_read_write_many(client):
    storage = {"size": "200Gi", "storage_class": "nfs", "access_modes": ["ReadWriteMany"]}
    return fine_tuning(client, "shared", num_workers=3, storage=storage)


def three_workers_ephemeral(client):
    storage = {"size": "100Gi", "access_modes": ["ReadWriteOnce"]}
    output = {"provider": "acme", "uri": "acme://results/ephemeral", "token": ACME_TOKEN}
    return fine_tuning(client, "ephemeral", num_workers=3, storage=storage, output=output)


def read_only_claim(client):
    storage = {"size": "20Gi", "claim": "prepared", "key": "llama", "access_modes": ["ReadOnlyMany"]}
    return fine_tuning(client, "read-only", storage=storage)


def existing_claim(client):
    storage = {"claim": "models", "key": "auto", "access_modes": ["ReadWriteMany"]}
    return fine_tuning(client, "existing", num_workers=2, storage=storage)


def sources_on_one_claim(client):
    return fine_tuning(client, "mounted", model="pvc://data/llama", dataset="pvc://data/chats/v1")


def secrets_literal(client):
    return fine_tuning(
        client,
        "literal",
        model={"provider": "hf", "uri": "hf://org/gated", "access_token": HF_TOKEN},
        dataset={
            "provider": "s3",
            "uri": "s3://bucket/train",
            "access_key_id": S3_KEY_ID,
            "secret_access_key": S3_SECRET,
        },
        env={"WANDB_API_KEY": SecretValue(WANDB_KEY)},
    )


def secrets_by_reference(client):
    return fine_tuning(
        client,
        "reference",
        model={"provider": "hf", "uri": "hf://org/gated", "access_token": SecretRef(name="hub", key="token")},
        dataset={
            "provider": "s3",
            "uri": "s3://bucket/train",
            "access_key_id": SecretRef(name="aws", key="id"),
            "secret_access_key": SecretRef(name="aws", key="secret"),
        },
        env={"WANDB_API_KEY": SecretRef(name="wandb", key="key")},
    )


def mixture(client):
    datasets = [
        {"uri": "s3://bucket/tickets", "weight": 2, "name": "tickets", "data": {"format": "chat"}},
        {"uri": "hf://datasets/org/chat@v2", "weight": 1.5},
        {"provider": "pvc", "uri": "pvc://data/manuals", "weight": 0.5, "data": {"format": "text"}, "repeat": False},
        {"uri": "s3://bucket/tickets", "weight": 0.5, "name": "old", "data": {"train_split": "old"}},
    ]
    return fine_tuning(client, "mixture", dataset=datasets)


def gpus_and_eval_dataset(client):
    return fine_tuning(
        client,
        "gpus",
        eval_dataset="s3://bucket/validation",
        resources_per_worker={**GPU, "rdma/hca": 1, "requests": {"cpu": 32}},
        num_procs_per_worker="auto",
    )


def adapter(client):
    source = {
        "provider": "s3",
        "uri": "s3://bucket/first/model",
        "access_key_id": S3_KEY_ID,
        "secret_access_key": S3_SECRET,
    }
    model = {"provider": "hf", "uri": "hf://org/model@v1", "access_token": HF_TOKEN}
    trainer = {"provider": "hf", "lora_config": {}}
    return fine_tuning(client, "adapter", model=model, adapter=source, trainer=trainer)


def elastic(client):
    storage = {"access_modes": ["ReadWriteMany"]}
    return fine_tuning(client, "elastic", num_workers=2, elastic=(1, 3), storage=storage)


def queue_and_scheduling(client):
    return fine_tuning(
        client,
        "scheduled",
        num_workers=2,
        storage={"access_modes": ["ReadWriteMany"]},
        queue="team-a",
        priority_class="high",
        node_selector={"gpu": "h100"},
        tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        affinity={
            "podAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "rack", "labelSelector": {"matchLabels": {"team": "a"}}}
                ]
            }
        },
        runtime_class="nvidia",
        scheduling_policy={"minAvailable": 2, "scheduleTimeoutSeconds": 300},
        service_account="trainer",
        image_pull_secrets=["registry"],
        labels={"team": "a"},
        annotations={"example.com/ticket": "ML-7"},
    )


def topology_spread(client):
    spread = {
        "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/rack",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app.kubernetes.io/instance": "spread"}},
    }
    return fine_tuning(
        client,
        "spread",
        num_workers=2,
        storage={"access_modes": ["ReadWriteMany"]},
        topology_spread_constraints=[spread],
    )


def host_network(client):
    return fine_tuning(client, "rdma", resources_per_worker={**GPU, "rdma/hca": 1}, host_network=True)


def sizes(client):
    disk = {"ephemeral-storage": "40Gi", "requests": {"ephemeral-storage": "10Gi"}}
    return fine_tuning(client, "sizes", resources_per_worker={**CPU, **disk}, shm_size="8Gi", tmp_size="20Gi")


def pod_overrides(client):
    patch = {
        "metadata": {"annotations": {"sidecar.istio.io/inject": "false"}},
        "spec": {
            "containers": [
                {
                    "name": "pytorch",
                    "env": [{"name": "NCCL_DEBUG", "value": "INFO"}, {"name": "HF_HOME", "value": "/cache/hf"}],
                    "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
                    "securityContext": {"capabilities": {"add": ["IPC_LOCK"]}},
                },
                {"name": "metrics", "image": "registry.example/metrics:1.2", "resources": {"limits": {"cpu": "100m"}}},
            ],
            "initContainers": [
                {"name": "check", "resources": {"limits": {"memory": "4Gi"}, "requests": {"memory": "4Gi"}}}
            ],
            "volumes": [
                {"name": "cache", "hostPath": {"path": "/mnt/cache"}},
                {"name": "shm", "emptyDir": {"sizeLimit": "8Gi"}},
            ],
            "securityContext": {"fsGroupChangePolicy": None},
            "hostNetwork": True,
            "dnsPolicy": "ClusterFirstWithHostNet",
        },
    }
    return fine_tuning(client, "patched", pod_overrides=patch)


def lifecycle(client):
    env = {"TUNEWRIGHT_GRACE": "120", "PYTHONPATH": "/opt/extra"}
    life = {"ttl": 3600, "deadline": 86400, "suspend": True, "max_restarts": 0}
    return fine_tuning(client, "lifecycle", output="pvc://results/tuned", env=env, **life)


def plugin_that_is_installed(client):
    dataset = {"provider": "acme", "uri": "acme://sales", "token": SecretRef(name="acme", key="token")}
    return fine_tuning(client, "installed", dataset=dataset)


def function(client):
    return client.create_job(
        "function",
        train_func=hello,
        parameters={"who": "world", "times": 2},
        num_procs_per_worker=2,
        resources_per_worker=CPU,
        dry_run=True,
    )


def script_with_its_folder(client):
    folder = HERE / "golden" / "folder"
    return client.create_job("folder", script="train.py", script_folder=folder, dry_run=True)


def script(client):
    return client.create_job(
        "script",
        script=HERE / "golden" / "script.py",
        args=["--lr", 1e-3],
        packages_to_install=["einops==0.8.1"],
        pip_index_url="https://pypi.example/simple",
        base_image="registry.example/torch:2.15",
        num_workers=2,
        storage={"access_modes": ["ReadWriteMany"]},
        init_env={"PIP_TIMEOUT": "60"},
        env={"WANDB_API_KEY": SecretValue(WANDB_KEY)},
        dry_run=True,
    )


def image_with_command(client):
    return client.create_job(
        "starts-itself",
        base_image="registry.example/megatron:1",
        command=["./start.sh"],
        args=["--steps", 10],
        num_workers=3,
        num_procs_per_worker=8,
        resources_per_worker=GPU,
        storage={"claim": "shared", "access_modes": ["ReadWriteMany"]},
        dry_run=True,
    )


def image_alone(client):
    return TrainingClient("kubernetes", namespace="team-a").create_job("image", base_image="org/image:1", dry_run=True)


def whole_job(client):
    return TrainingClient("kubernetes", namespace="team-a").create_job(
        manifest=HERE / "golden" / "given" / "pytorchjob.yaml", dry_run=True
    )


CASES: list[Callable[[TrainingClient], Manifests]] = [
    one_worker,
    three_workers_read_write_many,
    three_workers_ephemeral,
    read_only_claim,
    existing_claim,
    sources_on_one_claim,
    mixture,
    secrets_literal,
    secrets_by_reference,
    gpus_and_eval_dataset,
    adapter,
    elastic,
    queue_and_scheduling,
    topology_spread,
    host_network,
    sizes,
    pod_overrides,
    lifecycle,
    plugin_that_is_installed,
    function,
    script,
    script_with_its_folder,
    image_with_command,
    image_alone,
    whole_job,
]
CODE_CASES = (function, script, script_with_its_folder, image_with_command, image_alone, whole_job)
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingClient]:
    """A client with a third-party plugin beside the real ones."""
    site = tmp_path_factory.mktemp("site")
    info = site / "tunewright_acme-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tunewright-acme\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text("[tunewright.v1]\nacme = tunewright_acme\n")
    (site / "tunewright_acme.py").write_text(ACME)
    sys.path.insert(0, str(site))
    try:
        yield TrainingClient("kubernetes")
    finally:
        sys.path.remove(str(site))
        sys.modules.pop("tunewright_acme", None)


def without_runner(manifests: Manifests) -> Manifests:
    """The text of `run` is a file of its own in the repository, with tests of its own."""
    documents = copy.deepcopy(list(manifests))
    for document in documents:
        if document["kind"] == "ConfigMap" and RUNNER_FILE in document["data"]:
            assert document["data"][RUNNER_FILE] == runner_source()
            document["data"][RUNNER_FILE] = "(tunewright.runner)"
    return Manifests(documents)


@each_case
def test_manifests_are_as_recorded(client: TrainingClient, case) -> None:
    text = without_runner(case(client)).to_yaml()
    golden = HERE / "golden" / f"{case.__name__}.yaml"
    if REGENERATE:
        golden.write_text(text, "utf-8")
    assert text == golden.read_text("utf-8"), "TUNEWRIGHT_REGENERATE=1 writes the golden files anew"


def test_every_golden_file_has_a_case() -> None:
    assert {path.stem for path in (HERE / "golden").glob("*.yaml")} == {case.__name__ for case in CASES}


@pytest.mark.parametrize("case", [case for case in CASES if case not in CODE_CASES], ids=lambda case: case.__name__)
def test_the_job_file_in_a_plan_makes_the_same_plan(client, case, tmp_path, monkeypatch) -> None:
    secrets = {"HF_TOKEN": HF_TOKEN, "AWS_ACCESS_KEY_ID": S3_KEY_ID, "AWS_SECRET_ACCESS_KEY": S3_SECRET}
    for name, value in {**secrets, "WANDB_API_KEY": WANDB_KEY, "ACME_TOKEN": ACME_TOKEN}.items():
        monkeypatch.setenv(name, value)
    manifests = case(client)
    (config,) = (document for document in manifests if document["kind"] == "ConfigMap")
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(json.loads(config["data"][JOB_FILE]), sort_keys=False), "utf-8")
    keywords = jobfile.read(file).keywords
    assert client.train(dry_run=True, **keywords).to_yaml() == manifests.to_yaml()


@functools.cache
def pytorchjob_schema() -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(strict(json.loads((HERE / "schemas" / "pytorchjob-1.9.4.json").read_text())))


def strict(schema: object) -> object:
    """The schema, without room for fields that it does not know: the API server would silently drop them."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {k: strict(v) for k, v in schema.items()}
    is_object = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if is_object and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed["additionalProperties"] = False
    return closed


def template_of(job: dict) -> dict:
    templates = [replica["template"] for replica in job["spec"]["pytorchReplicaSpecs"].values()]
    assert all(template == templates[0] for template in templates)
    return templates[0]


@each_case
def test_the_job_fits_the_real_schema(client: TrainingClient, case) -> None:
    job = case(client)[0]
    assert not [f"{error.json_path}: {error.message}" for error in pytorchjob_schema().iter_errors(job)]


@each_case
def test_kubernetes_own_kinds_fit_their_schemas(client: TrainingClient, case) -> None:
    job, *others = case(client)
    template = template_of(job)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]}
    for document in (pod, *others):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize(
    "broken",
    [
        lambda job: job["spec"].update(nprocPerNod="1"),
        lambda job: job["spec"].update(nprocPerNode=1),
        lambda job: template_of(job)["spec"].update(containerz=[]),
        lambda job: template_of(job)["spec"]["volumes"][0].update(emptyDirr={}),
        lambda job: job["spec"]["runPolicy"].update(suspend="yes"),
        lambda job: template_of(job)["spec"]["containers"][0]["resources"]["limits"].update(cpu=0.5),
    ],
)
def test_the_schema_would_find_a_mistake(client: TrainingClient, broken) -> None:
    job = one_worker(client)[0]
    broken(job)
    assert list(pytorchjob_schema().iter_errors(job))


def containers_of(template: dict) -> list[dict]:
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


@each_case
def test_every_name_refers_to_something(client: TrainingClient, case) -> None:
    job, *others = case(client)
    template = template_of(job)
    made = {(d["kind"], d["metadata"]["name"]): d for d in others}
    existing_claims, existing_secrets = (
        {"prepared", "models", "data", "shared", "results"},
        {"hub", "aws", "wandb", "acme"},
    )
    names = [c["name"] for c in containers_of(template)]
    assert len(names) == len(set(names))
    assert "pytorch" in names
    volumes = {v["name"]: v for v in template["spec"]["volumes"]}
    assert len(volumes) == len(template["spec"]["volumes"])
    claims = [v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v]
    assert len(claims) == len(set(claims)), "a kubelet waits for ever for the second volume of a claim"
    assert all(("PersistentVolumeClaim", claim) in made or claim in existing_claims for claim in claims)
    assert all(("ConfigMap", v["configMap"]["name"]) in made for v in volumes.values() if "configMap" in v)
    mounted = {m["name"] for c in containers_of(template) for m in c.get("volumeMounts", [])}
    assert mounted == set(volumes)
    for container in containers_of(template):
        env = {e["name"]: e for e in container.get("env", [])}
        assert len(env) == len(container.get("env", []))
        assert set(re.findall(r"\$\((\w+)\)", " ".join(container.get("command", [])))) <= set(env)
        for reference in (
            e["valueFrom"]["secretKeyRef"] for e in env.values() if "secretKeyRef" in e.get("valueFrom", {})
        ):
            secret = made.get(("Secret", reference["name"]))
            assert reference["key"] in secret["stringData"] if secret else reference["name"] in existing_secrets
    objects = job["metadata"]["annotations"].get("tunewright.dev/objects", "")
    assert objects == ",".join(f"{d['kind']}/{d['metadata']['name']}" for d in others)


@each_case
def test_the_yaml_says_what_the_documents_say(client: TrainingClient, case) -> None:
    manifests = case(client)
    assert list(yaml.safe_load_all(manifests.to_yaml())) == list(manifests)


@each_case
def test_no_literal_secret_is_in_the_yaml_nor_in_a_repr(client: TrainingClient, case) -> None:
    manifests = case(client)
    for text in (manifests.to_yaml(), repr(manifests), json.dumps(list(manifests))):
        assert not [literal for literal in LITERALS if literal in text]


def test_literal_secrets_are_where_submit_needs_them(client: TrainingClient) -> None:
    revealed = json.dumps(secrets_literal(client).reveal() + three_workers_ephemeral(client).reveal())
    assert all(literal in revealed for literal in LITERALS)


@each_case
def test_equal_requests_give_equal_bytes(client: TrainingClient, case) -> None:
    assert case(client).to_yaml() == case(TrainingClient("kubernetes")).to_yaml()
