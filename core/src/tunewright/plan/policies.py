"""Where, when and how often a job runs: values that travel from the user's keywords to the manifest as they are.

An option is a field here (with its validator and its line of documentation), a key of the keywords' `TypedDict`, and a line
of the renderer that knows its name in a manifest. Everything else follows from these fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

from tunewright.events import Json
from tunewright.plan import _checks as check

DURATION = "tunewright.duration"
"""Key of the metadata of fields in seconds that may be written with a unit."""

_DURATION = "Give seconds, or a number with a unit: 30m, 1h, 1h30m, 7d."
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_PARTS = re.compile("".join(rf"(?:(\d+(?:\.\d+)?){unit})?" for unit in _UNITS))


def to_seconds(value: Any) -> Any:
    """Convert "1h30m", "90s" or "3600" to whole seconds. The validator sees anything else as it is."""
    if not isinstance(value, str) or not value.strip():
        return value
    text = value.strip().lower().replace(" ", "")
    if text.isdecimal():
        return int(text)
    found = _PARTS.fullmatch(text)
    return (
        round(sum(float(n) * u for n, u in zip(found.groups(), _UNITS.values(), strict=True) if n)) if found else value
    )


def _check_only_account(scheduling: Scheduling, attribute: check.Attribute, value: object) -> None:
    """Accept an account that no other one contradicts."""
    if value is not None and scheduling.service_account not in (None, value):
        problem = f"is not service_account={scheduling.service_account!r}, and a pod has one ServiceAccount"
        check.refuse(problem, attribute, value, "Give one of them, with the rights of both.")


@attrs.frozen(kw_only=True)
class Scheduling:
    """Where and when the pods may run. Values that are objects are Kubernetes' own, in YAML's spelling.

    Attributes:
        queue: name of Kueue's LocalQueue.
        priority_class: name of the pods' PriorityClass.
        node_selector: labels that a node must have.
        tolerations: Kubernetes Toleration objects.
        affinity: a Kubernetes Affinity object.
        topology_spread_constraints: Kubernetes TopologySpreadConstraint objects. The pods of a job share the label
            `app.kubernetes.io/instance`, whose value is the job's name.
        runtime_class: name of the pods' RuntimeClass.
        runtime: name of a TrainingRuntime of the namespace, or of a ClusterTrainingRuntime, on whose pods those of a TrainJob are
            based: what the job does not set itself, such as limits, further containers and node selectors, is as there.
        scheduling_policy: the PyTorchJob's `schedulingPolicy`, for gang scheduling.
        host_network: whether the pods use the network of their node, as RDMA and InfiniBand may need. The Pod Security levels
            `baseline` and `restricted` forbid it.
        service_account: name of the pods' ServiceAccount, whose token is not mounted.
        progress_account: name of a ServiceAccount as which the container that trains writes its progress into the job's annotation
            `tunewright.dev/progress`. It is the pods' ServiceAccount, then, and that container alone gets its token.
        image_pull_secrets: names of Secrets with which images are pulled.
        shm_size: most of `/dev/shm`, as a Kubernetes quantity: "16Gi"; None for as much as the container's memory.
        tmp_size: most of `/tmp`, likewise; None for as much as `ephemeral-storage` of `resources_per_worker`, or the node.
    """

    queue: str | None = attrs.field(default=None, validator=check.check_object_name)
    priority_class: str | None = attrs.field(default=None, validator=check.check_object_name)
    node_selector: Mapping[str, str] = attrs.field(
        default=None, converter=check.to_mapping, validator=[check.check_mapping, check.check_labels]
    )
    tolerations: tuple[Mapping[str, Json], ...] = attrs.field(
        default=(),
        converter=check.to_list,
        validator=[check.check_list_of(dict, '[{"key": "gpu", "operator": "Exists"}]'), check.check_manifest],
    )
    affinity: Mapping[str, Json] | None = attrs.field(
        default=None, converter=check.copied, validator=check.check_object
    )
    topology_spread_constraints: tuple[Mapping[str, Json], ...] = attrs.field(
        default=(),
        converter=check.to_list,
        validator=[
            check.check_list_of(dict, '[{"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}]'),
            check.check_manifest,
        ],
    )
    runtime_class: str | None = attrs.field(default=None, validator=check.check_object_name)
    runtime: str | None = attrs.field(default=None, validator=check.check_object_name)
    scheduling_policy: Mapping[str, Json] | None = attrs.field(
        default=None, converter=check.copied, validator=check.check_object
    )
    host_network: bool = attrs.field(default=False, validator=check.check_flag)
    service_account: str | None = attrs.field(default=None, validator=check.check_object_name)
    progress_account: str | None = attrs.field(default=None, validator=[check.check_object_name, _check_only_account])
    image_pull_secrets: tuple[str, ...] = attrs.field(
        default=(), converter=check.to_list, validator=check.check_list_of(str, '["registry-login"]')
    )
    shm_size: str | int | None = attrs.field(default=None, validator=check.check_size)
    tmp_size: str | int | None = attrs.field(default=None, validator=check.check_size)


@attrs.frozen(kw_only=True)
class RunPolicy:
    """How often and how long a job may run, and what becomes of it.

    Attributes:
        max_restarts: restarts of a lost or crashed worker without a new checkpoint before the job fails.
        ttl: time after which the finished job is deleted: seconds, or "30m", "1h", "7d".
        deadline: time that the job may take, likewise; none passes while it is suspended.
        wait_for: time that it may wait for what keeps its pods from starting, likewise: a node, an image, a volume. It fails
            then, with what it waited for. The time in a queue does not count. None waits for ever.
        suspend: whether to create it suspended.
    """

    max_restarts: int = attrs.field(default=3, validator=check.at_least(0, "Write 0 to fail at the first crash."))
    ttl: int | None = attrs.field(
        default=None,
        converter=to_seconds,
        validator=attrs.validators.optional(check.at_least(0, _DURATION)),
        metadata={DURATION: True},
    )
    deadline: int | None = attrs.field(
        default=None,
        converter=to_seconds,
        validator=attrs.validators.optional(check.at_least(1, _DURATION)),
        metadata={DURATION: True},
    )
    wait_for: int | None = attrs.field(
        default=None,
        converter=to_seconds,
        validator=attrs.validators.optional(check.at_least(1, _DURATION)),
        metadata={DURATION: True},
    )
    suspend: bool = attrs.field(default=False, validator=check.check_flag)
