"""What is wrong with a plan that somebody else's code has made: classes check their own fields, and a plan's are any."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import attrs

from tunewright.errors import RequestError
from tunewright.plan import _checks as check
from tunewright.plan._names import is_object_name
from tunewright.plan.plan import ContainerSpec, JobPlan, Volume
from tunewright.plan.policies import RunPolicy, Scheduling
from tunewright.plan.secrets import SecretRef, SecretValue
from tunewright.runner.messages import forms_of

_VARIABLE = re.compile(r"[-._A-Za-z][-._A-Za-z0-9]*")
_LONGEST_LABEL = 63


def plan_problem(plan: JobPlan) -> str:
    """Return the first thing that is wrong with a plan, as a clause; "" if it is valid."""
    try:
        return next(_problems(plan), "")
    except RequestError as error:
        return str(error).rstrip(".")


def shown_secret(before: JobPlan, after: JobPlan) -> str:
    """Return the variable whose literal secret a changed plan shows, in whatever form, and the plan before did not; "" if none."""
    shown, shown_before = repr(after), repr(before)
    for container in before.containers:
        for name, value in container.env.items():
            forms = forms_of(value.reveal()) if isinstance(value, SecretValue) else ()
            in_repr = {text for form in forms for text in (form, repr(form)[1:-1])}
            if any(text in shown and text not in shown_before for text in in_repr):
                return name
    return ""


def _problems(plan: JobPlan) -> Iterator[str]:
    fields = attrs.fields(JobPlan)
    if not _is_label(plan.name):
        yield f"its name is {plan.name!r}"
    for field in (fields.labels, fields.annotations):
        check.check_mapping(plan, field, getattr(plan, field.name))
        check.check_labels(plan, field, getattr(plan, field.name))
    check.check_object(plan, fields.pod_overrides, plan.pod_overrides)
    for name, cls in {"scheduling": Scheduling, "run_policy": RunPolicy, "main": ContainerSpec}.items():
        if not isinstance(getattr(plan, name), cls):
            yield f"its {name} is a {type(getattr(plan, name)).__name__}, not a {cls.__name__}"
    for name in ("num_workers", "num_procs_per_worker"):
        number = getattr(plan, name)
        if type(number) is not int or number < 1:
            yield f"its {name} is {number!r}"
    yield from _volume_problems(plan)
    yield from _container_problems(plan)
    for file, text in plan.files.items():
        if not isinstance(file, str) or not isinstance(text, str):
            yield f"its file {file!r} is not text"


def _volume_problems(plan: JobPlan) -> Iterator[str]:
    for volume in plan.volumes:
        if not isinstance(volume, Volume):
            yield f"its volumes contain a {type(volume).__name__}, not a Volume"
        elif not _is_label(volume.name):
            yield f"a volume is called {volume.name!r}"
    yield from (f"it has two volumes called {name!r}" for name in _twice(v.name for v in plan.volumes))


def _container_problems(plan: JobPlan) -> Iterator[str]:
    volumes = {volume.name for volume in plan.volumes}
    for container in plan.containers:
        if not isinstance(container, ContainerSpec):
            yield f"its containers contain a {type(container).__name__}, not a ContainerSpec"
            continue
        yield from _own_problems(container)
        for mount in container.mounts:
            if mount.volume not in volumes:
                yield f"container {container.name!r} mounts the volume {mount.volume!r}, which the plan does not have"
    yield from (f"it has two containers called {name!r}" for name in _twice(c.name for c in plan.containers))


def container_problem(container: ContainerSpec) -> str:
    """Return the first thing that is wrong with a container by itself, as a clause; "" if it is valid."""
    return next(_own_problems(container), "")


def _own_problems(container: ContainerSpec) -> Iterator[str]:
    if not _is_label(container.name):
        yield f"a container is called {container.name!r}"
    for word in (container.image, *container.command):
        if not isinstance(word, str):
            yield f"the image and the command of container {container.name!r} contain {word!r}, which is not text"
    if not container.image:
        yield f"container {container.name!r} has no image"
    yield from _env_problems(container)


def _env_problems(container: ContainerSpec) -> Iterator[str]:
    for name, value in container.env.items():
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            yield f"container {container.name!r} has a variable called {name!r}"
        if not isinstance(value, str | SecretRef | SecretValue):  # the value is left out: it may be a secret
            yield f"the variable {name} of container {container.name!r} is a {type(value).__name__}, not a string"


def _is_label(name: object) -> bool:
    return is_object_name(name) and "." not in str(name) and len(str(name)) <= _LONGEST_LABEL


def _twice(names: Iterator[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
