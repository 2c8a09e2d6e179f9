"""The plan of a job: small frozen classes that describe what a job needs in Kubernetes' terms, without its client."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from tunewright._convert import to_dict, to_tuple
from tunewright.events import Json
from tunewright.plan.policies import RunPolicy, Scheduling
from tunewright.plan.resources import Resources
from tunewright.plan.secrets import EnvValue, SecretValue

# The paths in a container. A backend mounts them, and names them in the environment (see `environment`).
WORKSPACE = "/workspace"
PREPARED = f"{WORKSPACE}/prepared"
"""Where a volume that was filled beforehand is mounted as a whole."""

CONFIG = "/etc/tunewright"
RUN = "/run/tunewright"
PACKAGES = "/opt/tunewright/packages"

RUNS, CODE = "tunewright.dev/runs", "code"
"""Label of jobs that run the user's own code: their output is shown, unlike the log lines of a trainer's libraries."""

MANAGED_BY, INSTANCE = "app.kubernetes.io/managed-by", "app.kubernetes.io/instance"
QUEUE = "kueue.x-k8s.io/queue-name"
"""Labels that only Tunewright sets."""

RECOMMENDED = tuple(f"app.kubernetes.io/{name}" for name in ("name", "part-of", "component"))
"""Labels that Tunewright sets unless the user does, for tools that group objects by them."""

MAIN_STEP = "train"
"""The name of the main container."""

RUNNER_FILE = "run.py"

JOB_FILE = "job.json"
"""The configuration file with the job file that repeats the job. No container reads it."""


@attrs.frozen(kw_only=True)
class Mount:
    """One folder of a volume, mounted into a container.

    Attributes:
        volume: name of the Volume in the plan.
        path: absolute path in the container.
        sub_path: folder within the volume; "" is its root.
        read_only: whether writes are refused.
    """

    volume: str
    path: str
    sub_path: str = ""
    read_only: bool = False


@attrs.frozen(kw_only=True)
class ExistingClaim:
    """A PersistentVolumeClaim that already exists; a job never deletes it."""

    claim: str
    read_only: bool = False


@attrs.frozen(kw_only=True)
class NewClaim:
    """A PersistentVolumeClaim that is created with the job, named `<job>-<volume>`.

    Attributes:
        size: capacity, as a Kubernetes quantity.
        storage_class: None for the cluster's default.
        access_modes: as in Kubernetes: "ReadWriteOnce", "ReadWriteMany".
        keep: whether it outlives the job. False: the job owns it, and it is deleted with the job.
    """

    size: str
    storage_class: str | None = None
    access_modes: tuple[str, ...] = ("ReadWriteOnce",)
    keep: bool = True


@attrs.frozen(kw_only=True)
class EphemeralClaim:
    """A generic ephemeral volume: a claim for each pod, which is deleted with the pod."""

    size: str
    storage_class: str | None = None


@attrs.frozen(kw_only=True)
class EmptyDir:
    """Scratch space of the pod; `medium="Memory"` is a tmpfs."""

    medium: str = ""
    size_limit: str | None = None


VolumeSource = ExistingClaim | NewClaim | EphemeralClaim | EmptyDir


@attrs.frozen(kw_only=True)
class Volume:
    """A volume of the pods: a name that mounts refer to, and its source."""

    name: str
    source: VolumeSource


@attrs.frozen(kw_only=True)
class ContainerSpec:
    """One step of a job: an init container, or the main container.

    Attributes:
        name: a DNS label, and the name of the step in logs and messages.
        image: a pinned image reference. The local backend has no images and ignores it.
        command: program and arguments; `$(NAME)` is replaced by that environment variable, as Kubernetes does.
            If it is empty, the image's own entry point runs.
        env: environment variables. A backend adds those of `tunewright.environment`.
        resources: None for the backend's default.
        mounts: folders of volumes, besides those that every container gets (configuration, scratch space).
    """

    name: str
    image: str
    command: tuple[str, ...] = attrs.field(converter=to_tuple, default=())
    env: Mapping[str, EnvValue] = attrs.field(factory=dict, converter=to_dict)
    resources: Resources | None = None
    mounts: tuple[Mount, ...] = attrs.field(converter=to_tuple, default=())

    @property
    def secrets(self) -> dict[str, SecretValue]:
        """The literal secrets in `env`, by variable."""
        return {k: v for k, v in self.env.items() if isinstance(v, SecretValue)}


@attrs.frozen(kw_only=True)
class JobPlan:
    """Everything that a backend needs to know about a job, and nothing about any backend. The pure `assemble` makes it.

    Attributes:
        name: a DNS-1035 label, at most 50 characters.
        init_containers: the containers that run one after another in every worker, before `main`.
        main: the container that every worker runs.
        bootstrap: the container that installs selected plugins which their images lack. It runs before `init_containers`,
            on backends whose workers do not share the client's Python environment.
        num_workers: pods, each with its own torchrun.
        num_procs_per_worker: ranks in each pod.
        self_starting: the image starts itself and reads MASTER_ADDR, RANK and WORLD_SIZE; there is no torchrun.
        elastic: least and most workers, where their number may change.
        files: the job's configuration, file name → text, with "/" for one in a folder; the containers find it in
            `$(TUNEWRIGHT_CONFIG)`.
        volumes: the volumes that mounts refer to.
        secret_variables: the environment variables that the selected providers read secrets from. A backend whose processes
            inherit the user's environment removes them: a container only has the secrets that it was given.
        labels: labels of the job and its pods.
        annotations: annotations of the job and its pods.
        scheduling: where and when the pods may run.
        run_policy: how often and how long the job may run.
        output: URI that the result is uploaded to; None leaves it in the output slot.
        pod_overrides: a strategic merge patch of the pod template, applied last, when it is rendered.
    """

    name: str
    init_containers: tuple[ContainerSpec, ...] = attrs.field(converter=to_tuple)
    main: ContainerSpec
    bootstrap: ContainerSpec | None = None
    num_workers: int = 1
    num_procs_per_worker: int = 1
    self_starting: bool = False
    elastic: tuple[int, int] | None = None
    files: Mapping[str, str] = attrs.field(factory=dict, converter=to_dict)
    volumes: tuple[Volume, ...] = attrs.field(converter=to_tuple, default=())
    secret_variables: tuple[str, ...] = attrs.field(converter=to_tuple, default=())
    labels: Mapping[str, str] = attrs.field(factory=dict, converter=to_dict)
    annotations: Mapping[str, str] = attrs.field(factory=dict, converter=to_dict)
    scheduling: Scheduling = attrs.field(factory=Scheduling)
    run_policy: RunPolicy = attrs.field(factory=RunPolicy)
    output: str | None = None
    pod_overrides: Mapping[str, Json] = attrs.field(factory=dict, converter=to_dict)

    @property
    def containers(self) -> tuple[ContainerSpec, ...]:
        """All containers of a worker, in the order in which they start."""
        return (*([self.bootstrap] if self.bootstrap else []), *self.init_containers, self.main)
