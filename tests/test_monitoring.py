"""What deploy/monitoring asks for is what trainings serve, and what the pods of each kind of job are called."""

import json
import re
from pathlib import Path

import yaml

from tunewright import TrainingClient
from tunewright.backends.kubernetes.indexed import INDEX
from tunewright.plan.plan import INSTANCE, MANAGED_BY

DEPLOY = Path(__file__).parents[1] / "deploy" / "monitoring"
STEP = Path(__file__).parents[1] / "docs" / "tutorial" / "quickstart.md"
FURTHER = {"eval_loss", "checkpoint_step"}


def test_the_dashboard_asks_for_numbers_that_a_training_has() -> None:
    panels = json.loads((DEPLOY / "grafana.json").read_text("utf-8"))["panels"]
    asked = {
        name
        for panel in panels
        for target in panel["targets"]
        for name in re.findall(r"tunewright_(\w+)", target["expr"])
    }
    sent = re.search(r'^\{"event": "step".*\}$', STEP.read_text("utf-8"), re.MULTILINE)
    assert sent is not None
    assert asked <= {*json.loads(sent.group()), *FURTHER}
    assert asked >= {"loss", "eval_loss", "step", "total_steps", "total_tokens_per_second", "peak_memory_bytes"}


def test_the_pods_of_a_job_have_the_labels_and_the_port_of_the_monitor() -> None:
    monitor = yaml.safe_load((DEPLOY / "podmonitor.yaml").read_text("utf-8"))["spec"]
    endpoint = monitor["podMetricsEndpoints"][0]
    dropped = {name for rule in endpoint["relabelings"] for name in rule["sourceLabels"]}
    indexes = (INDEX, "training.kubeflow.org/replica-index")
    assert dropped == {f"__meta_kubernetes_pod_label_{re.sub(r'[^a-z0-9]', '_', label)}" for label in indexes}
    env = {"TUNEWRIGHT_METRICS_PORT": "9400"}
    job = TrainingClient("job").create_job("sft", base_image="i:1", command=["true"], env=env, dry_run=True)
    template = next(document for document in job if document["kind"] == "Job")["spec"]["template"]
    assert monitor["selector"]["matchLabels"] == {MANAGED_BY: "tunewright"}
    assert template["metadata"]["labels"].items() >= {MANAGED_BY: "tunewright", INSTANCE: "sft"}.items()
    assert monitor["podTargetLabels"] == [INSTANCE]
    assert template["spec"]["containers"][0]["ports"] == [{"name": endpoint["port"], "containerPort": 9400}]
