"""The pod template of a job's workers."""

from __future__ import annotations

from tunewright import environment
from tunewright.backends.kubernetes import names, volumes
from tunewright.backends.kubernetes.kind import JobKind
from tunewright.environment import Paths
from tunewright.errors import RequestError
from tunewright.plan._quantity import to_number
from tunewright.plan.manifests import Document
from tunewright.plan.plan import CONFIG, PACKAGES, RUN, WORKSPACE, ContainerSpec, JobPlan
from tunewright.plan.resources import DISK, GPU, Resources
from tunewright.plan.secrets import EnvValue, SecretRef, SecretValue

_UID = 1000

# Seconds between SIGTERM and SIGKILL for the training command; the pod gets a little more, so that `run` can report the end.
_GRACE = 25
_MARGIN = 5

_PORTS = 1 << 16
_LINGER = 10  # seconds in which the controller sees that worker 0 has succeeded

_PATHS = Paths(
    workspace=WORKSPACE,
    config=CONFIG,
    run=RUN,
    packages=PACKAGES,
    termination_log="/dev/termination-log",
).to_env()

# The root file system is read-only, and uid 1000 may not be in the image's /etc/passwd.
_HOME = {"HOME": volumes.TMP, "USER": "tunewright", "TMPDIR": volumes.TMP, "HF_HOME": f"{volumes.TMP}/hf"}

_POD_SECURITY: Document = {
    "runAsNonRoot": True,
    "runAsUser": _UID,
    "runAsGroup": _UID,
    "fsGroup": _UID,
    # Without it, the kubelet walks every file of a large volume each time a pod starts.
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}

_CONTAINER_SECURITY: Document = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}

# The requests of a step before training, where the worker's resources do not say.
_STEP_REQUESTS = {"cpu": "500m", "memory": "1Gi"}


def pod_template(kind: JobKind, plan: JobPlan) -> dict[str, object]:
    """Return the template of the plan's pods, before `pod_overrides`.

    Raises:
        RequestError: the volumes, mounts or resources of the plan contradict each other.
    """
    return {
        "metadata": _given(
            labels={**names.recommended("worker"), **plan.labels, **names.labels(plan.name)},
            annotations=dict(plan.annotations),
        ),
        "spec": {
            "securityContext": _POD_SECURITY,
            **_scheduling(plan),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": _grace(plan.main) + _MARGIN,
            **_containers(kind, plan),
        },
    }


def _containers(kind: JobKind, plan: JobPlan) -> Document:
    groups = volumes.grouped(plan)
    *steps, main = (_container(kind, plan, c, groups) for c in plan.containers)
    return {
        **({"initContainers": steps} if steps else {}),
        "containers": [main],
        "volumes": volumes.pod_volumes(plan, groups),
    }


def _scheduling(plan: JobPlan) -> Document:
    where = plan.scheduling
    return _given(
        serviceAccountName=where.progress_account or where.service_account,
        priorityClassName=where.priority_class,
        runtimeClassName=where.runtime_class,
        nodeSelector=dict(where.node_selector),
        tolerations=list(where.tolerations),
        affinity=where.affinity,
        topologySpreadConstraints=list(where.topology_spread_constraints),
        hostNetwork=where.host_network or None,
        dnsPolicy="ClusterFirstWithHostNet" if where.host_network else None,
        imagePullSecrets=[{"name": name} for name in where.image_pull_secrets],
    )


