"""Changes of a job that is there: which there may be, checked before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import attrs

from tunewright.errors import RequestError, did_you_mean
from tunewright.plan.plan import INSTANCE, MANAGED_BY, QUEUE
from tunewright.request import _validate as check
from tunewright.request.request import CodeRequest, TrainRequest

_FIXED = {
    *attrs.fields_dict(TrainRequest),
    *attrs.fields_dict(CodeRequest),
    *("train_func", "script", "base_image", "args", "parameters", "job"),
}
"""What `train()` and `create_job()` take."""

_OURS = ("tunewright.dev/", "training.kubeflow.org/")


class UpdateOptions(TypedDict, total=False):
    """The keywords of `update_job()`: the fields of `JobUpdate`, which documents them."""

    labels: Mapping[str, str | None]
    annotations: Mapping[str, str | None]
    queue: str
    priority_class: str
    ttl: int
    deadline: int
    max_restarts: int


def _check_names(instance: object, attribute: Any, value: Mapping[str, str | None]) -> None:
    check.check_mapping(instance, attribute, value)
    check.check_labels(instance, attribute, {k: "" if v is None else v for k, v in value.items()})
    for name in value:
        if name.startswith(_OURS) or name in (MANAGED_BY, INSTANCE):
            field = f"{attribute.name}[{name!r}]"
            raise RequestError("is what the job is found by", field=field, remedy="Choose another name.")
        if name == QUEUE:
            raise RequestError("is the job's queue", field=f"{attribute.name}[{name!r}]", remedy="Use queue=.")


@attrs.frozen(kw_only=True)
class JobUpdate:
    """What is to be different; None leaves it as it is.

    Attributes:
        labels: of the job alone, not of its pods; they are added to those that are there, and None removes one.
        annotations: likewise.
        queue: Kueue's local queue.
        priority_class: the pods' PriorityClass.
        ttl: seconds after which the finished job is deleted.
        deadline: seconds that the job may take; none pass while it is suspended.
        max_restarts: restarts without a new checkpoint before the job fails.
    """

    labels: Mapping[str, str | None] = attrs.field(default=None, converter=check.to_mapping, validator=_check_names)
    annotations: Mapping[str, str | None] = attrs.field(
        default=None, converter=check.to_mapping, validator=_check_names
    )
    queue: str | None = attrs.field(default=None, validator=check.check_object_name)
    priority_class: str | None = attrs.field(default=None, validator=check.check_object_name)
    ttl: int | None = attrs.field(default=None, validator=attrs.validators.optional(check.at_least(0, "Give seconds.")))
    deadline: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(check.at_least(1, "Give seconds."))
    )
    max_restarts: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(check.at_least(0, "Write 0 to fail at the first crash."))
    )

    def given(self, *names: str) -> list[str]:
        """Which of these fields are to be different."""
        return [name for name in names if getattr(self, name) is not None]


# Its keywords are the user's: attrs' validators check them.
_update: Callable[..., JobUpdate] = JobUpdate


def job_update(command_for: Callable[[str], str], options: Mapping[str, object]) -> JobUpdate:
    """The checked update that `update_job()` makes of its arguments.

    Args:
        command_for: a command → what to type to do that with the job.
        options: the arguments.

    Raises:
        RequestError: something cannot be changed, or has a wrong value, or nothing is to be changed.
    """
    known = list(attrs.fields_dict(JobUpdate))
    for option in options:
        if option == "suspend":
            remedy = f"Use suspend_job() and resume_job(), or {command_for('suspend')}."
            raise RequestError("is not changed by an update", field=option, remedy=remedy)
        if option in _FIXED and option not in known:
            remedy = f"Changeable are {', '.join(known)}. Delete the job and submit it anew: {command_for('delete')}"
            raise RequestError("cannot be changed any more: the job is made of it", field=option, remedy=remedy)
        if option not in known:
            raise RequestError("is not an argument", field=option, remedy=did_you_mean(option, known))
    update = _update(**options)
    if update == JobUpdate():
        raise RequestError("there is nothing to change", field="update_job()", remedy=f"Give {' or '.join(known)}.")
    return update
