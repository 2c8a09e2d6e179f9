"""A plugin whose files a loopback server has, and the init container's step that fetches them."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs
from tests.servers.faulty import Answer, FileServer, Request
from tests.servers.step import step_environment

PLUGIN = """
import json
import urllib.error
import urllib.request

import attrs
from tunewright import DatasetProvider, ExitCode, FetchError, ModelProvider, SecretRef, hookimpl, secret
from tunewright.providers.snapshots import Digest, Entry, SnapshotSource


@attrs.frozen(kw_only=True, slots=False)
class Served(SnapshotSource):
    token: str | SecretRef | None = secret(env="SERVED_TOKEN")

    def snapshot(self):
        from tunewright_launcher.http import Http, HttpRequest, HttpSnapshot

        server = "http://" + self.uri.removeprefix("served://")
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}

        class ServedSnapshot(HttpSnapshot):
            def entries(self):
                asked = urllib.request.Request(f"{server}/index.json", headers=headers)
                try:
                    found = json.load(urllib.request.urlopen(asked))
                except urllib.error.HTTPError as error:
                    if error.code != 503:
                        raise
                    cause = f"The index is away (503), also for {headers}."
                    raise FetchError(cause, remedy="Wait.", code=ExitCode.UNAVAILABLE) from error
                for path, size, sha256 in found:
                    digests = (Digest(algorithm="sha256", value=sha256),) if sha256 else ()
                    yield Entry(path=path, size=size, digests=digests)

            def request(self, entry):
                return HttpRequest(url=f"{server}/{entry.path}", headers=headers)

        return ServedSnapshot(Http(timeout=2))


@attrs.frozen(kw_only=True)
class ServedModel(Served, ModelProvider):
    pass


@attrs.frozen(kw_only=True)
class ServedDataset(Served, DatasetProvider):
    pass


@hookimpl
def tunewright_model_provider():
    return ServedModel


@hookimpl
def tunewright_dataset_provider():
    return ServedDataset
"""


class IndexedServer(FileServer):
    """Files, and `/index.json` with path, size and SHA-256 of each; `digests=False` leaves the last one out."""

    digests = True

    def answer(self, request: Request) -> Answer:
        if request.path == "/index.json":
            self.files["/index.json"] = json.dumps(
                [
                    (path[1:], len(body), hashlib.sha256(body).hexdigest() if self.digests else None)
                    for path, body in self.files.items()
                    if path != "/index.json"
                ]
            ).encode()
        return super().answer(request)


@attrs.frozen
class FetchStep:
    """`python -m tunewright_launcher fetch model`, with a server, a workspace and a pod's scratch folder."""

    server: IndexedServer
    workspace: Path
    folder: Path
    site: Path

    @property
    def slot(self) -> Path:
        return self.workspace / "model"

    @property
    def run_folder(self) -> Path:
        return self.folder / "run"

    @property
    def termination_log(self) -> Path:
        return self.folder / "termination-log"

    def environment(
        self, env: Mapping[str, str] | None = None, params: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        config = self.folder / "config"
        config.mkdir(exist_ok=True)
        uri = self.server.url.replace("http://", "served://")
        document = {
            "api": 1,
            "kind": "model",
            "provider": "served",
            "distribution": "tunewright-served",
            "version": "1.0",
            "params": {"uri": uri, **(params or {})},
        }
        (config / "model.json").write_text(json.dumps(document), "utf-8")
        return {
            **step_environment(self.folder, self.workspace),
            "PYTHONPATH": str(self.site),
            **(env or {}),
        }

    def start(
        self, env: Mapping[str, str] | None = None, params: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tunewright_launcher", "fetch", "model"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=self.environment(env, params), text=True, **pipes)

    def run(
        self, env: Mapping[str, str] | None = None, params: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(env, params)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def verdict(self) -> dict[str, object] | None:
        file = self.run_folder / "verdict.json"
        return json.loads(file.read_text("utf-8")) if file.exists() else None

    def holds_everything(self) -> bool:
        files = {p: b for p, b in self.server.files.items() if p != "/index.json"}
        found = {f"/{p.relative_to(self.slot).as_posix()}" for p in self.slot.rglob("*") if p.is_file()}
        return found == {*files, "/complete.json"} and all(
            (self.slot / p[1:]).read_bytes() == b for p, b in files.items()
        )


def install(folder: Path) -> Path:
    """Install the plugin `served` into a folder for PYTHONPATH."""
    (folder / "tunewright_served.py").write_text(PLUGIN, "utf-8")
    info = folder / "tunewright_served-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tunewright-served\nVersion: 1.0\n", "utf-8")
    (info / "entry_points.txt").write_text("[tunewright.v1]\nserved = tunewright_served\n", "utf-8")
    return folder
