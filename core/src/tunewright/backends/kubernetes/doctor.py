"""Check what a job needs from the cluster: a connection, rights, the controller, storage classes, queues."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import metadata

from tunewright.backends.base import Finding
from tunewright.backends.kubernetes.api import Api
from tunewright.backends.kubernetes.failures import ApiFailure, explanation
from tunewright.backends.kubernetes.kind import JobKind, Object
from tunewright.plan import images
from tunewright.plan.plan import MAIN_STEP, ContainerSpec, EphemeralClaim, JobPlan, NewClaim, Volume
from tunewright.request.request import generated_name

_JOB_RIGHTS = ("create", "get", "list", "watch", "patch", "delete")

_RIGHTS: Mapping[str, tuple[str, ...]] = {
    "pods": ("get", "list", "watch"),
    "pods/log": ("get",),
    "events": ("list",),
    "secrets": ("create",),
    "configmaps": ("create", "get"),
    "persistentvolumeclaims": ("create", "get", "list", "delete"),
}
"""What a user needs in a namespace, whatever kind of job it is: resource, with its group → verbs."""

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_GRANTED = "deploy/rbac/doctor.yaml grants the right to see it. Jobs do not need that right."
_KUEUE = "kueue.x-k8s.io"
_ENFORCE = "pod-security.kubernetes.io/enforce"


def diagnose(api: Api, plan: JobPlan, document: Object) -> Iterator[Finding]:
    """Check the cluster as far as the user's rights allow. Nothing is created.

    Args:
        api: the connection to the namespace in which jobs will run.
        plan: the job to check, or a small sample job.
        document: the first object that is created for it.
    """
    yield from _images(plan)
    try:
        version = api.ask("/version")["gitVersion"]
        missing = _missing_rights(api)
    except ApiFailure as failure:
        yield _refused("cluster", failure, plan.name, api)
        return
    yield Finding(about="cluster", level="ok", text=f"Kubernetes {version} responds; the namespace is {api.namespace}.")
    yield _rights(missing, api)
    yield _operator(api, document, may_create="create" not in missing.get(api.kind.resource, ()))
    yield from _pod_security(api, plan)
    yield from _storage(api, plan)
    if plan.scheduling.queue:
        yield _queue(api, plan.scheduling.queue)


def sample_plan() -> JobPlan:
    """Return a small job that needs what most jobs need."""
    main = ContainerSpec(name=MAIN_STEP, image=images.trainer(gpus=0), command=("python",))
    return JobPlan(
        name="doctor", init_containers=(), main=main, volumes=[Volume(name="work", source=NewClaim(size="1Gi"))]
    )


def rights(kind: JobKind) -> dict[str, tuple[str, ...]]:
    """Return all that a user needs in a namespace: resource, with its group → verbs. The kind's role in deploy/rbac grants it."""
    return {kind.resource: _JOB_RIGHTS, **_RIGHTS, **kind.further_rights}


def _images(plan: JobPlan) -> Iterator[Finding]:
    """Check that our own images hold the versions that are installed here."""
    used = sorted(
        {c.image for c in plan.containers} & {images.storage(), images.trainer(gpus=0), images.trainer(gpus=1)}
    )
    others = []
    for name in sorted(images.BUNDLED):
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if installed != images.VERSION:
            others.append(f"{name} {installed}")
    if used and others:
        text = f"The images contain version {images.VERSION}, but {', '.join(others)} is installed here: pods refuse to mix versions."
        remedy = (
            f"Install the images' version: pip install {' '.join(f'{o.split()[0]}=={images.VERSION}' for o in others)}"
        )
        yield Finding(about="images", level="problem", text=text, remedy=remedy)
    elif used:
        yield Finding(about="images", level="ok", text=f"Containers run in {', '.join(used)}.")


def _missing_rights(api: Api) -> dict[str, list[str]]:
    denied = {resource: [v for v in verbs if not api.may(v, resource)] for resource, verbs in rights(api.kind).items()}
    return {resource: verbs for resource, verbs in denied.items() if verbs}


def _rights(missing: Mapping[str, list[str]], api: Api) -> Finding:
    namespace, role = api.namespace, api.kind.role
    if not missing:
        text = f"You have all rights that jobs need in namespace {namespace!r}."
        return Finding(about="rights", level="ok", text=text)
    listed = "; ".join(f"{', '.join(verbs)} {resource}" for resource, verbs in missing.items())
    text = f"In namespace {namespace!r} you lack these rights: {listed}."
    remedy = f"Ask your cluster admin to bind the role of {role} to you, or choose another namespace."
    return Finding(about="rights", level="problem", text=text, remedy=remedy)


