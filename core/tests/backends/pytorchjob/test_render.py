"""The properties of rendered manifests, one by one; tests/test_golden_manifests.py has whole ones."""

import ast
import copy
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from tunewright import RequestError, SecretRef, SecretValue, TrainingClient
from tunewright.backends.base import BackendOptions
from tunewright.backends.kubernetes import names
from tunewright.backends.pytorchjob import PyTorchJobBackend
from tunewright.backends.pytorchjob.kind import PyTorchJob
from tunewright.plan.plan import (
    ContainerSpec,
    EmptyDir,
    EphemeralClaim,
    ExistingClaim,
    JobPlan,
    Mount,
    NewClaim,
    Volume,
)
from tunewright.plan.policies import RunPolicy, Scheduling
from tunewright.plan.resources import Resources

LITERALS = {"model": "model-literal", "dataset": "dataset-literal", "trainer": "trainer-literal", "env": "env-literal"}
SHARED = {"access_modes": ["ReadWriteMany"]}


@pytest.fixture
def render(site) -> Callable[..., list[dict]]:
    """Manifests of a job whose model, dataset and trainer are the plugin acme's, each with a literal secret."""
    site.providers("acme")
    client = TrainingClient("kubernetes")

    def render(**options: object) -> list[dict]:
        given = {
            "model": {"provider": "acme", "uri": "acme://m", "token": LITERALS["model"]},
            "dataset": {"provider": "acme", "uri": "acme://d", "token": LITERALS["dataset"]},
            "trainer": {"provider": "acme", "key": LITERALS["trainer"]},
            "env": {"OWN": SecretValue(LITERALS["env"])},
            **options,
        }
        return client.train("sft", dry_run=True, **given)

    return render


def plan(**changes: object) -> JobPlan:
    main = ContainerSpec(name="train", image="image:1", command=("train",))
    return JobPlan(**{"name": "job", "init_containers": (), "main": main, **changes})


def rendered(**changes: object) -> list[dict]:
    return PyTorchJobBackend(options=BackendOptions()).render(plan(**changes))


def template(manifests: list[dict]) -> dict:
    (replica, *_) = manifests[0]["spec"]["pytorchReplicaSpecs"].values()
    return replica["template"]


def containers(manifests: list[dict]) -> dict[str, dict]:
    spec = template(manifests)["spec"]
    return {c["name"]: c for c in [*spec.get("initContainers", []), *spec["containers"]]}


def env(container: dict) -> dict[str, object]:
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in container["env"]}


@pytest.mark.parametrize("uri", ["file:///tmp/out", "FILE:///data", "file:///workspace/output/x", "file:///mnt/nfs-2"])
@pytest.mark.parametrize("workers", [1, 2])
def test_an_output_that_goes_with_the_pod_is_refused(render, uri: str, workers: int) -> None:
    mounted = {
        "containers": [{"name": "pytorch", "volumeMounts": [{"name": "nfs", "mountPath": "/mnt/nfs"}]}],
        "volumes": [{"name": "nfs", "persistentVolumeClaim": {"claimName": "results"}}],
    }
    options = {"num_workers": workers, "pod_overrides": {"spec": mounted}, "storage": {"ephemeral": True}}
    render(output="file:///mnt/nfs/out", **options)
    with pytest.raises(
        RequestError, match=r"output='.*': is a folder of the container, which is deleted with its pod\. Write s3"
    ):
        render(output=uri, **options)


def test_documents_come_in_the_order_in_which_they_are_created(render) -> None:
    assert [d["kind"] for d in render()] == ["PyTorchJob", "Secret", "ConfigMap", "PersistentVolumeClaim"]


def test_without_literal_secrets_there_is_no_secret(render) -> None:
    plain = {"model": "acme://m", "dataset": "acme://d", "trainer": "acme", "env": {}}
    assert "Secret" not in [d["kind"] for d in render(**plain)]


def test_each_container_gets_its_own_secrets_and_no_others(render) -> None:
    found = {
        name: sorted(
            e["valueFrom"]["secretKeyRef"]["key"] for e in c["env"] if "secretKeyRef" in e.get("valueFrom", {})
        )
        for name, c in containers(render()).items()
    }
    assert found == {
        "install-plugins": [],
        "fetch-model": ["fetch-model.ACME_TOKEN"],
        "fetch-dataset": ["fetch-dataset.ACME_TOKEN"],
        "check": ["check.ACME_KEY", "check.OWN"],
        "pytorch": ["train.ACME_KEY", "train.OWN"],
    }


