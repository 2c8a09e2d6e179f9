"""Rendering: a plan becomes the manifests of a job and of what belongs to it. Pure; no Kubernetes client is needed."""

from __future__ import annotations

from collections.abc import Mapping

from tunewright.backends.kubernetes import names, volumes
from tunewright.backends.kubernetes.check import check_output, check_plan
from tunewright.backends.kubernetes.kind import JobKind, Object
from tunewright.backends.kubernetes.overrides import overridden
from tunewright.backends.kubernetes.pod import pod_template
from tunewright.plan.manifests import Document, Manifests
from tunewright.plan.plan import JobPlan
from tunewright.status.report import model_in


def render(kind: JobKind, plan: JobPlan, namespace: str | None, base: Object | None = None) -> Manifests:
    """Render the manifests in the order in which they are created, without owner references, which only submit can know.

    Args:
        kind: of the job.
        plan: the job.
        namespace: where; None leaves it to whoever applies them.
        base: the object of the cluster on which the plan bases its pods; None for none, or without a cluster.

    Raises:
        RequestError: the plan has something that a job of this kind cannot do.
    """
    check_plan(kind, plan)
    kind.check(plan)
    owned = [*kind.companions(plan), *_secret(plan), _config(plan), *volumes.claims(plan)]
    template = overridden(pod_template(kind, plan), plan.pod_overrides)
    check_output(kind, plan, template)
    job = kind.job(plan, _metadata(plan, owned), template)
    documents = [*kind.foundations(plan, template, base), job, *owned]
    return Manifests([_within(d, namespace) for d in documents] if namespace else documents)


def _metadata(plan: JobPlan, owned: list[Document]) -> Document:
    output, model = volumes.output_uri(plan), model_in(plan.files)
    return {
        "name": plan.name,
        "labels": {
            **names.recommended("job"),
            **plan.labels,
            **names.labels(plan.name),
            **({names.QUEUE: plan.scheduling.queue} if plan.scheduling.queue else {}),
        },
        "annotations": {
            **plan.annotations,
            **({names.MODEL: model} if model else {}),
            **({names.OUTPUT: output} if output else {}),
            **({names.WAIT_FOR: str(plan.run_policy.wait_for)} if plan.run_policy.wait_for else {}),
            names.OBJECTS: ",".join(names.object_id(d) for d in owned),
        },
    }


def _secret(plan: JobPlan) -> list[Document]:
    literals = {names.secret_key(c, k): v for c in plan.containers for k, v in c.secrets.items()}
    if not literals:
        return []
    metadata = {"name": names.secret_name(plan.name), "labels": names.all_labels(plan.name, "secrets")}
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
    metadata = {"name": names.config_name(plan.name), "labels": names.all_labels(plan.name, "configuration")}
    data = {key: plan.files[name] for name, key in names.file_keys(plan).items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "immutable": True, "data": data}


def _within(document: Document, namespace: str) -> Document:
    metadata = document["metadata"]
    assert isinstance(metadata, Mapping)  # noqa: S101 - for the type checker: every manifest here has one
    return {**document, "metadata": {**metadata, "namespace": namespace}}
