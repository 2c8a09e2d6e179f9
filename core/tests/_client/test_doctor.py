"""`tunewright doctor`: what it says of plugins, of a job and of its sources, and how it exits."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tunewright import SecretRef, TrainingClient
from tunewright._client.doctor import diagnose
from tunewright.backends.base import Finding
from tunewright.backends.job.kind import IndexedJob
from tunewright.backends.kubernetes import doctor as cluster
from tunewright.backends.kubernetes.kind import JobKind
from tunewright.backends.pytorchjob.kind import PyTorchJob
from tunewright.cli import main

ROOT = Path(__file__).parents[3]
SOURCE = """
from contextlib import contextmanager
import attrs
from tunewright import DatasetProvider, ExitCode, FetchError, ModelProvider, SecretRef, hookimpl, secret
from tunewright.providers.snapshots import Entry, Snapshot, SnapshotSource

read = []


class Bytes:
    digests = ()

    def readinto(self, buffer):
        read.append(len(buffer))
        return len(buffer)


class Files(Snapshot):
    def __init__(self, uri):
        self.uri = uri

    def entries(self):
        if not self.uri.endswith("empty"):
            yield Entry(path="a.bin", size=0 if self.uri.endswith("hollow") else 7000)
            raise AssertionError("the first one is enough")

    @contextmanager
    def open(self, entry, start, stop):
        if self.uri.endswith("gated"):
            raise FetchError("It is gated.", remedy="Accept its terms.", code=ExitCode.NO_PERMISSION)
        yield Bytes()


@attrs.frozen(kw_only=True)
class Model(SnapshotSource, ModelProvider):
    extra = "fetch"
    token: str | SecretRef | None = secret(env="LISTED_TOKEN")

    def snapshot(self):
        if self.uri.endswith("bare"):
            import a_library_that_is_not_there
        if self.uri.endswith("away"):
            raise FetchError("It does not answer.", remedy="Wait.", code=ExitCode.UNAVAILABLE)
        return Files(self.uri)


@hookimpl
def tunewright_model_provider():
    return Model