def test_the_secret_holds_the_literals_and_shows_none_of_them(render) -> None:
    manifests = render()
    (revealed,) = (d for d in manifests.reveal() if d["kind"] == "Secret")
    assert revealed["stringData"]["fetch-model.ACME_TOKEN"] == LITERALS["model"]
    assert set(manifests[1]["stringData"].values()) == {"<redacted>"}
    assert not [s for s in LITERALS.values() if s in manifests.to_yaml() or s in repr(manifests)]


def test_no_container_takes_a_whole_secret_or_all_of_the_environment(render) -> None:
    assert not [name for name, c in containers(render()).items() if "envFrom" in c]
    assert not [v for v in template(render())["spec"]["volumes"] if "secret" in v or "projected" in v]


def test_a_reference_stays_one(render) -> None:
    manifests = render(env={"OWN": SecretRef(name="mine", key="k")})
    assert env(containers(manifests)["pytorch"])["OWN"] == {"secretKeyRef": {"name": "mine", "key": "k"}}


def test_every_container_is_hardened(render) -> None:
    manifests = render(num_workers=3, storage=SHARED, resources_per_worker={"gpu": 8, "cpu": 8})
    for container in containers(manifests).values():
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
    spec = template(manifests)["spec"]
    pod = spec["securityContext"]
    assert (pod["runAsNonRoot"], pod["runAsUser"], pod["runAsGroup"], pod["fsGroup"]) == (True, 1000, 1000, 1000)
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False


def test_the_images_that_tunewright_chooses_are_pinned(render) -> None:
    for gpus in (0, 1):
        for container in containers(render(resources_per_worker={"gpu": gpus})).values():
            tag = container["image"].rpartition("/")[2].partition(":")[2]
            assert re.fullmatch(r"\d+\.\d+\.\d+", tag)


