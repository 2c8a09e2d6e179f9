"""A plugin of every kind, without faults: the tests of the kit plant them in its text."""
# ruff: noqa: F401, RUF009 - faults use some of these names; secret() returns an attrs field

import json
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import attrs

from tunewright import (
    DatasetProvider,
    ExitCode,
    FetchError,
    ModelProvider,
    SecretRef,
    TrainerProvider,
    hookimpl,
    secret,
)  # fmt: skip
from tunewright.backends.local.backend import LocalBackend
from tunewright.events import Checkpoint, Step
from tunewright.providers import (
    Digest,
    Entry,
    FilePatterns,
    OutputTarget,
    SnapshotSource,
    SourceProvider,
    Store,
    mark_checkpoint,
)

always = True


@attrs.frozen(kw_only=True, slots=False)
class Source(SourceProvider):
    token: str | SecretRef | None = secret(env="ACME_TOKEN")
    server: str = "https://acme.example"
    version: int = 1

    @property
    def address(self):
        return f"{self.server}/{self.uri.removeprefix('acme://')}"

    def init_container(self, defaults):
        return attrs.evolve(defaults, env={**defaults.env, "ACME": "1"})


@attrs.frozen(kw_only=True)
class Data(Source, DatasetProvider):
    def download_dataset(self, target):
        for file in json.loads(call(f"{self.address}/?list", self.token)):
            path = target / file["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(call(f"{self.address}/{file['path']}", self.token))


@attrs.frozen(kw_only=True)
class Model(Source, FilePatterns, SnapshotSource, OutputTarget, ModelProvider):
    def snapshot(self):
        return snapshot_class()(self.address, self.token, self.selects)

    def store(self):
        return Files(self.address, self.token)


def snapshot_class():
    from tunewright_launcher.http import HttpRequest, HttpSnapshot

    class Listed(HttpSnapshot):
        revision = "7"

        def __init__(self, address, token, selects=lambda path: True):
            super().__init__()
            self.address, self.token, self.selects = address, token, selects

        def entries(self):
            listed = json.loads(call(f"{self.address}/?list", self.token))
            for file in [file for file in listed if self.selects(file["path"])]:
                digest = Digest(algorithm="sha256", value=file["sha256"])
                yield Entry(path=file["path"], size=file["size"], digests=(digest,))

        def request(self, entry):
            headers = {"Authorization": f"Bearer {self.token}"}
            return HttpRequest(url=f"{self.address}/{urllib.request.quote(entry.path)}", headers=headers)

    return Listed


class Files(Store):
    def __init__(self, address, token):
        self.address, self.token = address, token

    def entries(self, folder):
        try:
            found = json.loads(call(f"{self.address}/?list", self.token))
        except FetchError as error:
            if error.code is not ExitCode.NOT_FOUND:
                raise
            return
        prefix = f"{folder}/" if folder else ""
        for file in found:
            if file["path"].startswith(prefix):
                yield Entry(
                    path=file["path"], size=file["size"], digests=(Digest(algorithm="sha256", value=file["sha256"]),)
                )

    def upload(self, files):
        for path, file in files.items():
            call(f"{self.address}/{urllib.request.quote(path)}", self.token, "PUT", file.read_bytes())

    def remove(self, folder):
        self.remove_files([entry.path for entry in self.entries(folder)])

    def remove_files(self, paths):
        for path in paths:
            call(f"{self.address}/{urllib.request.quote(path)}", self.token, "DELETE")

    def snapshot(self, folder):
        return snapshot_class()(f"{self.address}/{folder}" if folder else self.address, self.token)


def call(url, token, method="GET", data=None):
    request = urllib.request.Request(url, data, {"Authorization": f"Bearer {token}"}, method=method)
    try:
        return urllib.request.urlopen(request, timeout=20).read()
    except urllib.error.HTTPError as error:
        code = {401: ExitCode.NO_PERMISSION, 404: ExitCode.NOT_FOUND}.get(error.code, ExitCode.UNAVAILABLE)
        raise FetchError(
            f"{url} was answered with {error.code}.", remedy="Check the URI and token=.", code=code
        ) from error


@attrs.frozen(kw_only=True)
class Trainer(TrainerProvider):
    epochs: int = 4
    pause: float = 0.05

    def container(self, defaults):
        return attrs.evolve(defaults, env={**defaults.env, "ACME_EPOCHS": str(self.epochs)})

    def check_inputs(self, *, model, dataset, eval_dataset):
        pass

    def train(self, run):
        text = (run.dataset / "data.txt").read_text()
        first, total = 1, 0
        if run.resume_from is not None:
            first = int(run.resume_from.name.rpartition("-")[2]) + 1
            total = json.loads((run.resume_from / "total.json").read_text())
        for epoch in range(first, self.epochs + 1):
            total += len(text)
            time.sleep(self.pause)
            run.emit(Step(step=epoch, total_steps=self.epochs, loss=1 / total))
            if run.rank == 0:
                folder = run.checkpoints / f"checkpoint-{epoch}"
                save(folder, total)
                mark_checkpoint(folder)
                run.emit(Checkpoint(step=epoch, path=str(folder)))
        if run.rank == 0:
            save(run.result, total)


def save(folder, total):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "total.json").write_text(json.dumps(total))


class Local(LocalBackend):
    pass


@hookimpl
def tunewright_dataset_provider():
    return Data


@hookimpl
def tunewright_model_provider():
    return Model


@hookimpl
def tunewright_trainer_provider():
    return Trainer


@hookimpl
def tunewright_backend():
    return Local


@hookimpl
def tunewright_modify_plan(plan, request):
    return attrs.evolve(plan, labels={**plan.labels, "team": "research"})