"""


@pytest.fixture
def found(client: TrainingClient, site) -> Callable[..., Finding]:
    """What is found of a model; the dataset is of a plugin that can only be fetched as a whole."""
    site.install("tunewright-listed", {"listed": "tw_listed"}, tw_listed=SOURCE)
    client = TrainingClient("memory")  # which plugins there are is read once

    def look(what: str, **params: object) -> Finding:
        model = {"provider": "listed", "uri": f"listed://{what}", **params}
        findings = diagnose(client, lambda: client.train_request(model=model, dataset="acme://d", trainer="acme"))
        return next(f for f in findings if f.about == "model")

    return look


@pytest.mark.parametrize(
    ("what", "level", "text", "remedy"),
    [
        ("open", "ok", "listed://open is readable (a.bin, 7,000 bytes).", ""),
        ("hollow", "ok", "listed://hollow is readable (a.bin, 0 bytes).", ""),
        ("empty", "ok", "listed://empty is readable (no files).", ""),
        ("gated", "problem", "It is gated.", "Accept its terms."),
        ("away", "note", "It does not answer.", "Wait."),
        (
            "bare",
            "note",
            "listed://bare was not checked: the module a_library_that_is_not_there is not installed in this Python environment.",
            "Install it: pip install 'tunewright-listed[fetch]'",
        ),
    ],
)
def test_a_source_is_asked_for_a_byte(found, what: str, level: str, text: str, remedy: str) -> None:
    assert found(what) == Finding(about="model", level=level, text=text, remedy=remedy)
    assert sys.modules["tw_listed"].read == ([1] if what == "open" else [])


def test_a_source_whose_token_lies_in_the_cluster_is_not_asked(found) -> None:
    finding = found("gated", token=SecretRef(name="acme", key="token"))
    assert (finding.level, finding.remedy) == ("note", "")
    assert "LISTED_TOKEN is in a Secret" in finding.text


def test_a_plugin_that_is_broken_is_a_problem_and_the_others_are_named(client: TrainingClient, site) -> None:
    site.install("tunewright-sick", {"sick": "tw_sick"}, tw_sick="import nothing_of_that_name")
    findings = {finding.about: finding for finding in diagnose(TrainingClient("memory"))}
    assert findings["plugin sick"].level == "problem"
    assert "could not be loaded" in findings["plugin sick"].text
    assert "acme" in findings["plugins"].text
    assert "sick" not in findings["plugins"].text


@pytest.fixture
def doctor(client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Runs the command: exit code and standard output."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["tunewright", "doctor", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0), capsys.readouterr().out

    return run


def test_without_a_problem_it_exits_0_and_with_one_1(doctor, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("backend: memory\nmodel: acme://m\ndataset: acme://d\ntrainer: acme\n")
    code, out = doctor("job.yaml")
    assert code == 0, out
    assert "note     model: acme://m was not checked" in out
    code, out = doctor("job.yaml", "--set", "num_workers=0")
    assert code == 1
    assert "problem  job: num_workers=0: must be at least 1.\n         Give the number of pods" in out
    code, out = doctor("job.yaml", "--set", "model=./missing")
    assert (code, "does not exist" in out) == (1, True)


def test_with_json_there_is_an_object_a_line_and_nothing_else(doctor) -> None:
    code, out = doctor("--backend", "memory", "--json")
    assert code == 0
    assert [set(json.loads(line)) for line in out.splitlines()] == [{"about", "level", "text", "remedy"}]


def test_the_local_backend_needs_no_cluster(doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    code, out = doctor("--backend", "local")
    assert (code, "ok       machine: " in out) == (0, True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else ...)
    code, out = doctor("--backend", "local")
    assert code == 1
    assert (
        "The module torch is not installed in this Python environment.\n         Install it: pip install torch" in out
    )


def test_without_a_kubeconfig_the_remedy_says_what_to_do(
    doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    code, out = doctor("--backend", "kubernetes")
    assert code == 1
    assert 'set KUBECONFIG; without a cluster, use backend="local"' in out


@pytest.mark.parametrize("kind", [PyTorchJob(), IndexedJob()], ids=["PyTorchJob", "Job"])
def test_the_published_role_grants_what_is_asked_for_and_nothing_else(kind: JobKind) -> None:
    role = yaml.safe_load((ROOT / kind.role).read_text("utf-8"))
    granted = {
        f"{resource}.{group}".rstrip("."): tuple(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert granted == cluster.rights(kind)


def storage_class(name: str, **annotations: str) -> dict:
    about = {"name": name, "annotations": {k.replace("_", "/"): v for k, v in annotations.items()}}
    return {"metadata": about, "provisioner": "csi.example", "volumeBindingMode": "Immediate"}


@pytest.mark.parametrize(
    ("name", "default", "level", "says"),
    [
        (None, "fast", "ok", "'fast' (csi.example, Immediate)"),
        ("fast", None, "ok", "'fast' (csi.example, Immediate)"),
        ("", None, "ok", "''"),
        (
            None,
            None,
            "problem",
            "no default storage class, so a claim that names none waits forever. Its classes: fast",
        ),
        ("slow", "fast", "problem", "no storage class 'slow'. Its classes: fast"),
    ],
)
def test_a_claim_needs_a_class_that_is_there(name: str | None, default: str | None, level: str, says: str) -> None:
    finding = cluster._class_finding(name, default, {"fast": storage_class("fast")})
    assert (finding.level, says in finding.text) == (level, True)


def test_a_plugin_of_another_version_than_the_images_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [finding.level for finding in cluster._images(cluster.sample_plan())] == ["ok"]
    monkeypatch.setattr("tunewright.plan.images.VERSION", "9.9.9")
    (finding,) = cluster._images(cluster.sample_plan())
    assert finding.level == "problem"
    assert "tunewright-launcher" not in finding.text
    assert "tunewright==9.9.9" in finding.remedy
