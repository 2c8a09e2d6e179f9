"""The conformance kit, for a backend whose jobs run elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from tunewright import RequestError, SecretValue, TrainingClient
from tunewright.testing import BackendTests


class TestGitopsBackend(BackendTests):
    name = "gitops"
    runs = False  # the manifests are only written
    literal_secrets = False

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("GITOPS_FOLDER", str(tmp_path / "jobs"))
        return tmp_path / "jobs"

    def test_a_literal_secret_is_refused(self) -> None:
        job = {"base_image": "python:3.12", "command": ["python", "train.py"], "env": {"KEY": SecretValue("a-secret")}}
        with pytest.raises(RequestError, match="literal secret"):
            TrainingClient("gitops").create_job(**job)
