"""A real store for all tests, a proxy before it for each, and the init container's step that fetches from there."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.servers.s3 import ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Gateway, S3Proxy
from tests.servers.step import step_environment

from tunewright.providers import wire
from tunewright_s3 import S3ModelParams


@pytest.fixture(scope="session")
def services_read_once() -> Iterator[None]:
    """Each client of boto3 reads a megabyte of JSON, and most tests make one."""
    pytest.importorskip("botocore")
    from tunewright_s3 import client, quick

    read = functools.cache(quick._Files().load_file)

    def make_quick(loader: Any) -> None:
        quick.make_quick(loader)
        loader.file_loader.load_file = read

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "make_quick", make_quick)
        yield


@pytest.fixture
def proxy(gateway: Gateway, services_read_once: None) -> Iterator[S3Proxy]:
    with S3Proxy(gateway) as server:
        yield server


@pytest.fixture(autouse=True)
def _nobodys_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test does must not depend on who runs it, and on what machine."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where files are fetched into."""
    target = tmp_path / "fetched"
    target.mkdir()
    return target


@pytest.fixture
def source(proxy: S3Proxy) -> Callable[..., S3ModelParams]:
    """Makes a provider of what lies at a key, through the proxy."""

    def make(key: str, **fields: object) -> S3ModelParams:
        usual = {
            "uri": f"s3://{BUCKET}/{key}",
            "endpoint_url": proxy.url,
            "region": REGION,
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
        }
        return S3ModelParams(**{**usual, **fields})  # type: ignore[arg-type]

    return make


@attrs.frozen
class Step:
    """`python -m tunewright_launcher fetch model`, with a workspace and a pod's scratch folder."""

    folder: Path

    @property
    def slot(self) -> Path:
        return self.folder / "workspace" / "model"

    def start(self, provider: S3ModelParams, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        (self.folder / "config").mkdir(parents=True, exist_ok=True)
        params = wire.unstructure(provider, "model")
        document = {"api": 1, "kind": "model", "provider": "s3", "distribution": "tunewright-s3", "version": "0.1.0"}
        (self.folder / "config" / "model.json").write_text(json.dumps({**document, "params": params}), "utf-8")
        secrets = {
            "AWS_ACCESS_KEY_ID": provider.access_key_id,
            "AWS_SECRET_ACCESS_KEY": provider.secret_access_key,
            "AWS_SESSION_TOKEN": provider.session_token,
        }
        environment = {
            **step_environment(self.folder, self.folder / "workspace"),
            **{name: str(value) for name, value in secrets.items() if value},
            **(env or {}),
        }
        command = [sys.executable, "-m", "tunewright_launcher", "fetch", "model"]
        return subprocess.Popen(
            command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.folder
        )

    def run(self, provider: S3ModelParams, env: Mapping[str, str] | None = None) -> str:
        """Run it to its end; what it has printed."""
        process = self.start(provider, env)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        return output

    def verdict(self) -> dict[str, object] | None:
        file = self.folder / "run" / "verdict.json"
        return json.loads(file.read_text("utf-8")) if file.exists() else None


@pytest.fixture
def step(tmp_path: Path) -> Step:
    return Step(tmp_path / "pod")
