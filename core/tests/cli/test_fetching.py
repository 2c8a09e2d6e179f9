"""`tunewright fetch`: the init container's step, by hand."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import click
import pytest
from tests.servers.faulty import Fault
from tests.servers.served import IndexedServer, install

from tunewright import ModelProvider, RequestError
from tunewright.cli.fetching import Inputs, fetch_by_hand, inputs_of
from tunewright.cli.steps import unwanted_secrets
from tunewright.providers import secret

FILES = {"/config.json": b"{}", "/weights.bin": bytes(1 << 20)}

ODD = """
import os

import attrs
from tunewright import ExitCode, FetchError, ModelProvider, hookimpl


@attrs.frozen(kw_only=True)
class Odd(ModelProvider):
    def download_model(self, target):
        if self.uri.endswith("exit"):
            raise SystemExit(0)
        if self.uri.endswith("gone"):
            os._exit(0)
        if self.uri.endswith("away"):
            raise FetchError("The source is away.", remedy="Wait.", code=ExitCode.UNAVAILABLE)
        raise ValueError("a library's own error")


@hookimpl
def tunewright_model_provider():
    return Odd
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the plugins `served` and `odd`."""
    folder = install(tmp_path_factory.mktemp("site"))
    (folder / "tunewright_odd.py").write_text(ODD)
    info = folder / "tunewright_odd-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tunewright-odd\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tunewright.v1]\nodd = tunewright_odd\n")
    return folder


@pytest.fixture
def server() -> Iterator[IndexedServer]:
    with IndexedServer(FILES) as running:
        yield running


@pytest.fixture
def start(site: Path, tmp_path: Path):
    """Starts `tunewright fetch` as a user does."""

    def make(uri: str, *options: str, **env: str) -> subprocess.Popen[str]:
        code = "from tunewright.cli import main; main()"
        command = [sys.executable, "-c", code, "fetch", uri, str(tmp_path / "volume"), *options]
        given = {**os.environ, "PYTHONPATH": str(site), **env}
        return subprocess.Popen(command, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return make


def of(source: str, *assignments: str, kind: str | None = None, only: tuple[str, ...] = ()) -> Inputs:
    return inputs_of(source, kind, only, assignments)  # type: ignore[arg-type] # one of the two kinds


def events_in(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


def test_a_folder_is_fetched_once_and_then_known_by_its_marker(tmp_path, capsys):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "config.json").write_text("{}")
    for cached in (False, True):
        fetch_by_hand(of(source.as_uri()), target, as_json=True)
        fetched = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (fetched["event"], fetched["files"], fetched["cached"]) == ("fetched", 1, cached)
    assert (target / "model" / "config.json").read_text() == "{}"
    assert (target / "model" / "complete.json").exists()
    fetch_by_hand(of(source.as_uri()), target, as_json=False)
    assert capsys.readouterr().out.splitlines()[-1] == f"It is in {target / 'model'}"


def test_what_is_not_there_is_named_and_nothing_is_left(tmp_path, capsys):
    with pytest.raises(click.exceptions.Exit) as caught:
        fetch_by_hand(of((tmp_path / "missing").as_uri(), kind="dataset"), tmp_path / "target", as_json=True)
    out, err = capsys.readouterr()
    failed = events_in(out)[-1]
    assert caught.value.exit_code == failed["code"] == 66
    assert (failed["event"], failed["container"]) == ("failed", "fetch-dataset")
    assert "missing" in str(failed["cause"])
    assert f"{failed['cause']} {failed['remedy']}" in err
    assert not (tmp_path / "target" / "dataset").exists()


def test_a_folder_that_cannot_be_is_refused_with_a_remedy(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(RequestError, match=r"taken': cannot be created as a folder: File exists\. Give a folder"):
        fetch_by_hand(of(tmp_path.as_uri()), tmp_path / "taken", as_json=True)


def test_without_the_launcher_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tunewright_launcher", None)
    with pytest.raises(RequestError, match=r"pip install 'tunewright\[local\]'"):
        fetch_by_hand(of("file:///x"), tmp_path / "target", as_json=False)
    assert not (tmp_path / "target").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("retry_for", "retries"), [("0", False), ("3", True)])
def test_it_retries_as_long_as_the_environment_says(start, retry_for: str, retries: bool) -> None:
    out, err = start("odd://away", "--json", TUNEWRIGHT_RETRY_FOR=retry_for).communicate(timeout=60)
    assert events_in(out)[-1]["code"] == 69
    assert ("The source is away. Trying again in" in err) == retries
    assert err.rstrip().endswith("The source is away. Wait.")


@pytest.mark.slow
def test_it_downloads_no_faster_than_the_environment_says(start, server: IndexedServer) -> None:
    began = time.monotonic()
    process = start(server.url.replace("http://", "served://"), "--json", TUNEWRIGHT_FETCH_RATE="500000")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert events_in(out)[-1]["bytes"] == 2 + (1 << 20)
    assert time.monotonic() - began > 1.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("odd://exit", "SystemExit: 0, in the code of the model plugin 'odd' (tunewright-odd)."),
        ("odd://x", "ValueError: a library's own error, in the code of the model plugin 'odd' (tunewright-odd)."),
        pytest.param(
            "odd://gone",
            "The process of fetch-model ended with exit code 0, in the middle of the code of the model plugin 'odd' "
            "(tunewright-odd).",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="steps fork on Linux"),
        ),
    ],
)
def test_whatever_a_provider_does_a_failure_is_one(start, tmp_path: Path, uri: str, says: str) -> None:
    process = start(uri, "--json")
    out, err = process.communicate(timeout=60)
    failed = events_in(out)[-1]
    assert (process.returncode, failed["code"], failed["cause"]) == (70, 70, says)
    assert says in err, "the log has the traceback"
    assert "cli/fetching.py" not in err, "it is the provider's, not ours"
    assert not (tmp_path / "volume" / "model").exists()


@pytest.mark.slow
def test_a_limit_that_is_no_number_is_refused(start, server: IndexedServer) -> None:
    process = start(server.url.replace("http://", "served://"), TUNEWRIGHT_FETCH_STALL="long")
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 64
    assert "TUNEWRIGHT_FETCH_STALL='long'" in err


@pytest.mark.slow
def test_ctrl_c_ends_the_step_too_and_the_next_fetch_resumes(start, server: IndexedServer, tmp_path: Path) -> None:
    server.faults.append(Fault(path="weights", rate=100_000))
    process = start(server.url.replace("http://", "served://"), "--json", TUNEWRIGHT_FETCH_STALL="30")
    assert process.stdout
    assert any('"progress"' in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    server.faults.clear()
    again = start(server.url.replace("http://", "served://"))
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert out.splitlines()[-1] == f"It is in {tmp_path / 'volume' / 'model'}"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job file with inputs beside it, of which the model's token is in a cluster."""
    for name in ("base", "first", "second", "held-out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.json").write_text("{}")
        (tmp_path / name / "other.txt").write_text(name)
    (tmp_path / "job.yaml").write_text(
        """
        model: {uri: ./base, allow_patterns: ["*.json"]}
        dataset: [{uri: ./first, weight: 2}, {uri: ./second, weight: 1}]
        eval_dataset: ./held-out
        trainer: {provider: not-installed}
        init_env: {TUNEWRIGHT_FETCH_CONNECTIONS: "2"}
        """
    )
    return tmp_path / "job.yaml"


