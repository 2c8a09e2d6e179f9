"""`pod_overrides`: a strategic merge patch of the pod template.

https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunewright.backends.pytorchjob.names import MAIN
from tunewright.errors import RequestError
from tunewright.secret import refuse_literal_tokens

_FIELD = "pod_overrides"

# The lists of a pod template that are merged, by the `patchMergeKey` of Kubernetes' API; all others are replaced.
_MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
    "schedulingGates": "name",
}
_DIRECTIVE = "$patch"


def overridden(template: Mapping[str, object], patch: Mapping[str, object]) -> Mapping[str, object]:
    """The template with the patch applied; neither is changed.

    Mappings are merged, null removes a field, and `$patch: delete` in an element of a merged list removes that element.

    Raises:
        RequestError: it is no patch of a pod template, or what it leaves cannot run.
    """
    if not patch:
        return template
    _check_patch(patch)
    result = _merged_mapping(template, patch, _FIELD)
    _check_result(result, template)
    return result


def _merged(base: object, patch: object, path: str, name: str) -> object:
    key = _MERGE_KEYS.get(name)
    shape = _shape([] if key else patch) if base is None else _shape(base)
    if _shape(patch) != shape:
        raise RequestError(
            f"is not a {shape}", field=path, value=patch, remedy=f"Write a {shape}, or null to remove it."
        )
    if isinstance(patch, Mapping):
        return _merged_mapping(base if isinstance(base, Mapping) else {}, patch, path)
    if key and isinstance(patch, list | tuple):
        return _merged_list(base if isinstance(base, list | tuple) else (), patch, key, path)
    return patch


def _shape(value: object) -> str:
    return "mapping" if isinstance(value, Mapping) else "list" if isinstance(value, list | tuple) else "value"


def _merged_mapping(base: Mapping[str, object], patch: Mapping[str, object], path: str) -> dict[str, object]:
    result = dict(base)
    for name, value in patch.items():
        if str(name).startswith("$"):
            problem, remedy = "is a directive that is not known here", f"There is {_DIRECTIVE}: delete, in a list."
            raise RequestError(problem, field=f"{path}.{name}", value=value, remedy=remedy)
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(base.get(name), value, f"{path}.{name}", name)
    return result


def _merged_list(base: Sequence[object], patch: Sequence[object], key: str, path: str) -> list[object]:
    elements = {element[key]: element for element in base if isinstance(element, Mapping)}
    for index, change in enumerate(patch):
        if not isinstance(change, Mapping) or not isinstance(change.get(key), str | int):
            problem, remedy = f"has no {key!r}, by which it is merged", f"Write [{{{key}: …}}]."
            raise RequestError(problem, field=f"{path}[{index}]", value=change, remedy=remedy)
        if change.get(_DIRECTIVE) == "delete":
            elements.pop(change[key], None)
        else:
            elements[change[key]] = _merged_mapping(elements.get(change[key], {}), change, f"{path}[{change[key]}]")
    return list(elements.values())


def _check_patch(patch: Mapping[str, object]) -> None:
    remedy = 'It patches a pod template: {"spec": {"containers": [{"name": "pytorch", …}]}, "metadata": {…}}.'
    for name, value in patch.items():
        if name not in ("metadata", "spec") or not isinstance(value, Mapping):
            raise RequestError("is not a part of a pod template", field=f"{_FIELD}.{name}", value=value, remedy=remedy)
    refuse_literal_tokens(patch, _FIELD, "Refer to a Secret: valueFrom: {secretKeyRef: {name: …, key: …}}.")


def _check_result(result: Mapping[str, object], template: Mapping[str, object]) -> None:
    """What the operator's webhook would refuse, and what is most likely a misspelt name."""
    known = [*_names(template, "containers"), *_names(template, "initContainers")]
    remedy = f"There are: {', '.join(known)}. The main container is {MAIN!r}; a new one needs an image."
    for kind in ("containers", "initContainers"):
        for name, container in _names(result, kind).items():
            if not container.get("image"):
                problem = "is no container of the job, and has no image"
                raise RequestError(problem, field=f"{_FIELD}.spec.{kind}", value=name, remedy=remedy)
    if MAIN not in _names(result, "containers"):
        raise RequestError(f"removes the container {MAIN!r}", field=f"{_FIELD}.spec.containers", remedy=remedy)


def _names(template: Mapping[str, object], kind: str) -> dict[str, Mapping[str, object]]:
    spec = template.get("spec")
    containers = spec.get(kind, ()) if isinstance(spec, Mapping) else ()
    return {c["name"]: c for c in containers}
