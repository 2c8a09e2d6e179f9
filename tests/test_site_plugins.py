"""The reference's example plugins, one page for each kind: each is installed, passes the conformance kit, and works."""

import hashlib
import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from click.testing import CliRunner
from tests.servers.documents import install_plugins

from tunewright import FetchError, JobError, Manifests, RequestError, SecretValue, TrainingClient, TrainRun
from tunewright.cli.commands import cli
from tunewright.errors import ExitCode
from tunewright.plugins import Registry
from tunewright.providers import newest_checkpoint

PAGES = Path(__file__).parent.parent / "docs" / "reference" / "plugins"
_FILE = re.compile(r'^```python title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
MODULES = {name: text for page in PAGES.glob("*.md") for name, text in _FILE.findall(page.read_text("utf-8"))}

POLICY = "tunewright_policy.py"

# Of the kinds whose pages show no test of their own.
KITS = """
from tunewright.testing import DatasetProviderTests, ModelProviderTests
import tunewright_acme2, tunewright_acme3, tunewright_vault

class TestAcme2(ModelProviderTests):
    name, tested_elsewhere = "acme2", "test_site_plugins.py"
    def provider(self): return tunewright_acme2.AcmeModel(uri="acme2://m", token="a-token-that-must-not-show")

class TestAcme3(ModelProviderTests):
    name, tested_elsewhere = "acme3", "test_site_plugins.py"
    def provider(self): return tunewright_acme3.AcmeModel(uri="acme3://m", token="a-token-that-must-not-show")

class TestVault(DatasetProviderTests):
    name, tested_elsewhere = "vault", "test_site_plugins.py"
    def provider(self): return tunewright_vault.VaultDataset(uri="vault://customers")
"""


class Service(http.server.BaseHTTPRequestHandler):
    """Acme's service: files in memory, listed with their digests, read, written and deleted by path."""

    files: dict[str, bytes]

    def do_GET(self) -> None:
        path, _, query = unquote(self.path).lstrip("/").partition("?")
        if self.headers.get("Authorization") != "Bearer right":
            self._answer(403)
        elif query == "list":
            found = {name.removeprefix(path): data for name, data in self.files.items() if name.startswith(path)}
            listing = [{"path": n, "size": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in found.items()]
            self._answer(200, json.dumps(listing).encode())
        else:
            self._answer(200, self.files[path]) if path in self.files else self._answer(404)

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != "Bearer right":
            self._answer(403)
            return
        whole = hashlib.sha256(data).hexdigest() == self.headers["Content-SHA256"]
        if whole:
            self.files[unquote(self.path).lstrip("/")] = data
        self._answer(201 if whole else 422)

    def do_DELETE(self) -> None:
        del self.files[unquote(self.path).lstrip("/")]
        self._answer(204)

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[tuple[str, dict[str, bytes]]]:
    """The service's address and its files."""
    handler = type("Handler", (Service,), {"files": {}})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler.files
        server.shutdown()
        thread.join()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All examples, installed; but for the one that has a say in every job."""
    others = {file: text for file, text in MODULES.items() if file != POLICY}
    install_plugins(others, tmp_path / "site", monkeypatch)
    return tmp_path / "site"


def test_every_kind_has_a_page_with_an_example() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == {
        "index", "contract", "source", "output", "trainer", "backend", "plan-modification",
    }  # fmt: skip
    hooks = re.findall(r"^def (tunewright_\w+)\(", "\n".join(MODULES.values()), re.MULTILINE)
    assert set(hooks) == {
        "tunewright_model_provider", "tunewright_dataset_provider", "tunewright_trainer_provider", "tunewright_backend",
        "tunewright_modify_plan",
    }  # fmt: skip


@pytest.mark.slow
def test_the_examples_pass_the_conformance_kit(site: Path) -> None:
    (site / "test_kits.py").write_text(KITS)
    (site / "pytest.ini").write_text("[pytest]\n")
    tests = [str(site / name) for name in ("test_acme.py", "test_wordcount.py", "test_kits.py")]
    code = f"import sys; sys.path.insert(0, {str(site)!r}); import pytest; sys.exit(pytest.main({['-q', *tests]!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=site, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 50


def test_the_smallest_source_downloads(site: Path, service: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    from tunewright_acme import AcmeDataset

    address, files = service
    files["sales.jsonl"] = b'{"text": "sold"}\n'
    source = AcmeDataset(uri="acme://sales", server=address, token="right")
    source.download_dataset(tmp_path)
    assert (tmp_path / "train.jsonl").read_bytes() == files["sales.jsonl"]
    for uri, token, code in (("lost", "right", ExitCode.NOT_FOUND), ("sales", "wrong", ExitCode.NO_PERMISSION)):
        with pytest.raises(FetchError) as refused:
            AcmeDataset(uri=f"acme://{uri}", server=address, token=token).download_dataset(tmp_path)
        assert refused.value.code is code


@pytest.mark.parametrize("name", ["acme2", "acme3"])
def test_a_source_with_the_engine_downloads(
    name: str, service: tuple[str, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, files = service
    files |= {"m/config.json": b"{}", "m/weights/1.bin": b"1" * 300_000, "other/2.bin": b"2"}
    here = {file: text.replace("https://models.acme.example", address) for file, text in MODULES.items()}
    here["acme2_snapshot.py"] = here["acme2_snapshot.py"].replace(
        "if token is not None else {}", 'if token is not None else {"Authorization": "Bearer right"}'
    )
    install_plugins(here, tmp_path / "site", monkeypatch)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))  # the step is a process of its own
    done = CliRunner().invoke(cli, ["fetch", f"{name}://m", str(tmp_path / "volume")])
    assert done.exit_code == 0, done.output
    model = tmp_path / "volume" / "model"
    assert (model / "weights" / "1.bin").read_bytes() == files["m/weights/1.bin"]
    assert json.loads((model / "complete.json").read_text())["files"].keys() == {"config.json", "weights/1.bin"}


def test_an_output_lists_uploads_downloads_and_removes(
    site: Path, service: tuple[str, dict[str, bytes]], tmp_path: Path
) -> None:
    from tunewright_acme3 import AcmeModel

    address, files = service
    store = AcmeModel(uri="acme3://team/sft", server=address, token="right").store()
    store.check_writable()
    assert files == {}
    (tmp_path / "file").write_bytes(b"weights")
    store.upload({"model/weights.bin": tmp_path / "file", "checkpoints/k/checkpoint-1/w": tmp_path / "file"})
    assert [entry.path for entry in store.entries("model")] == ["model/weights.bin"]
    snapshot = store.snapshot("model")
    entry = next(snapshot.entries())
    assert (entry.path, entry.size) == ("weights.bin", 7)
    buffer = bytearray(7)
    with snapshot.open(entry, 0, 7) as reader:
        assert reader.readinto(memoryview(buffer)) == 7
    assert buffer == b"weights"
    store.remove("checkpoints")
    assert files.keys() == {"team/sft/model/weights.bin"}
    with pytest.raises(FetchError):
        AcmeModel(uri="acme3://team/sft", server=address, token="wrong").store().upload({"a": tmp_path / "file"})


def test_a_trainer_trains_resumes_and_refuses(site: Path, tmp_path: Path) -> None:
    from tunewright_wordcount import WordCount

    dataset, events = tmp_path / "dataset", []
    dataset.mkdir()
    with pytest.raises(RequestError, match="has no text"):
        WordCount().check_inputs(model=None, dataset=dataset, eval_dataset=None)
    (dataset / "a.txt").write_text("to be or not\nto be\n")
    whole = TrainRun(dataset=dataset, output=tmp_path / "whole", emit=events.append)
    WordCount(epochs=3).train(whole)
    half = TrainRun(dataset=dataset, output=tmp_path / "half", emit=lambda event: None)
    WordCount(epochs=2).train(half)
    newest = newest_checkpoint(half.checkpoints)
    assert newest == half.checkpoints / "checkpoint-2"
    rest = TrainRun(dataset=dataset, output=half.output, resume_from=newest, emit=events.append)
    WordCount(epochs=3).train(rest)
    assert (rest.result / "counts.json").read_text() == (whole.result / "counts.json").read_text()
    assert [event.event for event in events[-2:]] == ["step", "checkpoint"]


def test_a_backend_runs_jobs(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITOPS_FOLDER", str(tmp_path / "jobs"))
    job = {"model": "hf://org/a", "dataset": "hf://datasets/org/b", "trainer": "hf"}
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump({"name": "tune", **job}))
    done = CliRunner().invoke(cli, ["train", str(file), "--backend", "gitops", "--detach"])
    assert done.exception is None, done.exception
    client = TrainingClient("gitops")
    rendered = TrainingClient("kubernetes").train(name="tune", dry_run=True, **job)
    assert isinstance(rendered, Manifests)
    assert (tmp_path / "jobs" / "tune.yaml").read_text() == rendered.to_yaml()
    assert [found.name for found in client.list_jobs()] == ["tune"]
    assert list(client.get_job("tune").logs()) == []
    with pytest.raises(JobError, match="already"):
        client.train(name="tune", **job)
    with pytest.raises(RequestError, match="literal secret"):
        client.train(name="other", env={"WANDB_API_KEY": SecretValue("a-secret-of-somebody")}, **job)
    with pytest.raises(JobError, match="only a file"):
        client.suspend_job("tune")
    client.delete_job("tune")
    with pytest.raises(JobError, match="no job"):
        client.get_job("tune")


def test_a_plan_modification_has_the_last_word(site: Path) -> None:
    def node_selector(dataset: str) -> object:
        manifests = TrainingClient("kubernetes").train(
            model="hf://org/a", dataset=dataset, trainer="hf", node_selector={"disk": "ssd"}, dry_run=True
        )
        job = next(document for document in manifests if document["kind"] == "PyTorchJob")
        return job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["nodeSelector"]

    assert node_selector("vault://customers") == {"disk": "ssd", "topology.kubernetes.io/zone": "eu-central-1a"}
    assert node_selector("hf://datasets/org/b") == {"disk": "ssd"}
    assert Registry().get("vault").name == "vault"


def test_a_company_wide_plugin_has_its_say_in_every_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugins({POLICY: MODULES[POLICY]}, tmp_path / "site", monkeypatch)
    client = TrainingClient("kubernetes")
    (tmp_path / "train.py").write_text("print(1)")
    manifests = client.create_job(script=tmp_path / "train.py", labels={"team": "nlp"}, dry_run=True)
    job = next(document for document in manifests if document["kind"] == "PyTorchJob")
    template = job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]
    assert template["spec"]["nodeSelector"] == {"nodes": "research"}
    assert {"team": "nlp", "cost-centre": "1234"}.items() <= template["metadata"]["labels"].items()
