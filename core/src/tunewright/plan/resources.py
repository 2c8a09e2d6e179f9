"""The resources of a container, in Kubernetes' terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from tunewright._convert import to_dict
from tunewright.errors import RequestError
from tunewright.plan._quantity import check_quantity, to_number

GPU, DISK = "nvidia.com/gpu", "ephemeral-storage"
_PAGES = "hugepages-"
_OTHER_WORDS = {
    **dict.fromkeys(("gpus", "num_gpus", "nvidia"), "gpu"),
    **dict.fromkeys(("cpus", "cores", "num_cpus"), "cpu"),
    **dict.fromkeys(("mem", "ram"), "memory"),
}


def _whole_gpus(value: Any) -> int:
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    remedy = "A GPU cannot be split: write 0, 1, 2, …"
    raise RequestError("is not a whole number", field="resources_per_worker['gpu']", value=value, remedy=remedy)


@attrs.frozen(kw_only=True)
class Resources:
    """The limits of one container, and its requests, which equal the limits unless `requests` says otherwise.

    Attributes:
        cpu: cores, as a Kubernetes quantity: 8, "500m".
        memory: bytes, as a Kubernetes quantity: "16Gi".
        gpu: whole GPUs, rendered as `nvidia.com/gpu`.
        extended: any other resource by its full name: {"rdma/hca": 1, "ephemeral-storage": "100Gi"}.
        requests: requests that differ from the limits, by the name of the resource.
    """

    cpu: str | int | float | None = None
    memory: str | int | None = None
    gpu: int = attrs.field(default=0, converter=_whole_gpus)
    extended: Mapping[str, str | int] = attrs.field(factory=dict, converter=to_dict)
    requests: Mapping[str, str | int] = attrs.field(factory=dict, converter=to_dict)

    def __attrs_post_init__(self) -> None:
        """Refuse what Kubernetes would refuse."""
        for name in ("cpu", "memory"):
            check_quantity(getattr(self, name), field=f"resources_per_worker[{name!r}]")
        for name, value in self.extended.items():
            field = f"resources_per_worker[{name!r}]"
            check_quantity(value, field=field)
            if _is_device(name) and to_number(value) % 1:
                raise RequestError("is not a whole number", field=field, value=value, remedy="Write 1, 2, …")
        for name, value in self.requests.items():
            check_quantity(value, field=f"resources_per_worker['requests'][{name!r}]")
            self._check_request(name, value)

    def _check_request(self, name: str, value: str | int) -> None:
        """Refuse a request other than the limit for resources that cannot be overcommitted."""
        limit = self.gpu if name == GPU else self.extended.get(name, 0)
        if (_is_device(name) or name.startswith(_PAGES)) and to_number(value) != to_number(limit):
            problem, remedy = f"is not the limit, which is {limit}", "Leave it out: the request follows the limit."
            raise RequestError(problem, field=f"resources_per_worker['requests'][{name!r}]", value=value, remedy=remedy)


def as_resources(value: Any) -> Resources:
    """Convert None or a dict such as {"gpu": 1, "cpu": 8, "memory": "16Gi"} into a Resources; the dict is not changed."""
    if isinstance(value, Resources):
        return value
    remedy = 'Give a dict such as {"gpu": 1, "cpu": 8, "memory": "16Gi"}.'
    if value is None:
        return Resources()
    if not isinstance(value, Mapping):
        raise RequestError("must be a dict", field="resources_per_worker", value=value, remedy=remedy)
    given = {str(k): v for k, v in value.items()}
    if GPU in given:
        if "gpu" in given:
            problem = "means the same as 'gpu', and both are given"
            raise RequestError(problem, field="resources_per_worker['nvidia.com/gpu']", remedy="Give one of them.")
        given["gpu"] = given.pop(GPU)
    fields = {k: given.pop(k) for k in ("cpu", "memory", "gpu") if k in given}
    groups = {k: _group(given.pop(k, None), k, remedy) for k in ("extended", "requests")}
    for name in (*given, *groups["extended"], *(set(groups["requests"]) - {"cpu", "memory"})):
        if not _is_resource(name):
            meant = _OTHER_WORDS.get(name.lower())
            hint = f"Did you mean {meant!r}? " if meant else ""
            problem = f"has an unknown resource {name!r}"
            raise RequestError(problem, field="resources_per_worker", value=dict(value), remedy=hint + remedy)
    return Resources(extended={**groups["extended"], **given}, requests=groups["requests"], **fields)


def _group(value: object, name: str, remedy: str) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise RequestError("must be a dict", field=f"resources_per_worker[{name!r}]", value=value, remedy=remedy)
    return {str(k): v for k, v in (value or {}).items()}


def _is_resource(name: str) -> bool:
    """Whether a resource is one of Kubernetes' own, or has a domain in its name."""
    return _is_device(name) or name == DISK or name.startswith(_PAGES)


def _is_device(name: str) -> bool:
    """Whether it is an extended resource, which comes in whole units."""
    return "/" in name
