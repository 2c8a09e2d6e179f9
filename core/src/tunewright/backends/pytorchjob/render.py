"""Rendering: a plan becomes the manifests of a PyTorchJob and of what belongs to it. Pure; no Kubernetes client is needed."""

from __future__ import annotations

from collections.abc import Mapping

from tunewright.backends.kubernetes import names, volumes
from tunewright.backends.kubernetes.check import check_output, check_plan
from tunewright.backends.kubernetes.overrides import overridden
from tunewright.backends.kubernetes.pod import pod_template
from tunewright.plan.manifests import Document, Manifests
from tunewright.plan.plan import JobPlan

# Seconds in which the workers have to find each other: their downloads may end at different times. `read_timeout` is
# how long a worker waits for the store, which worker 0 opens when its own download has ended.
# https://docs.pytorch.org/docs/stable/elastic/rendezvous.html
_RENDEZVOUS = {"join_timeout": 900, "read_timeout": 900}


def render(plan: JobPlan, namespace: str | None) -> Manifests:
    """The manifests in the order in which they are created, without owner references, which only submit can know.

    Args:
        plan: the job.
        namespace: where; None leaves it to whoever applies them.

    Raises:
        RequestError: the plan has something that a PyTorchJob cannot do.
    """
    check_plan(plan)
    owned = [*_secret(plan), _config(plan), *volumes.claims(plan)]
    documents = [_job(plan, owned), *owned]
    return Manifests([_within(d, namespace) for d in documents] if namespace else documents)


def _job(plan: JobPlan, owned: list[Document]) -> Document:
    output = volumes.output_uri(plan)
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {
            "name": plan.name,
            "labels": {
                **plan.labels,
                **names.labels(plan.name),
                **({names.QUEUE: plan.scheduling.queue} if plan.scheduling.queue else {}),
            },
            "annotations": {
                **plan.annotations,
                **({names.OUTPUT: output} if output else {}),
                names.OBJECTS: ",".join(names.object_id(d) for d in owned),
            },
        },
        "spec": {
            "runPolicy": _run_policy(plan),
            # A number always: without one the operator says `auto`, which starts a process for each core of the node.
            "nprocPerNode": str(plan.num_procs_per_worker),
            **({} if plan.self_starting else {"elasticPolicy": _elastic_policy(plan)}),
            "pytorchReplicaSpecs": _replicas(plan),
        },
    }


def _run_policy(plan: JobPlan) -> Document:
    """No `backoffLimit`: the operator counts other things against it than `run`, which counts the attempts itself."""
    given = {
        "cleanPodPolicy": "Running",
        "ttlSecondsAfterFinished": plan.ttl,
        "activeDeadlineSeconds": plan.deadline,
        "suspend": plan.suspend or None,
        "schedulingPolicy": plan.scheduling.policy,
    }
    return {k: v for k, v in given.items() if v is not None}


def _elastic_policy(plan: JobPlan) -> Document:
    """Also where the number of workers is fixed: Workers alone need no Master, and no init container that waits for it."""
    least, most = plan.elastic or (plan.num_workers, plan.num_workers)
    return {
        "rdzvBackend": "c10d",
        "rdzvId": plan.name,
        "rdzvConf": [{"key": k, "value": str(v)} for k, v in _RENDEZVOUS.items()],
        "minReplicas": least,
        "maxReplicas": most,
    }


def _replicas(plan: JobPlan) -> Document:
    template = overridden(pod_template(plan), plan.pod_overrides)
    check_output(plan, template)
    # An image that starts itself finds the others through MASTER_ADDR, which the operator sets where there is a Master.
    counts = (
        {names.MASTER: 1, names.WORKER: plan.num_workers - 1}
        if plan.self_starting
        else {names.WORKER: plan.num_workers}
    )
    return {
        role: {"replicas": count, "restartPolicy": "ExitCode", "template": template}
        for role, count in counts.items()
        if count
    }


def _secret(plan: JobPlan) -> list[Document]:
    literals = {names.secret_key(c, k): v for c in plan.containers for k, v in c.secrets.items()}
    if not literals:
        return []
    metadata = {"name": names.secret_name(plan.name), "labels": names.labels(plan.name)}
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "immutable": True,
            "type": "Opaque",
            "stringData": literals,
        }
    ]


def _config(plan: JobPlan) -> Document:
    metadata = {"name": names.config_name(plan.name), "labels": names.labels(plan.name)}
    data = {key: plan.files[name] for name, key in names.file_keys(plan).items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "immutable": True, "data": data}


def _within(document: Document, namespace: str) -> Document:
    metadata = document["metadata"]
    assert isinstance(metadata, Mapping)  # noqa: S101 - for the type checker: every manifest here has one
    return {**document, "metadata": {**metadata, "namespace": namespace}}
