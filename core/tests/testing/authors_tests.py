"""What the author of the plugin writes: the kit's classes, and a fake of the service."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import acme_plugin
import pytest

from tunewright.testing import (
    BackendTests,
    DatasetProviderTests,
    ModelProviderTests,
    ModifyPlanTests,
    OutputTargetTests,
    Served,
    TrainerProviderTests,
    TrainInputs,
    Written,
)  # fmt: skip

FILES = {"train/a.txt": b"one\n" * 5000, "train/deep/b.bin": bytes(range(256)) * 20}
TOKEN = "the-right-token"


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: dict

    def do_GET(self):
        path, _, query = unquote(self.path).lstrip("/").partition("?")
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.answer(401)
        elif query == "list":
            found = {n.removeprefix(path): d for n, d in self.files.items() if n.startswith(path)}
            listing = [{"path": n, "size": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in found.items()]
            self.answer(200 if found else 404, json.dumps(listing).encode())
        elif path not in self.files:
            self.answer(404)
        elif self.headers["Range"]:
            start, stop = self.headers["Range"].removeprefix("bytes=").split("-")
            data, start = self.files[path], int(start)
            part = data[start : int(stop) + 1 if stop else None]
            self.answer(206, part, {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(data)}"})
        else:
            self.answer(200, self.files[path])

    def do_PUT(self):
        data = self.rfile.read(int(self.headers["Content-Length"] or 0))
        right = self.headers["Authorization"] == f"Bearer {TOKEN}"
        if right:
            self.files[unquote(self.path).lstrip("/")] = data
        self.answer(201 if right else 401)

    def do_DELETE(self):
        self.files.pop(unquote(self.path).lstrip("/"), None)
        self.answer(204)

    def answer(self, status, body=b"", headers=None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def service():
    handler = type("Handler", (Service,), {"files": dict(FILES)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", handler.files
        server.shutdown()


HERE = {name.removeprefix("train/"): data for name, data in FILES.items()}


class TestData(DatasetProviderTests):
    name = "acme"
    time_limit = 20

    def provider(self):
        return acme_plugin.Data(uri="acme://sales", token="a-literal", version=2)

    @pytest.fixture
    def served(self, service):
        return Served(provider=acme_plugin.Data(uri="acme://train", server=service[0], token=TOKEN), files=HERE)


class TestModel(ModelProviderTests):
    name = "acme"
    time_limit = 20

    def provider(self):
        return acme_plugin.Model(uri="acme://tiny", token="a-literal")

    @pytest.fixture
    def served(self, service):
        return Served(provider=acme_plugin.Model(uri="acme://train", server=service[0], token=TOKEN), files=HERE)


class TestOutput(OutputTargetTests):
    name = "acme"
    time_limit = 20

    @pytest.fixture
    def written(self, service):
        address, files = service
        provider = acme_plugin.Model(uri="acme://results/sft", server=address, token=TOKEN)
        there = "results/sft/"
        return Written(
            provider=provider,
            beside=acme_plugin.Model(uri="acme://results/sft-2", server=address, token=TOKEN),
            contents=lambda: {n.removeprefix(there): d for n, d in files.items() if n.startswith(there)},
        )


class TestTrainer(TrainerProviderTests):
    name = "acme"
    exact_resume = True
    time_limit = 30

    def provider(self):
        return acme_plugin.Trainer(epochs=3)

    @pytest.fixture
    def inputs(self, tmp_path):
        folder = tmp_path / "dataset"
        folder.mkdir()
        (folder / "data.txt").write_text("some text")
        return TrainInputs(dataset=folder)


class TestBackend(BackendTests):
    name = "acme"
    time_limit = 60


class TestPlan(ModifyPlanTests):
    name = "acme"