def _container(kind: JobKind, plan: JobPlan, container: ContainerSpec, groups: volumes.Groups) -> Document:
    return {
        "name": kind.container_name(plan, container),
        "image": container.image,
        **_given(
            command=list(container.command),
            env=_env(kind, plan, container),
            ports=_ports(container) if container is plan.main else None,
            resources=_resources(_resources_of(plan, container)),
        ),
        "volumeMounts": volumes.mounts(plan, container, groups),
        "securityContext": _CONTAINER_SECURITY,
        # The end of the log explains a container that writes no termination message.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _env(kind: JobKind, plan: JobPlan, container: ContainerSpec) -> list[Document]:
    own = {**_HOME, **container.env, **_PATHS}
    if container is plan.main:
        own[environment.GRACE] = str(_grace(container))
        if kind.first_success_ends and plan.num_workers > 1 and not plan.self_starting:
            own[environment.LINGER] = str(_LINGER)
        if plan.scheduling.progress_account:
            own[environment.JOB_OBJECT] = f"/apis/{kind.api_version}/namespaces/{{namespace}}/{kind.plural}/{plan.name}"
    if volumes.installs_packages(plan):
        own["PYTHONPATH"] = _python_path(container.env.get("PYTHONPATH"))
    return [
        *kind.worker_name(plan),
        *(_variable(plan, container, k, v) for k, v in own.items() if k != environment.WORKER),
    ]


def _variable(plan: JobPlan, container: ContainerSpec, name: str, value: EnvValue) -> Document:
    if isinstance(value, str):
        # Kubernetes would expand $(NAME) and turn $$ into $, as in commands; a value is literal.
        return {"name": name, "value": value.replace("$", "$$")}
    if isinstance(value, SecretValue):
        value = SecretRef(name=names.secret_name(plan.name), key=names.secret_key(container, name))
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": value.name, "key": value.key}}}


def _python_path(own: EnvValue | None) -> str:
    return f"{own}:{PACKAGES}" if isinstance(own, str) and own else PACKAGES


def _grace(main: ContainerSpec) -> int:
    """Return how many seconds the training command has to exit after SIGTERM.

    Raises:
        RequestError: the user's value is not a number of seconds.
    """
    given = main.env.get(environment.GRACE, str(_GRACE))
    if not isinstance(given, str) or not given.isdecimal():
        remedy = "Write whole seconds, for example 60."
        raise RequestError("is not a number of seconds", field=f"env[{environment.GRACE!r}]", remedy=remedy)
    return int(given)


def _ports(main: ContainerSpec) -> list[Document]:
    """Return the port of the metrics, named so that a PodMonitor finds it.

    Raises:
        RequestError: the user's value is not a port.
    """
    given = main.env.get(environment.METRICS_PORT)
    if given is None:
        return []
    if not isinstance(given, str) or not given.isdecimal() or not 0 < int(given) < _PORTS:
        remedy = "Write a number between 1 and 65535, for example 9400."
        raise RequestError("is not a port", field=f"env[{environment.METRICS_PORT!r}]", remedy=remedy)
    return [{"name": "metrics", "containerPort": int(given)}]


def _resources_of(plan: JobPlan, container: ContainerSpec) -> Resources:
    """Return a container's resources; a step before training gets the worker's CPU, memory and disk, but never its GPUs.

    The steps run before the main container, so the pod requests no more than training does, and its QoS class is
    Guaranteed if it would be so without them.
    """
    if container.resources is not None:
        return container.resources
    main = plan.main.resources or Resources()
    requests = {k: v for k, v in main.requests.items() if k in (*_STEP_REQUESTS, DISK)}
    return Resources(
        cpu=main.cpu,
        memory=main.memory,
        extended={k: v for k, v in main.extended.items() if k == DISK},  # a quota asks it of every container
        requests=requests | {k: v for k, v in _STEP_REQUESTS.items() if getattr(main, k) is None and k not in requests},
    )


def _resources(resources: Resources) -> Document:
    """Return `limits` and `requests`.

    Raises:
        RequestError: more is requested than the limit allows.
    """
    limits = {
        "cpu": resources.cpu,
        "memory": resources.memory,
        GPU: resources.gpu or None,
        **resources.extended,
    }
    given = {k: str(v) for k, v in limits.items() if v is not None}
    requests = {**given, **{k: str(v) for k, v in resources.requests.items()}}
    for name, most in given.items():
        if to_number(requests[name]) > to_number(most):
            problem = f"is more than the limit of {most}"
            remedy = "Request as much as the limit, or less."
            field = f"resources_per_worker['requests'][{name!r}]"
            raise RequestError(problem, field=field, value=requests[name], remedy=remedy)
    return _given(limits=given, requests=requests)


def _given(**fields: object) -> dict[str, object]:
    """Return the fields that are not empty."""
    return {k: v for k, v in fields.items() if v is not None and v not in ({}, [])}
