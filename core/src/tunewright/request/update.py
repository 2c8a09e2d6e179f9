"""Changes to a submitted job, checked before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import attrs

from tunewright.errors import RequestError, did_you_mean
from tunewright.plan import _checks as check
from tunewright.plan.plan import INSTANCE, MANAGED_BY, QUEUE
from tunewright.plan.policies import DURATION, RunPolicy, Scheduling, to_seconds
from tunewright.request.request import POLICIES, CodeRequest, TrainRequest

_FIXED = {
    *(name for cls in (TrainRequest, CodeRequest, *POLICIES.values()) for name in attrs.fields_dict(cls)),
    *("train_func", "script", "base_image", "args", "parameters", "manifest", "job"),
}
"""What `train()` and `create_job()` take."""

_OURS = ("tunewright.dev/", "training.kubeflow.org/")


class UpdateOptions(TypedDict, total=False):
    """The keywords of `update_job()`: the fields of `JobUpdate`, which documents them."""

    labels: Mapping[str, str | None]
    annotations: Mapping[str, str | None]
    queue: str
    priority_class: str
    ttl: int | str
    deadline: int | str
    max_restarts: int


def _check_names(instance: object, attribute: Any, value: Mapping[str, str | None]) -> None:
    check.check_mapping(instance, attribute, value)
    check.check_labels(instance, attribute, {k: "" if v is None else v for k, v in value.items()})
    for name in value:
        if name.startswith(_OURS) or name in (MANAGED_BY, INSTANCE):
            field = f"{attribute.name}[{name!r}]"
            raise RequestError("identifies the job", field=field, remedy="Choose another name.")
        if name == QUEUE:
            raise RequestError("is the job's queue", field=f"{attribute.name}[{name!r}]", remedy="Use queue=.")


def _field(policy: type[attrs.AttrsInstance], name: str) -> Any:
    """Return a field that takes what the field of a policy takes, or None for no change."""
    field = attrs.fields_dict(policy)[name]
    validator = attrs.validators.optional(field.validator) if field.validator else None
    return attrs.field(default=None, converter=to_seconds if DURATION in field.metadata else None, validator=validator)


@attrs.frozen(kw_only=True)
class JobUpdate:
    """What to change; None leaves it as it is.

    Attributes:
        labels: labels of the job, not of its pods; they are added to those it has, and None removes one.
        annotations: annotations of the job, likewise.
        queue: Kueue's LocalQueue.
        priority_class: the pods' PriorityClass.
        ttl: time after which the finished job is deleted: seconds, or "30m", "1h", "7d".
        deadline: time that the job may take, likewise; none passes while it is suspended.
        max_restarts: restarts without a new checkpoint before the job fails.
    """

    labels: Mapping[str, str | None] = attrs.field(default=None, converter=check.to_mapping, validator=_check_names)
    annotations: Mapping[str, str | None] = attrs.field(
        default=None, converter=check.to_mapping, validator=_check_names
    )
    queue: str | None = _field(Scheduling, "queue")
    priority_class: str | None = _field(Scheduling, "priority_class")
    ttl: int | None = _field(RunPolicy, "ttl")
    deadline: int | None = _field(RunPolicy, "deadline")
    max_restarts: int | None = _field(RunPolicy, "max_restarts")

    def given(self, *names: str) -> list[str]:
        """Return which of these fields change."""
        return [name for name in names if getattr(self, name) is not None]


# Its keywords are the user's: attrs' validators check them.
_update: Callable[..., JobUpdate] = JobUpdate


def job_update(command_for: Callable[[str], str], options: Mapping[str, object]) -> JobUpdate:
    """Check the arguments of `update_job()`.

    Args:
        command_for: returns what to type to run a command on the job.
        options: the arguments.

    Raises:
        RequestError: something cannot be changed, a value is wrong, or there is nothing to change.
    """
    known = list(attrs.fields_dict(JobUpdate))
    for option in options:
        if option == "suspend":
            remedy = f"Use suspend_job() and resume_job(), or {command_for('suspend')}."
            raise RequestError("cannot be changed by an update", field=option, remedy=remedy)
        if option in _FIXED and option not in known:
            remedy = f"You can change {', '.join(known)}. Delete the job and submit it again: {command_for('delete')}"
            raise RequestError("cannot be changed after submission", field=option, remedy=remedy)
        if option not in known:
            raise RequestError("is not an argument", field=option, remedy=did_you_mean(option, known))
    update = _update(**options)
    if update == JobUpdate():
        raise RequestError("has nothing to change", field="update_job()", remedy=f"Give {' or '.join(known)}.")
    return update
