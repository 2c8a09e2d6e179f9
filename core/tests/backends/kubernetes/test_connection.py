"""How the API server is reached, and what a command loads and asks for to tell about a job."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers.faulty import FaultyServer
from tests.servers.kubernetes import KubernetesServer

from tunewright.backends.base import BackendOptions
from tunewright.backends.kubernetes.api import Api
from tunewright.backends.kubernetes.connection import Connection
from tunewright.backends.kubernetes.failures import ApiFailure
from tunewright.backends.kubernetes.render import render
from tunewright.backends.pytorchjob import PyTorchJobBackend
from tunewright.errors import RequestError
from tunewright.plan.plan import ContainerSpec, JobPlan

pytestmark = pytest.mark.slow

KIND = PyTorchJobBackend.kind
PLAN = JobPlan(name="sft", init_containers=(), main=ContainerSpec(name="train", image="i:1", command=("train",)))


@pytest.fixture
def server() -> Iterator[KubernetesServer]:
    with KubernetesServer() as started:
        job = started.add(render(KIND, PLAN, "team").reveal()[0])
        job["status"] = {"conditions": [{"type": "Running", "status": "True"}]}
        labels = {KIND.job_label: "sft", "training.kubeflow.org/replica-index": "0"}
        state = {"name": KIND.main_container, "state": {"running": {"startedAt": "2026-11-29T12:00:00Z"}}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "sft-worker-0", "labels": labels}}
        status = {"phase": "Running", "containerStatuses": [state]}
        started.add({**pod, "spec": {"nodeName": "node", "containers": []}, "status": status})
        started.logs["sft-worker-0", KIND.main_container] = b"loss 0.5\n"
        yield started


def api(kubeconfig: Path, context: str | None = None) -> Api:
    return Api(Connection(BackendOptions(config_file=str(kubeconfig), context=context)), KIND)


def script(file: Path, text: str) -> Path:
    file.write_text(f"#!{sys.executable}\n{text}", "utf-8")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def python(code: str, kubeconfig: Path, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    env = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


RUN = """
import sys
from tunewright.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(*sys.modules, sep="\\n")
"""


@pytest.mark.parametrize(("command", "said"), [("status", "state:    Running"), ("logs", "loss 0.5"), ("list", "sft")])
def test_a_command_loads_no_model_of_the_official_client(
    server: KubernetesServer, tmp_path: Path, command: str, said: str
) -> None:
    names = ("sft",) if command != "list" else ()
    printed = python(RUN, server.kubeconfig(tmp_path), command, *names, "--backend", "kubernetes")
    assert said in printed
    loaded = set(printed.splitlines())
    assert "kubernetes.client.api_client" in loaded
    assert not {name for name in loaded if name.startswith("kubernetes.client.models.")}
    assert not loaded & {"kubernetes.client.api.core_v1_api", "kubernetes.dynamic", "google.oauth2", "cryptography"}


def test_what_was_put_off_is_there_for_whoever_uses_it(server: KubernetesServer, tmp_path: Path) -> None:
    code = """
from tunewright.backends.kubernetes.official import official
used = official()
from kubernetes import client, config, watch
import kubernetes.client.models
assert config is used.config and client.ApiClient is used.api_client and client.Configuration is used.configuration
config.load_kube_config()
print("loss 0.5" in client.CoreV1Api().read_namespaced_pod_log("sft-worker-0", "team", container="pytorch"))
print(kubernetes.client.models.V1Pod is client.V1Pod, watch.Watch.__name__)
try:
    client.NoSuchThing
except AttributeError as error:
    print(error)
"""
    printed = python(code, server.kubeconfig(tmp_path)).splitlines()
    assert printed == ["True", "True Watch", "module 'kubernetes.client' has no attribute 'NoSuchThing'"]


def test_a_version_whose_parts_are_elsewhere_is_imported_as_always(tmp_path: Path) -> None:
    package = tmp_path / "kubernetes"
    for folder in (package, package / "client", package / "client" / "models", package / "config"):
        folder.mkdir()
        (folder / "__init__.py").touch()
    (package / "client" / "__init__.py").write_text("class Configuration: ...\nclass ApiClient: ...\n", "utf-8")
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from tunewright.backends.kubernetes.official import official
print(official().api_client.__name__, type(sys.modules["kubernetes.client"]).__name__)
"""
    assert python(code, tmp_path, str(tmp_path)).split() == ["ApiClient", "module"]


def test_status_asks_for_nothing_twice(server: KubernetesServer, tmp_path: Path) -> None:
    python(RUN, server.kubeconfig(tmp_path), "status", "sft", "--backend", "kubernetes")
    asked = server.asked()
    assert len(asked) == len(set(asked)) + 1, asked  # the job: first only whether it is there, and of which kind


def test_a_login_command_is_run_once_for_all_kinds(server: KubernetesServer, tmp_path: Path) -> None:
    server.token = "t0ken"
    runs = tmp_path / "runs"
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "t0ken"},
    }
    text = f"open({str(runs)!r}, 'a').write('run ')\nprint({json.dumps(answer)!r})\n"
    program = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(script(tmp_path / "login", text)),
        "interactiveMode": "Never",
    }
    kubeconfig = server.kubeconfig(tmp_path, {"exec": program})
    assert "sft" in python(RUN, kubeconfig, "list", "--backend", "kubernetes")
    assert runs.read_text("utf-8") == "run "


def test_tokens_and_contexts_of_a_kubeconfig(server: KubernetesServer, tmp_path: Path) -> None:
    server.token = "t0ken"
    assert api(server.kubeconfig(tmp_path, {"token": "t0ken"})).get(KIND.kind, "sft")["metadata"]["name"] == "sft"
    with pytest.raises(ApiFailure, match="401"):
        api(server.kubeconfig(tmp_path, {"token": "other"})).get(KIND.kind, "sft")
    assert api(server.kubeconfig(tmp_path), "here").namespace == "team"
    with pytest.raises(RequestError, match="context='nowhere': no usable kubeconfig"):
        api(server.kubeconfig(tmp_path), "nowhere")


class Proxy(FaultyServer):
    """Passes requests for whole URLs on to a server."""

    def __init__(self, server: KubernetesServer) -> None:
        super().__init__()
        self.answer = server.answer


def test_a_proxy_of_the_environment_is_used(
    server: KubernetesServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(server) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "localhost")
        kubeconfig = server.kubeconfig(tmp_path)
        text = kubeconfig.read_text("utf-8").replace("127.0.0.1", "api.example", 1)
        kubeconfig.write_text(text, "utf-8")
        assert api(kubeconfig).get(KIND.kind, "sft")["metadata"]["name"] == "sft"
        assert proxy.log[0].target.startswith("http://api.example:")
    assert not server.log