def test_every_container_can_write_where_programs_do(render) -> None:
    for container in containers(render()).values():
        writable = {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")}
        assert {"/tmp", "/dev/shm", "/run/tunewright"} <= writable
        variables = env(container)
        assert {variables[k] for k in ("HOME", "TMPDIR")} == {"/tmp"}
        assert (variables["HF_HOME"], variables["USER"]) == ("/tmp/hf", "tunewright")


def test_the_main_container_cannot_change_its_inputs_nor_its_configuration(render) -> None:
    for name in ("check", "pytorch"):
        mounts = {m["mountPath"]: m.get("readOnly", False) for m in containers(render())[name]["volumeMounts"]}
        expected = dict.fromkeys(("/workspace/model", "/workspace/dataset", "/etc/tunewright"), True)
        assert mounts.items() >= (expected | {"/opt/tunewright/packages": True, "/workspace/output": False}).items()


def test_packages_are_written_by_the_installing_step_alone(render) -> None:
    mounts = {
        name: [m.get("readOnly", False) for m in c["volumeMounts"] if m["name"] == "packages"]
        for name, c in containers(render()).items()
    }
    assert {name: ro for name, ro in mounts.items() if ro != [True]} == {"install-plugins": [False]}
    assert env(containers(render())["pytorch"])["PYTHONPATH"] == "/opt/tunewright/packages"


def test_where_nothing_is_installed_there_is_no_folder_for_it() -> None:
    assert "packages" not in [v["name"] for v in template(rendered())["spec"]["volumes"]]
    main = ContainerSpec(name="train", image="image:1", command=("echo", "$$(TUNEWRIGHT_PACKAGES)"))
    assert "packages" not in [v["name"] for v in template(rendered(main=main))["spec"]["volumes"]]


def test_the_users_python_path_comes_first() -> None:
    install = ContainerSpec(name="install", image="image:1", command=("pip", "--target=$(TUNEWRIGHT_PACKAGES)"))
    main = ContainerSpec(name="train", image="image:1", env={"PYTHONPATH": "/own"})
    found = containers(rendered(init_containers=(install,), main=main))
    assert env(found["pytorch"])["PYTHONPATH"] == "/own:/opt/tunewright/packages"


def test_a_worker_is_named_like_its_pod(render) -> None:
    # Unique among jobs that share a claim, and the same when the pod is created again.
    for container in containers(render()).values():
        assert env(container)["TUNEWRIGHT_WORKER"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_the_users_variables_win_over_defaults_and_never_over_paths() -> None:
    own = {"HOME": "/home/me", "TUNEWRIGHT_WORKSPACE": "/elsewhere", "TUNEWRIGHT_WORKER": "me"}
    variables = env(containers(rendered(main=ContainerSpec(name="train", image="i:1", env=own)))["pytorch"])
    assert variables["HOME"] == "/home/me"
    assert variables["TUNEWRIGHT_WORKSPACE"] == "/workspace"
    assert variables["TUNEWRIGHT_WORKER"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_the_value_of_a_variable_is_meant_to_the_letter() -> None:
    # Kubernetes replaces $(NAME) and makes one $ of two.
    main = ContainerSpec(name="train", image="i:1", env={"PATTERN": "$(HOME) costs $$5"})
    assert env(containers(rendered(main=main))["pytorch"])["PATTERN"] == "$$(HOME) costs $$$$5"


def test_the_command_is_kubernetes_own() -> None:
    command = ("python3", "$(TUNEWRIGHT_CONFIG)/run.py", "$$(literal)")
    main = ContainerSpec(name="train", image="i:1", command=command)
    assert containers(rendered(main=main))["pytorch"]["command"] == list(command)


def test_an_image_alone_keeps_its_own_entry_point() -> None:
    assert "command" not in containers(rendered(main=ContainerSpec(name="train", image="i:1")))["pytorch"]


def test_the_main_container_has_the_name_that_the_operator_wants_and_is_found_again() -> None:
    job = plan(init_containers=(ContainerSpec(name="check", image="i:1"),))
    found = [PyTorchJob().container_name(job, c) for c in job.containers]
    assert found == ["check", "pytorch"]
    assert [PyTorchJob().step_name(name) for name in found] == ["check", "train"]


def test_torchrun_jobs_are_workers_alone_with_a_rendezvous() -> None:
    spec = rendered(num_workers=4, num_procs_per_worker=8)[0]["spec"]
    assert list(spec["pytorchReplicaSpecs"]) == ["Worker"]
    assert spec["pytorchReplicaSpecs"]["Worker"]["replicas"] == 4
    assert spec["nprocPerNode"] == "8"
    policy = spec["elasticPolicy"]
    assert (policy["minReplicas"], policy["maxReplicas"], policy["rdzvBackend"]) == (4, 4, "c10d")
    assert "maxRestarts" not in policy


def test_elastic_jobs_start_with_num_workers_between_the_bounds() -> None:
    spec = rendered(num_workers=2, elastic=(1, 3))[0]["spec"]
    assert (spec["elasticPolicy"]["minReplicas"], spec["elasticPolicy"]["maxReplicas"]) == (1, 3)
    assert spec["pytorchReplicaSpecs"]["Worker"]["replicas"] == 2


@pytest.mark.parametrize(("workers", "replicas"), [(1, {"Master": 1}), (3, {"Master": 1, "Worker": 2})])
def test_an_image_that_starts_itself_has_a_master(workers: int, replicas: dict[str, int]) -> None:
    spec = rendered(num_workers=workers, self_starting=True)[0]["spec"]
    assert {role: r["replicas"] for role, r in spec["pytorchReplicaSpecs"].items()} == replicas
    assert "elasticPolicy" not in spec


def test_torch_knows_the_names_of_the_rendezvous_configuration() -> None:
    # Its source is read, because importing torch takes seconds; it ignores names that it does not know.
    torch = Path(importlib.util.find_spec("torch").origin).parent / "distributed/elastic/rendezvous"
    backend, handler = ((torch / f"{m}.py").read_text() for m in ("c10d_rendezvous_backend", "dynamic_rendezvous"))
    assert 'get_as_int("read_timeout", 60)' in backend
    assert "| join_timeout " in handler
    pairs = rendered()[0]["spec"]["elasticPolicy"]["rdzvConf"]
    assert {p["key"]: p["value"] for p in pairs} == {"join_timeout": "900", "read_timeout": "900"}


def test_exit_codes_decide_and_the_operator_does_not_count() -> None:
    spec = rendered()[0]["spec"]
    assert spec["pytorchReplicaSpecs"]["Worker"]["restartPolicy"] == "ExitCode"
    assert spec["runPolicy"] == {"cleanPodPolicy": "Running"}


def test_the_life_of_a_job_is_in_its_run_policy() -> None:
    policy = rendered(
        run_policy=RunPolicy(ttl=0, deadline=60, suspend=True),
        scheduling=Scheduling(scheduling_policy={"minAvailable": 2}),
    )[0]["spec"]
    assert policy["runPolicy"] == {
        "cleanPodPolicy": "Running",
        "ttlSecondsAfterFinished": 0,
        "activeDeadlineSeconds": 60,
        "suspend": True,
        "schedulingPolicy": {"minAvailable": 2},
    }


def test_the_pod_outlives_the_grace_of_its_command() -> None:
    assert template(rendered())["spec"]["terminationGracePeriodSeconds"] == 30
    main = ContainerSpec(name="train", image="i:1", env={"TUNEWRIGHT_GRACE": "300"})
    found = rendered(main=main)
    assert template(found)["spec"]["terminationGracePeriodSeconds"] > 300
    assert env(containers(found)["pytorch"])["TUNEWRIGHT_GRACE"] == "300"


def test_labels_and_annotations_are_on_the_job_and_its_pods() -> None:
    found = rendered(labels={"team": "a"}, annotations={"example.com/x": "y"}, scheduling=Scheduling(queue="q"))
    for metadata in (found[0]["metadata"], template(found)["metadata"]):
        assert metadata["labels"].items() >= {"team": "a", "app.kubernetes.io/managed-by": "tunewright"}.items()
        assert metadata["annotations"]["example.com/x"] == "y"
    assert found[0]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "q"
    assert "kueue.x-k8s.io/queue-name" not in template(found)["metadata"]["labels"]


def test_the_namespace_is_on_every_object_or_on_none() -> None:
    backend = PyTorchJobBackend(options=BackendOptions(namespace="team-a"))
    assert {d["metadata"].get("namespace") for d in backend.render(plan())} == {"team-a"}
    assert {d["metadata"].get("namespace") for d in rendered()} == {None}


def test_the_job_says_what_belongs_to_it_and_where_its_output_is(render) -> None:
    annotations = render()[0]["metadata"]["annotations"]
    assert annotations["tunewright.dev/output"] == "pvc://sft-workspace/output"
    expected = "Secret/sft-secrets,ConfigMap/sft-config,PersistentVolumeClaim/sft-workspace"
    assert annotations["tunewright.dev/objects"] == expected
    uploaded = rendered(output="s3://bucket/result")[0]["metadata"]["annotations"]
    assert uploaded == {"tunewright.dev/output": "s3://bucket/result", "tunewright.dev/objects": "ConfigMap/job-config"}
    assert "tunewright.dev/output" not in rendered()[0]["metadata"]["annotations"]


def volume_of(source: object, **changes: object) -> dict:
    main = ContainerSpec(name="train", image="i:1", mounts=(Mount(volume="v", path="/v"),))
    found = rendered(main=main, volumes=(Volume(name="v", source=source),), **changes)
    (volume,) = (v for v in template(found)["spec"]["volumes"] if v["name"] == "v")
    return volume


def test_each_kind_of_volume_is_rendered() -> None:
    assert volume_of(EmptyDir()) == {"name": "v", "emptyDir": {}}
    assert volume_of(EmptyDir(medium="Memory", size_limit="1Gi")) == {
        "name": "v",
        "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"},
    }
    assert volume_of(NewClaim(size="1Gi")) == {"name": "v", "persistentVolumeClaim": {"claimName": "job-v"}}
    assert volume_of(ExistingClaim(claim="c"))["persistentVolumeClaim"] == {"claimName": "c"}
    assert volume_of(ExistingClaim(claim="c", read_only=True))["persistentVolumeClaim"]["readOnly"] is True
    spec = volume_of(EphemeralClaim(size="1Gi", storage_class="fast"))["ephemeral"]["volumeClaimTemplate"]["spec"]
    assert spec == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "1Gi"}},
    }


