"""Another second stage: the real scheduler of scheduler-plugins, which starts all pods of a job or none.

    python -m tests.cluster up --with gang
    TUNEWRIGHT_CLUSTER_TESTS=KUBECONFIG pytest tests/cluster/test_cluster_scheduling.py

It runs beside Kubernetes' own scheduler, and the training-operator hands it the pods of every PyTorchJob.
"""

from __future__ import annotations

import json

from tests.cluster import programs
from tests.cluster.cluster import Cluster
from tests.cluster.programs import Module
from tests.cluster.settings import GANG_SCHEDULER

SCHEDULER_PLUGINS = Module(
    "sigs.k8s.io/scheduler-plugins", "0.34.7", {GANG_SCHEDULER: "sigs.k8s.io/scheduler-plugins/cmd/scheduler"}
)


def install(cluster: Cluster) -> None:
    """Start the scheduler, and the operator anew: it looks for the kind PodGroup when it starts.

    Raises:
        programs.CannotRun: the module cannot be had, or does not build.
    """
    programs.build([SCHEDULER_PLUGINS])
    kinds = programs.module_folder(SCHEDULER_PLUGINS) / "config" / "crd" / "bases"
    cluster.kubectl("apply", "-f", str(kinds / "scheduling.x-k8s.io_podgroups.yaml"))
    cluster.kubectl("wait", "--for=condition=Established", "crd/podgroups.scheduling.x-k8s.io", "--timeout=60s")
    cluster.start(GANG_SCHEDULER)
    flag = {
        "op": "add",
        "path": "/spec/template/spec/containers/0/args/-",
        "value": f"--gang-scheduler-name={GANG_SCHEDULER}",
    }
    operator = ("-n", "kubeflow", "deploy/training-operator")
    cluster.kubectl("patch", *operator, "--type=json", "-p", json.dumps([flag]))
    cluster.kubectl("rollout", "status", *operator, "--timeout=180s")
