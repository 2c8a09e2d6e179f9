"""`push_to_hub`, to a server on loopback that speaks as much of the Hub's protocol as an upload needs."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("transformers")
constants = pytest.importorskip("huggingface_hub.constants")


class Hub(BaseHTTPRequestHandler):
    files: dict[str, bytes]
    deleted: set[str]
    tokens: set[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.tokens.add(self.headers["Authorization"])
        if self.path == "/api/repos/create":
            self.answer({"url": f"http://{self.headers['Host']}/org/name"})
        elif "/preupload/" in self.path:
            paths = [f["path"] for f in json.loads(body)["files"]]
            self.answer({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]})
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            self.files |= {
                x["value"]["path"]: base64.b64decode(x["value"]["content"]) for x in lines if x["key"] == "file"
            }
            self.deleted.update(x["value"]["path"] for x in lines if x["key"] == "deletedFile")
            self.answer({"commitUrl": f"http://{self.headers['Host']}/org/name/commit/1", "commitOid": "1"})
        else:
            self.answer({"errors": [], "warnings": []})  # of a card

    def do_GET(self) -> None:
        if "/tree/" in self.path:
            self.answer([{"type": "file", "path": p, "size": 1, "oid": "0"} for p in self.files])
            return
        self.answer({"id": "org/name", "siblings": [], "sha": "0"})

    def answer(self, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    handler = type("Handler", (Hub,), {"files": {}, "deleted": set(), "tokens": set()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)  # made when it is first used, with the endpoint of then
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_container")
    yield handler
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("strategy", ["end", pytest.param("every_save", marks=pytest.mark.slow)])
def test_the_hub_gets_the_result(strategy: str, hub: type[Hub], train, qa: Path, tmp_path: Path) -> None:
    before = [
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "notes.md",
        "last-checkpoint/model.safetensors",
    ]
    hub.files |= dict.fromkeys(before, b"of an earlier result")
    given = {"push_to_hub": True, "hub_model_id": "org/name", "hub_strategy": strategy, "lora_config": {}}
    training = train(tmp_path / "out", qa, max_steps=2, **given)
    result = {p.name: p.read_bytes() for p in training.result.iterdir()}
    assert {name: hub.files[name] for name in result} == result
    assert not [name for name in hub.files if name not in before and re.search("checkpoint|optimizer", name)]
    assert hub.deleted - {"training_args.bin"} == set(before[:2]), "they would be loaded with the new ones"
    assert hub.tokens == {"Bearer hf_of_the_container"}
