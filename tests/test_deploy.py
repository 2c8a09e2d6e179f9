"""deploy/: what kustomize and Helm make of it are objects of Kubernetes, with the rules that deploy/rbac says.

The chart has copies of deploy/rbac, as it can only read files of its own: `python -m tests.test_deploy` writes them anew.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from tests.servers.tools import Missing, tool

from tunewright.backends.kubernetes.render import render
from tunewright.backends.trainjob import TrainJobBackend
from tunewright.plan.plan import ContainerSpec, JobPlan
from tunewright.plan.policies import Scheduling

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
RBAC, CHART, KUSTOMIZE = DEPLOY / "rbac", DEPLOY / "helm" / "tunewright", DEPLOY / "kustomize"
ROLES = ("user", "user-trainjob", "user-job", "doctor", "runtimes", "progress", "viewer")
COMPONENTS = ("cache", "network-policy", "progress", "runtime")
KUBERNETES = "1.34"

Object = dict[str, object]
Objects = dict[tuple[str, str], Object]


def role(name: str) -> Object:
    return yaml.safe_load((RBAC / f"{name}.yaml").read_text("utf-8"))


def found(text: str) -> Objects:
    """The objects by kind and name, each of which Kubernetes knows with all its fields."""
    objects: Objects = {}
    for document in filter(None, yaml.safe_load_all(text)):
        if document["kind"] == "TrainingRuntime":
            assert_base_of_jobs(document)
        else:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
        key = document["kind"], document["metadata"]["name"]
        assert key not in objects, f"{key} is there twice"
        objects[key] = document
    return objects


def assert_base_of_jobs(runtime: Object) -> None:
    """A job that names the runtime is rendered on it, and its pods are some that Kubernetes knows."""
    main = ContainerSpec(name="train", image="i:1", command=("train",))
    plan = JobPlan(name="sft", init_containers=(), main=main, scheduling=Scheduling(runtime="tunewright-torch"))
    own, _, *_ = render(TrainJobBackend.kind, plan, "team", runtime).reveal()
    pod = own["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    about = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "sft"}}
    kubernetes_validate.validate({**about, "spec": pod["spec"]}, KUBERNETES, strict=True)


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    try:
        path = tool(program)
    except Missing as missing:
        pytest.skip(str(missing))
    return subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, check=False)


def kustomized(folder: Path) -> Objects:
    done = run("kustomize", "build", folder)
    assert done.returncode == 0, done.stderr
    return found(done.stdout)


def templated(values: Mapping[str, object] | None = None) -> Objects:
    done = run("helm", "template", "mine", CHART, "-n", "team", "--kube-version", "1.34.0", *_set(values or {}))
    assert done.returncode == 0, done.stderr
    return found(done.stdout)


def _set(values: Mapping[str, object]) -> Iterator[str]:
    for name, value in values.items():
        yield from ("--set-json", f"{name}={json.dumps(value)}")


def overlay(folder: Path) -> Path:
    """As a platform team's own repository refers to ours."""
    shutil.copytree(DEPLOY, folder / "deploy")
    team = folder / "team"
    team.mkdir()
    document = {
        "namespace": "team",
        "resources": ["../deploy/kustomize/namespace"],
        "components": [f"../deploy/kustomize/components/{name}" for name in COMPONENTS],
    }
    (team / "kustomization.yaml").write_text(json.dumps(document), "utf-8")
    return team


EVERYTHING: Mapping[str, object] = {
    "doctor.create": True,
    "runtimes.create": True,
    "runtime.create": True,
    "viewer.create": True,
    "cache.create": True,
    "progress.create": True,
    "networkPolicy.create": True,
}
KEYS = {(str(role(name)["kind"]), str(role(name)["metadata"]["name"])): name for name in ROLES}


def assert_same_rules(objects: Objects) -> None:
    for (kind, name), document in objects.items():
        if kind in {"Role", "ClusterRole"}:
            assert document["rules"] == role(KEYS[kind, name])["rules"], name
        if kind.endswith("RoleBinding") and kind != "ClusterRoleBinding":
            assert ("Role", document["roleRef"]["name"]) in objects, f"{name} binds what is not there"


def test_the_charts_roles_are_those_of_rbac() -> None:
    for name in ROLES:
        copy = CHART / "files" / "rbac" / f"{name}.yaml"
        assert copy.read_text("utf-8") == (RBAC / f"{name}.yaml").read_text("utf-8"), "run python -m tests.test_deploy"


