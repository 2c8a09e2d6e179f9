"""The plan of a job: small frozen classes that name what a job needs in Kubernetes' words, without its client."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from tunewright._convert import to_dict, to_tuple
from tunewright.events import Json
from tunewright.plan.resources import Resources
from tunewright.plan.secrets import EnvValue, SecretValue

# Where a container finds things. A backend puts them there, and says so in the environment (see `environment`).
WORKSPACE = "/workspace"

PREPARED = f"{WORKSPACE}/prepared"
"""Where a volume that was filled before is mounted as a whole."""

CONFIG = "/etc/tunewright"

RUN = "/run/tunewright"

PACKAGES = "/opt/tunewright/packages"

RUNS, CODE = "tunewright.dev/runs", "code"
"""Label of the jobs that run the user's own code: what it prints is for the user, as a trainer's libraries' lines are not."""

MANAGED_BY, INSTANCE = "app.kubernetes.io/managed-by", "app.kubernetes.io/instance"

QUEUE = "kueue.x-k8s.io/queue-name"
"""Labels that are Tunewright's own to set."""

MAIN_STEP = "train"
"""The main container's name."""

RUNNER_FILE = "run.py"


@attrs.frozen(kw_only=True)
class Mount:
    """One folder of a volume, as a container sees it.

    Attributes:
        volume: the Volume's name in the plan.
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
    """A PersistentVolumeClaim that somebody made before; never deleted by a job."""

    claim: str
    read_only: bool = False


@attrs.frozen(kw_only=True)
class NewClaim:
    """A PersistentVolumeClaim made with the job, named `<job>-<volume>`.

    Attributes:
        size: capacity, as a Kubernetes quantity.
        storage_class: None for the cluster's default.
        access_modes: as in Kubernetes: "ReadWriteOnce", "ReadWriteMany".
        keep: whether it outlives the job. False: it is owned by the job and goes with it.
    """

    size: str
    storage_class: str | None = None
    access_modes: tuple[str, ...] = ("ReadWriteOnce",)
    keep: bool = True


@attrs.frozen(kw_only=True)
class EphemeralClaim:
    """A generic ephemeral volume: one claim for each pod, which goes with the pod."""

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
    """A volume of the job's pods: a name that mounts refer to, and where it comes from."""

    name: str
    source: VolumeSource


@attrs.frozen(kw_only=True)
class ContainerSpec:
    """One step of a job: an init container, or the main container.

    Attributes:
        name: a DNS label; also the step's name in logs and messages.
        image: a pinned image reference. The local backend has no images and ignores it.
        command: program and arguments; `$(NAME)` is replaced by that environment variable, as Kubernetes does.
            Empty: the image's own entry point.
        env: the container's own variables. A backend adds those of `tunewright.environment`.
        resources: None for the backend's default.
        mounts: the folders it sees, besides those that every container gets (configuration, scratch space).
    """

    name: str
    image: str
    command: tuple[str, ...] = attrs.field(converter=to_tuple, default=())
    env: Mapping[str, EnvValue] = attrs.field(factory=dict, converter=to_dict)
    resources: Resources | None = None
    mounts: tuple[Mount, ...] = attrs.field(converter=to_tuple, default=())

    @property
    def secrets(self) -> dict[str, SecretValue]:
        """The literal secrets among `env`, by variable."""
        return {k: v for k, v in self.env.items() if isinstance(v, SecretValue)}


@attrs.frozen(kw_only=True)
class Scheduling:
    """Where and when the pods may run. Field names and values are Kubernetes' own, in YAML's spelling.

    Attributes:
        queue: Kueue's local queue (label `kueue.x-k8s.io/queue-name`).
        priority_class: the pods' PriorityClass.
        node_selector: node labels to match.
        tolerations: Toleration objects.
        affinity: an Affinity object.
        runtime_class: the pods' RuntimeClass.
        service_account: the pods' service account; its token is not mounted.
        image_pull_secrets: names of Secrets.
        policy: the PyTorchJob's `runPolicy.schedulingPolicy` (gang scheduling).
    """

    queue: str | None = None
    priority_class: str | None = None
    node_selector: Mapping[str, str] = attrs.field(factory=dict, converter=to_dict)
    tolerations: tuple[Mapping[str, Json], ...] = attrs.field(default=(), converter=to_tuple)
    affinity: Mapping[str, Json] | None = None
    runtime_class: str | None = None
    service_account: str | None = None
    image_pull_secrets: tuple[str, ...] = attrs.field(default=(), converter=to_tuple)
    policy: Mapping[str, Json] | None = None


@attrs.frozen(kw_only=True)
class JobPlan:
    """Everything about a job that a backend needs, and nothing about any backend. Made by `assemble`, a pure function.

    Attributes:
        name: a DNS-1035 label, at most 50 characters.
        init_containers: run one after another in every worker, before `main`.
        main: what every worker runs.
        bootstrap: installs the selected plugins that their images lack. It runs before `init_containers`, on backends
            whose workers do not share the client's Python environment.
        num_workers: pods, each its own torchrun.
        num_procs_per_worker: ranks in each pod.
        self_starting: the image starts itself and reads MASTER_ADDR, RANK and WORLD_SIZE; there is no torchrun.
        elastic: least and most workers, where their number may change.
        files: the job's configuration, file name → text, with "/" for one in a folder; the containers find it in
            `$(TUNEWRIGHT_CONFIG)`.
        volumes: what `mounts` refer to.
        secret_variables: the variables in which the selected providers take their secrets. A backend whose processes
            begin with the user's environment leaves them out: a container has those alone that it was given.
        labels: for the job and its pods.
        annotations: for the job and its pods.
        scheduling: where and when the pods may run.
        max_restarts: how often a worker that was lost or crashed is started again without a new checkpoint.
        deadline: seconds that the job may take; none pass while it is suspended.
        ttl: seconds after which the finished job is deleted.
        suspend: whether it is created suspended.
        output: URI that the result is uploaded to; None leaves it in the output slot.
        pod_overrides: a strategic patch of the pod template, applied last, at render.
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
    max_restarts: int = 3
    deadline: int | None = None
    ttl: int | None = None
    suspend: bool = False
    output: str | None = None
    pod_overrides: Mapping[str, Json] = attrs.field(factory=dict, converter=to_dict)

    @property
    def containers(self) -> tuple[ContainerSpec, ...]:
        """Every container of a worker, in the order in which they start."""
        return (*([self.bootstrap] if self.bootstrap else []), *self.init_containers, self.main)