def test_the_inputs_of_a_job_file_are_those_of_its_job(job: Path) -> None:
    found = of(str(job))
    assert list(found.sources) == ["model", "dataset_1", "dataset_2", "eval_dataset"]
    assert found.sources["dataset_2"].provider.uri == (job.parent / "second").as_uri()
    assert found.variables == {"TUNEWRIGHT_FETCH_CONNECTIONS": "2"}
    assert list(of(str(job), only=("dataset",)).sources) == ["dataset_1", "dataset_2"]
    with pytest.raises(RequestError, match="has: model, dataset_1, dataset_2, eval_dataset"):
        of(str(job), only=("data",))
    with pytest.raises(RequestError, match=r"job.yaml --only model"):
        of("hf://org/name", only=("model",))


def test_what_a_job_file_cannot_have_is_refused_before_anything_is_fetched(job: Path) -> None:
    with pytest.raises(RequestError, match=r"revision.*is not an argument"):
        of(str(job), "revision=v2")
    with pytest.raises(RequestError, match=r"modle.*Did you mean 'model'"):
        of(str(job), "modle.revision=v2")
    with pytest.raises(RequestError, match=r"--kind.*belongs to a URI\. Give --only dataset"):
        inputs_of(str(job), "dataset", (), ())


def test_an_adapter_of_a_job_file_is_one_of_its_inputs(job: Path, tmp_path: Path) -> None:
    found = of(str(job), "adapter=./first", only=("adapter",))
    assert {slot: source.provider.uri for slot, source in found.sources.items()} == {
        "adapter": (tmp_path / "first").as_uri()
    }