def test_the_documented_policy_is_the_deployed_one() -> None:
    page = (ROOT / "docs" / "how-to" / "restricted-clusters.md").read_text("utf-8")
    block = next(b.partition("```")[0] for b in page.split("```yaml\n")[1:] if "kind: NetworkPolicy" in b)
    assert yaml.safe_load(block) == yaml.safe_load(
        (KUSTOMIZE / "components/network-policy/policy.yaml").read_text("utf-8")
    )


@pytest.mark.slow
def test_kustomize_makes_a_namespace(tmp_path: Path) -> None:
    objects = kustomized(overlay(tmp_path))
    assert sorted(objects) == [
        ("NetworkPolicy", "tunewright-jobs"),
        ("PersistentVolumeClaim", "tunewright-cache"),
        ("Role", "tunewright-job-user"),
        ("Role", "tunewright-progress"),
        ("Role", "tunewright-trainjob-user"),
        ("Role", "tunewright-user"),
        ("RoleBinding", "tunewright-job-users"),
        ("RoleBinding", "tunewright-progress"),
        ("RoleBinding", "tunewright-trainjob-users"),
        ("RoleBinding", "tunewright-users"),
        ("ServiceAccount", "tunewright-progress"),
        ("TrainingRuntime", "tunewright-torch"),
    ]
    assert {document["metadata"]["namespace"] for document in objects.values()} == {"team"}
    assert_same_rules(objects)


@pytest.mark.slow
def test_kustomize_makes_the_roles_of_the_cluster() -> None:
    objects = kustomized(KUSTOMIZE / "cluster")
    assert sorted(objects) == [
        ("ClusterRole", "tunewright-doctor"),
        ("ClusterRole", "tunewright-runtimes"),
        ("ClusterRole", "tunewright-viewer"),
        ("ClusterRoleBinding", "tunewright-doctor"),
        ("ClusterRoleBinding", "tunewright-runtimes"),
        ("ClusterRoleBinding", "tunewright-viewers"),
    ]
    assert_same_rules(objects)


@pytest.mark.slow
def test_helm_makes_what_kustomize_makes(tmp_path: Path) -> None:
    ours = templated(EVERYTHING)
    theirs = kustomized(overlay(tmp_path)) | kustomized(KUSTOMIZE / "cluster")
    assert sorted(ours) == sorted(theirs)
    assert_same_rules(ours)
    for key, document in theirs.items():
        for part in ("spec", "roleRef", "subjects"):
            assert ours[key].get(part) == document.get(part), key
        assert ours[key]["metadata"].get("namespace") == document["metadata"].get("namespace")
        assert ours[key]["metadata"]["labels"]["app.kubernetes.io/instance"] == "mine"


@pytest.mark.slow
def test_helm_leaves_out_what_is_not_wanted() -> None:
    assert sorted(templated({"kinds": ["job"], "users": []})) == [("Role", "tunewright-job-user")]
    cache = templated({"kinds": [], "cache": {"create": True, "storageClass": "nfs", "accessModes": ["ReadWriteOnce"]}})
    assert cache["PersistentVolumeClaim", "tunewright-cache"]["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "nfs",
        "resources": {"requests": {"storage": "500Gi"}},
    }
    pod = {"nodeSelector": {"gpu": "h200"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]}
    sidecars = [{"name": "logs", "image": "registry.example/logs:1"}]
    limits = {"resources": {"limits": {"memory": "64Gi"}}}
    parts = {"create": True, "pod": pod, "container": limits, "sidecars": sidecars}
    runtime = templated({"kinds": [], "runtime": parts})["TrainingRuntime", "tunewright-torch"]
    job = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]
    assert job["spec"]["template"]["spec"] == {**pod, "containers": [{"name": "node", **limits}, *sidecars]}
    more = {"to": [{"ipBlock": {"cidr": "10.0.0.7/32"}}], "ports": [{"protocol": "TCP", "port": 9000}]}
    policy = templated({"kinds": [], "networkPolicy": {"create": True, "egress": [more]}})
    assert policy["NetworkPolicy", "tunewright-jobs"]["spec"]["egress"][-1] == more


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [{"kinds": ["mpijob"]}, {"cache.create": "yes"}, {"caches": {}}])
def test_helm_refuses_values_that_it_does_not_know(wrong: Mapping[str, object]) -> None:
    done = run("helm", "template", "mine", CHART, "--kube-version", "1.34.0", *_set(wrong))
    assert done.returncode != 0
    assert next(iter(wrong)).partition(".")[0] in done.stderr


@pytest.mark.slow
def test_helm_finds_nothing_wrong_with_the_chart() -> None:
    done = run("helm", "lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout + done.stderr


if __name__ == "__main__":
    for each in ROLES:
        shutil.copyfile(RBAC / f"{each}.yaml", CHART / "files" / "rbac" / f"{each}.yaml")
