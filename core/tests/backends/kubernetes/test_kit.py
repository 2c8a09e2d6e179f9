"""What the conformance kit asks of each kind of Kubernetes jobs without a cluster; its jobs need one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright.plan.plan import JobPlan
from tunewright.testing import BackendTests

pytestmark = pytest.mark.slow

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: nowhere
contexts: [{name: nowhere, context: {cluster: nowhere, user: nobody}}]
clusters: [{name: nowhere, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: nobody, user: {}}]
"""


class WithoutCluster(BackendTests):
    runs = False

    @pytest.fixture(autouse=True)
    def _nowhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "kubeconfig").write_text(KUBECONFIG)
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        # The package reads the variable when it is imported, which another test may have done.
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))

    @pytest.fixture
    def submit(self) -> Callable[..., JobPlan]:
        pytest.skip("nothing can be submitted without a cluster")


class TestPyTorchJob(WithoutCluster):
    name = "pytorchjob"


class TestTrainJob(WithoutCluster):
    name = "trainjob"


class TestJob(WithoutCluster):
    name = "job"


class TestAnyKind(WithoutCluster):
    name = "kubernetes"