def _operator(api: Api, document: Object, *, may_create: bool) -> Finding:
    """Submit the job as a dry run: the API server validates its fields, and the controller's webhook must respond."""
    kind = api.kind
    try:
        served = api.ask(f"/apis/{kind.api_version}")["resources"]
        for version in kind.needs:
            api.ask(f"/apis/{version}")
        if may_create:
            api.create({**document, "metadata": {**document["metadata"], "name": generated_name("doctor")}}, dry=True)
    except ApiFailure as failure:
        return _refused("operator", failure, document["metadata"]["name"], api)
    if not any(resource["kind"] == kind.kind for resource in served):
        return _refused("operator", ApiFailure(404, "page not found"), document["metadata"]["name"], api)
    if not may_create:
        text = f"{kind.kind} {kind.api_version} is installed. Without the right to create one, nothing more can be checked."
        return Finding(about="operator", level="note", text=text)
    text = f"{kind.kind} {kind.api_version} is installed and accepted a dry run."
    return Finding(about="operator", level="ok", text=text)


def _pod_security(api: Api, plan: JobPlan) -> Iterator[Finding]:
    """Whether the namespace's Pod Security lets the pods run, with what the controller adds to them."""
    labels = _labels_of_namespace(api)
    if labels is None or _ENFORCE not in labels:
        return
    enforced = labels[_ENFORCE]
    text = f"Pod Security enforces {enforced!r}."
    if reason := api.kind.unsafe_under(enforced, plan):
        problem = f"{text} {reason}"
        remedy = "Give a script or a function, which run as workers alone; or use another namespace."
        yield Finding(about="pod security", level="problem", text=problem, remedy=remedy)
    else:
        yield Finding(about="pod security", level="ok", text=text)


def _labels_of_namespace(api: Api) -> Mapping[str, str] | None:
    try:
        found = api.find("Namespace", api.namespace, metadata=True)
    except ApiFailure:
        return None  # it may not be asked
    return None if found is None else found["metadata"].get("labels") or {}


def _storage(api: Api, plan: JobPlan) -> Iterator[Finding]:
    sources = [v.source for v in plan.volumes if isinstance(v.source, NewClaim | EphemeralClaim)]
    try:
        classes = api.list("StorageClass", {}).items
    except ApiFailure as failure:
        text = f"The storage classes cannot be listed: {failure.message}."
        yield Finding(about="storage", level="note", text=text, remedy=_GRANTED)
        return
    known = {c["metadata"]["name"]: c for c in classes}
    default = next((n for n, c in known.items() if _is_default(c)), None)
    for name in dict.fromkeys(source.storage_class for source in sources):
        yield _class_finding(name, default, known)
    if any(isinstance(s, NewClaim) and "ReadWriteMany" in s.access_modes for s in sources):
        text = "The job needs a ReadWriteMany claim. Kubernetes does not say which storage classes support that."
        yield Finding(about="storage", level="note", text=text, remedy="Ask your cluster admin.")


def _class_finding(name: str | None, default: str | None, known: Mapping[str, Object]) -> Finding:
    listed = ", ".join(known) or "none"
    if name is None and default is None:
        text = f"The cluster has no default storage class, so a claim that names none waits forever. Its classes: {listed}."
        return Finding(about="storage", level="problem", text=text, remedy="Give storage={'storage_class': …}.")
    if name is not None and name and name not in known:
        text = f"The cluster has no storage class {name!r}. Its classes: {listed}."
        return Finding(
            about="storage", level="problem", text=text, remedy="Choose one of them: storage={'storage_class': …}."
        )
    chosen = name if name is not None else default
    found = known.get(chosen or "")
    about = f" ({found['provisioner']}, {found.get('volumeBindingMode', 'Immediate')})" if found else ""
    return Finding(about="storage", level="ok", text=f"The job's claims use storage class {chosen!r}{about}.")


def _queue(api: Api, name: str) -> Finding:
    """Check that Kueue has the queue: without Kueue the job starts at once, without the queue it waits forever."""
    try:
        version = api.ask(f"/apis/{_KUEUE}")["preferredVersion"]["groupVersion"]
        api.ask(f"/apis/{version}/namespaces/{api.namespace}/localqueues/{name}")
    except ApiFailure as failure:
        if failure.no_such_path:
            text = f"Kueue is not installed, so queue {name!r} has no effect: the job would start at once."
            return Finding(
                about="queue",
                level="problem",
                text=text,
                remedy="Leave out queue=, or ask your cluster admin to install Kueue.",
            )
        if failure.no_such_object:
            text = f"Kueue has no local queue {name!r} in namespace {api.namespace!r}: the job would wait forever."
            remedy = "Choose another queue=, or ask your cluster admin to create it."
            return Finding(about="queue", level="problem", text=text, remedy=remedy)
        text = f"Queue {name!r} cannot be read: {failure.message}."
        return Finding(about="queue", level="note", text=text, remedy=_GRANTED)
    return Finding(about="queue", level="ok", text=f"Kueue has the local queue {name!r}.")


def _is_default(document: Object) -> bool:
    return (document["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"


def _refused(about: str, failure: ApiFailure, name: str, api: Api) -> Finding:
    _, cause, remedy = explanation(failure, api.kind, name, api.namespace)
    return Finding(about=about, level="problem", text=cause, remedy=remedy)