def test_a_job_file_in_other_words_has_the_same_inputs(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("model_provider_parameters: {uri: hf://org/name}\ntrainer: hf\n")
    assert list(of(str(tmp_path / "job.yaml")).sources) == ["model"]


@pytest.mark.slow
def test_one_input_of_a_job_file_is_fetched_as_the_job_does(job: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "job.yaml").write_text(job.read_text().replace(', allow_patterns: ["*.json"]', ""))
    fetch_by_hand(of(str(job), only=("model", "dataset_2")), tmp_path / "volume", as_json=True)
    assert [e["slot"] for e in events_in(capsys.readouterr().out) if e["event"] == "fetched"] == ["model", "dataset_2"]
    assert (tmp_path / "volume" / "dataset_2" / "second.json").exists()


def test_a_secret_of_a_cluster_comes_from_the_environment_or_the_remedy_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("model: {uri: hf://org/name, access_token: {secret: hub, key: token}}")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(RequestError, match=r"--set model\.access_token\.env=HF_TOKEN"):
        fetch_by_hand(of(str(job)), tmp_path / "volume", as_json=True)
    assert not (tmp_path / "volume").exists()


def test_a_volume_of_a_cluster_is_not_fetched_by_hand(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="volume of a cluster"):
        fetch_by_hand(of("pvc://claim/folder"), tmp_path / "volume", as_json=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "env"),
    [
        (["--set", "token.env=MY_TOKEN"], {"MY_TOKEN": "secret-token"}),
        (["--set", "model.token.env=MY_TOKEN"], {"MY_TOKEN": "secret-token\n"}),
        ([], {"SERVED_TOKEN": "secret-token"}),
    ],
)
def test_a_secret_comes_from_any_variable(
    start, server: IndexedServer, tmp_path: Path, options: list[str], env: dict[str, str]
) -> None:
    server.token = "secret-token"
    process = start(server.url.replace("http://", "served://"), *options, **env)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "secret-token" not in out + err
    assert (tmp_path / "volume" / "model" / "weights.bin").read_bytes() == FILES["/weights.bin"]


@attrs.frozen(kw_only=True)
class Keyed(ModelProvider):
    key: str | None = secret(env="KEYED_KEY")
    session: str | None = secret(env="KEYED_SESSION")
    public: bool = False

    def __attrs_post_init__(self) -> None:
        if self.public and self.key:
            raise RequestError("has no key", field="public", remedy="Leave it out.")

    def download_model(self, target: Path) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("fields", "unwanted"),
    [
        ({}, set()),
        ({"public": True}, {"KEYED_KEY", "KEYED_SESSION"}),
        ({"key": "of another account"}, {"KEYED_SESSION"}),
    ],
)
def test_a_credential_of_the_environment_is_taken_as_a_whole_and_only_where_it_is_wanted(
    fields: dict[str, object], unwanted: set[str]
) -> None:
    env = {"KEYED_KEY": "key", "KEYED_SESSION": "session", "OTHER": "value"}
    assert unwanted_secrets(Keyed(uri="keyed://name", **fields), env) == unwanted  # type: ignore[arg-type]


def test_an_empty_variable_is_no_credential() -> None:
    found = unwanted_secrets(Keyed(uri="keyed://name"), {"KEYED_KEY": "key", "KEYED_SESSION": ""})
    assert found == {"KEYED_SESSION"}