def test_a_new_claim_is_made_as_asked() -> None:
    source = NewClaim(size="7Gi", storage_class="nfs", access_modes=("ReadWriteMany",))
    (claim,) = (d for d in rendered(volumes=(Volume(name="v", source=source),)) if d["kind"] == "PersistentVolumeClaim")
    assert claim["metadata"]["name"] == "job-v"
    assert claim["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "nfs",
        "resources": {"requests": {"storage": "7Gi"}},
    }


def test_a_claim_is_one_volume_of_the_pod_however_many_mount_it() -> None:
    volumes = (
        Volume(name="a", source=ExistingClaim(claim="c", read_only=True)),
        Volume(name="b", source=ExistingClaim(claim="c")),
        Volume(name="other", source=ExistingClaim(claim="d", read_only=True)),
    )
    mounts = [Mount(volume=v.name, path=f"/{v.name}", sub_path=v.name) for v in volumes]
    found = rendered(main=ContainerSpec(name="train", image="i:1", mounts=mounts), volumes=volumes)
    claims = {
        v["name"]: v["persistentVolumeClaim"]
        for v in template(found)["spec"]["volumes"]
        if "persistentVolumeClaim" in v
    }
    assert claims == {"a": {"claimName": "c"}, "other": {"claimName": "d", "readOnly": True}}
    assert containers(found)["pytorch"]["volumeMounts"][:3] == [
        {"name": "a", "mountPath": "/a", "subPath": "a", "readOnly": True},
        {"name": "a", "mountPath": "/b", "subPath": "b"},
        {"name": "other", "mountPath": "/other", "subPath": "other", "readOnly": True},
    ]


