"""`create_job(manifest=…)`: a PyTorchJob that the user wrote, checked, labelled, and otherwise left as it is."""

import copy
import re
from collections.abc import Callable

import kubernetes.client as kubernetes
import pytest
import yaml
from click.testing import CliRunner

from tunewright import RequestError, TrainingClient
from tunewright.cli.commands import cli

CONTAINER = {"name": "pytorch", "image": "registry/image:1", "command": ["python", "train.py"]}
OURS = {"app.kubernetes.io/managed-by": "tunewright", "app.kubernetes.io/instance": "mine"}


def described(component: str) -> dict[str, str]:
    of_all = {"app.kubernetes.io/name": "tunewright", "app.kubernetes.io/part-of": "tunewright"}
    return {**of_all, "app.kubernetes.io/component": component}


def manifest(**metadata: object) -> dict:
    """A PyTorchJob of a Master and two Workers."""

    def replica(count: int) -> dict:
        return {"replicas": count, "restartPolicy": "OnFailure", "template": {"spec": {"containers": [CONTAINER]}}}

    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": "mine", **metadata},
        "spec": {
            "nprocPerNode": "gpu",
            "runPolicy": {"cleanPodPolicy": "None"},
            "pytorchReplicaSpecs": {"Master": replica(1), "Worker": replica(2)},
        },
    }


@pytest.fixture
def rendered() -> Callable[..., dict]:
    """What would be submitted of a job."""

    def rendered(job: object, name: str | None = None, **client: str) -> dict:
        (document,) = TrainingClient("kubernetes", **client).create_job(name, manifest=job, dry_run=True)
        return document

    return rendered


def test_nothing_but_labels_is_added_and_the_users_own_is_not_changed(rendered) -> None:
    given = manifest(labels={"team": "a"}, annotations={"ticket": "7"})
    before = copy.deepcopy(given)
    found = rendered(given)
    assert found["metadata"].pop("labels") == {"team": "a", "tunewright.dev/runs": "code", **OURS, **described("job")}
    for replica in found["spec"]["pytorchReplicaSpecs"].values():
        assert replica["template"].pop("metadata") == {"labels": {**OURS, **described("worker")}}
    del before["metadata"]["labels"]
    assert found == before
    assert given == manifest(labels={"team": "a"}, annotations={"ticket": "7"})


def test_it_is_a_mapping_a_file_or_made_of_a_clients_objects(rendered, tmp_path) -> None:
    wanted = rendered(manifest())
    (tmp_path / "job.yaml").write_text("---\n" + yaml.safe_dump(manifest()))
    assert rendered(tmp_path / "job.yaml") == rendered(str(tmp_path / "job.yaml")) == wanted
    objects = manifest()
    objects["metadata"] = kubernetes.V1ObjectMeta(name="mine")
    for replica in objects["spec"]["pytorchReplicaSpecs"].values():
        spec = kubernetes.V1PodSpec(containers=[kubernetes.V1Container(**CONTAINER)])
        replica["template"] = kubernetes.V1PodTemplateSpec(spec=spec)
    assert rendered(objects) == wanted


class Model:
    """As Kubeflow's: the API's names differ from the attributes'."""

    attribute_map = {"api_version": "apiVersion", "kind": "kind", "metadata": "metadata", "spec": "spec"}  # noqa: RUF012

    def __init__(self, job: dict) -> None:
        self.api_version, self.kind, self.metadata, self.spec = job.values()


class Newer:
    """As those of newer clients."""

    def to_dict(self) -> dict:
        return manifest()


@pytest.mark.parametrize("job", [Model(manifest()), Newer()])
def test_a_whole_object_of_a_client_is_the_same(rendered, job: object) -> None:
    assert rendered(job) == rendered(manifest())


def test_the_name_is_said_once_or_generated(rendered) -> None:
    nameless = manifest()
    del nameless["metadata"]
    assert rendered(nameless, "given")["metadata"]["name"] == "given"
    assert rendered(nameless)["metadata"]["name"].startswith("job-")
    assert rendered(manifest(), "mine") == rendered(manifest())
    with pytest.raises(RequestError, match="name='other': is not 'mine', the name in the manifest"):
        rendered(manifest(), "other")
    with pytest.raises(RequestError, match="name='Bad_Name!': is not a valid Kubernetes name"):
        rendered(nameless, "Bad_Name!")