def resources_of(container: str = "pytorch", **resources: object) -> dict:
    check = ContainerSpec(name="check", image="i:1")
    main = ContainerSpec(name="train", image="i:1", resources=Resources(**resources))
    return containers(rendered(init_containers=(check,), main=main))[container].get("resources", {})


def test_requests_equal_limits_unless_they_are_given() -> None:
    all_of_it = {"cpu": "8", "memory": "16Gi", "nvidia.com/gpu": "2", "rdma/hca": "1"}
    found = resources_of(cpu=8, memory="16Gi", gpu=2, extended={"rdma/hca": 1})
    assert found == {"limits": all_of_it, "requests": all_of_it}
    assert resources_of(cpu=8, requests={"cpu": "500m"}) == {"limits": {"cpu": "8"}, "requests": {"cpu": "500m"}}
    assert resources_of(cpu=0.5)["limits"] == {"cpu": "0.5"}
    assert resources_of() == {}


def test_steps_before_training_have_the_workers_cpu_and_memory_and_never_its_gpus() -> None:
    found = resources_of("check", cpu=8, memory="16Gi", gpu=2, extended={"rdma/hca": 1}, requests={"cpu": 2})
    assert found == {"limits": {"cpu": "8", "memory": "16Gi"}, "requests": {"cpu": "2", "memory": "16Gi"}}


def test_steps_before_training_ask_for_a_little_where_the_worker_leaves_it_open() -> None:
    assert resources_of("check") == {"requests": {"cpu": "500m", "memory": "1Gi"}}
    assert resources_of("check", memory="16Gi") == {
        "limits": {"memory": "16Gi"},
        "requests": {"memory": "16Gi", "cpu": "500m"},
    }


def test_a_step_keeps_the_resources_that_the_plan_gives_it() -> None:
    fetch = ContainerSpec(name="fetch", image="i:1", resources=Resources(memory="2Gi"))
    assert containers(rendered(init_containers=(fetch,)))["fetch"]["resources"]["limits"] == {"memory": "2Gi"}


@pytest.mark.parametrize(
    ("resources", "field"),
    [
        ({"cpu": 2, "requests": {"cpu": 3}}, r"requests'\]\['cpu"),
        ({"gpu": 2, "requests": {"nvidia.com/gpu": 1}}, "gpu"),
    ],
)
def test_requests_beyond_the_limit_are_refused(resources: dict, field: str) -> None:
    with pytest.raises(RequestError, match=field):
        resources_of(**resources)