def test_the_namespace_is_the_clients(rendered) -> None:
    assert rendered(manifest(), namespace="team")["metadata"]["namespace"] == "team"
    assert rendered(manifest(namespace="team"))["metadata"]["namespace"] == "team"
    with pytest.raises(
        RequestError, match=r"is not 'mine', the client's namespace. Use TrainingClient\(namespace='team'"
    ):
        rendered(manifest(namespace="team"), namespace="mine")


def changed(path: str, value: object) -> dict:
    """The manifest with something else at a path."""
    *above, last = path.split(".")
    job = part = copy.deepcopy(manifest())
    for name in above:
        part = part[name]
    part[last] = value
    return job


@pytest.mark.parametrize(
    ("job", "says"),
    [
        (changed("kind", "MPIJob"), "job='kubeflow.org/v1 MPIJob': is not a kind of job that this backend manages"),
        (changed("apiVersion", "kubeflow.org/v2"), "job='kubeflow.org/v2 PyTorchJob': is not a kind of job"),
        (changed("metadata", "mine"), "job.metadata='mine': must be a mapping"),
        (changed("metadata.labels", ["a"]), r"job.metadata.labels=\['a'\]: must be a mapping"),
        (changed("metadata.labels", {"app.kubernetes.io/managed-by": "Helm"}), r"='Helm': is set by Tunewright"),
        (changed("spec", None), r"job.spec.pytorchReplicaSpecs=\[\]: are not the replicas of a PyTorchJob"),
        (
            changed("spec.pytorchReplicaSpecs.Chief", {}),
            "'Chief', 'Master', 'Worker'.*: are not the replicas of a PyTorchJob",
        ),
        (changed("spec.pytorchReplicaSpecs.Worker.template.spec.containers", []), "has no container named 'pytorch'"),
        (changed("spec.pytorchReplicaSpecs.Worker.template", {}), r"Worker.template.spec.containers: has no container"),
        (changed("metadata.annotations", {"key": "hf_" + "x" * 30}), "looks like a literal token"),
        (changed("spec.when", object()), "is an object, which YAML cannot represent"),
        ([manifest()], "job=.*: must be a dict"),
        ("nowhere.yaml", "job='nowhere.yaml': cannot be read"),
    ],
)
@pytest.mark.parametrize("keyword", ["manifest", "job"])
def test_what_is_no_such_job_is_refused_before_a_cluster_is_asked(
    keyword: str, job: object, says: str, monkeypatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    with pytest.raises(RequestError, match=re.sub(r"^job\b", keyword, says)) as caught:
        TrainingClient("kubernetes").create_job(**{keyword: job})
    assert re.match(rf"{keyword}\b", caught.value.field)


def test_several_documents_are_refused(rendered, tmp_path) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump_all([manifest(), {"kind": "Secret"}]))
    with pytest.raises(RequestError, match="has 2 documents, but a job is one document"):
        rendered(tmp_path / "job.yaml")


@pytest.mark.parametrize("option", [{"num_workers": 2}, {"base_image": "a:1"}, {"labels": {"a": "b"}}, {"zzz": 1}])
def test_everything_else_is_in_the_manifest(rendered, option: dict) -> None:
    name = next(iter(option))
    with pytest.raises(RequestError, match=f"^{name}: cannot be given with a manifest. Write it into the manifest"):
        TrainingClient("kubernetes").create_job(manifest=manifest(), **option)
    none = dict.fromkeys(option)
    assert TrainingClient("kubernetes").create_job(manifest=manifest(), dry_run=True, **none)[0] == rendered(manifest())


@pytest.mark.parametrize("dry_run", [True, False])
def test_this_machine_takes_none(dry_run: bool, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TUNEWRIGHT_HOME", str(tmp_path / "state"))
    with pytest.raises(
        RequestError, match=r"^manifest: .*'mine'.*, which this backend does not accept. Use backend=\"kubernetes\""
    ):
        TrainingClient("local").create_job(manifest=manifest(), dry_run=dry_run)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("keyword", ["manifest", "job"])
def test_a_job_file_may_name_one(keyword: str, tmp_path) -> None:
    (tmp_path / "whole.yaml").write_text(yaml.safe_dump(manifest()))
    (tmp_path / "job.yaml").write_text(f"{keyword}: whole.yaml\nbackend: kubernetes\nnamespace: team\n")
    done = CliRunner().invoke(cli, ["train", str(tmp_path / "job.yaml"), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert yaml.safe_load(done.stdout)["metadata"] == {
        "name": "mine",
        "labels": {"tunewright.dev/runs": "code", **OURS, **described("job")},
        "namespace": "team",
    }