OTHER = ContainerSpec(name="other", image="i:1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init_containers": (OTHER, OTHER)}, "'other' cannot be the name of a container"),
        ({"init_containers": (attrs.evolve(OTHER, name="pytorch"),)}, "'pytorch' cannot be"),
        ({"init_containers": (attrs.evolve(OTHER, name="init-pytorch"),)}, "'init-pytorch' cannot be"),
        ({"init_containers": (attrs.evolve(OTHER, name="Bad_Name"),)}, "'Bad_Name' cannot be"),
        ({"init_containers": (attrs.evolve(OTHER, name="x" * 64),)}, "cannot be the name of a container"),
        ({"init_containers": (attrs.evolve(OTHER, image=""),)}, "has no image"),
        ({"init_containers": (attrs.evolve(OTHER, mounts=(Mount(volume="no", path="/x"),)),)}, "mounts volume 'no'"),
        (
            {
                "main": attrs.evolve(OTHER, mounts=(Mount(volume="v", path="/tmp"),)),
                "volumes": (Volume(name="v", source=EmptyDir()),),
            },
            "has two mounts at /tmp",
        ),
        ({"volumes": (Volume(name="tmp", source=EmptyDir()),)}, "'tmp': is the name of two volumes"),
        ({"files": {"my script.py": ""}}, "'my script.py': is not a valid key of a ConfigMap"),
        ({"files": {"code/../x": ""}}, "'code/../x': is not a valid key of a ConfigMap"),
        ({"files": {f"code/{'x' * 250}": ""}}, "is not a valid key of a ConfigMap"),
        ({"files": {"big.py": "x" * 1_050_000}}, "1,050,000 bytes"),
        ({"labels": {"kueue.x-k8s.io/queue-name": "q"}}, "Give queue="),
        ({"labels": {"app.kubernetes.io/managed-by": "me"}}, "is set by Tunewright"),
        ({"self_starting": True, "elastic": (1, 2)}, "elastic=.*torchrun"),
        ({"scheduling": Scheduling(scheduling_policy={"minAvailabel": 1})}, "Did you mean 'minAvailable'"),
        ({"scheduling": Scheduling(affinity={"x": float("nan")})}, "affinity: is not JSON-serializable"),
        ({"pod_overrides": {"spec": {"x": float("nan")}}}, "pod_overrides: is not JSON-serializable"),
        ({"main": ContainerSpec(name="train", image="i:1", env={"TUNEWRIGHT_GRACE": "long"})}, "number of seconds"),
    ],
)
def test_what_cannot_run_is_refused_with_a_remedy(changes: dict, message: str) -> None:
    with pytest.raises(RequestError, match=message) as refused:
        rendered(**changes)
    assert refused.value.remedy


def test_names_that_kubernetes_derives_from_the_longest_job_name_fit() -> None:
    job = "a" * 50
    for derived in (f"{job}-worker-9999", names.config_name(job), names.secret_name(job), job):
        assert len(derived) <= 63


def test_the_callers_dicts_are_not_changed(render) -> None:
    options = {
        "env": {"A": "b"},
        "labels": {"team": "a"},
        "annotations": {"x": "y"},
        "storage": {"size": "10Gi"},
        "resources_per_worker": {"cpu": 1, "requests": {"cpu": "100m"}},
        "node_selector": {"gpu": "h100"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "scheduling_policy": {"minAvailable": 1},
        "pod_overrides": {"spec": {"containers": [{"name": "pytorch", "env": [{"name": "A", "value": "c"}]}]}},
    }
    before = copy.deepcopy(options)
    manifests = render(**options)
    for document in manifests:
        document["metadata"]["labels"]["changed"] = "yes"
    template(manifests)["spec"]["tolerations"].append({})
    assert options == before
    assert "changed" not in manifests[0]["metadata"]["labels"]


def test_a_thousand_workers_are_a_number(render) -> None:
    few, many = (render(num_workers=n, storage=SHARED) for n in (4, 1000))
    text = few.to_yaml().replace("replicas: 4", "replicas: 1000").replace("Replicas: 4", "Replicas: 1000")
    assert text.replace("value: '4'", "value: '1000'").replace('_workers":4', '_workers":1000') == many.to_yaml()


def test_rendering_needs_no_kubernetes_client_and_no_kubeconfig() -> None:
    script = """
import json, sys
from tunewright import TrainingClient
TrainingClient("kubernetes", config_file="/no/such/file").create_job("x", base_image="i:1", dry_run=True)
print(json.dumps([m for m in ("kubernetes", "yaml", "torch") if m in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_no_module_of_the_backend_imports_the_client_when_it_is_imported() -> None:
    for file in Path(sys.modules["tunewright.backends.pytorchjob"].__path__[0]).glob("*.py"):
        for node in ast.parse(file.read_text("utf-8")).body:
            imported = [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None)]
            assert not [name for name in imported if str(name).startswith("kubernetes")]
