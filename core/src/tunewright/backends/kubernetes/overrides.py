"""`pod_overrides`: a strategic merge patch of the pod template.

https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from tunewright.errors import RequestError
from tunewright.plan._quantity import to_number
from tunewright.plan.plan import MAIN_STEP
from tunewright.plan.secrets import refuse_literal_tokens

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

_MAIN_NAMES = frozenset({MAIN_STEP, "pytorch", "node"})
"""What a patch may call the main container: a job file is written before it is known of which kind the job will be."""

_DIRECTIVE = "$patch"
_KINDS = ("initContainers", "containers")


def overridden(template: Mapping[str, object], patch: Mapping[str, object]) -> Mapping[str, object]:
    """Apply the patch to the template; neither is changed.

    The main container answers to the name that any kind of job has for it. Mappings are merged, null removes a field, and
    `$patch: delete` in an element of a merged list removes that element.

    Raises:
        RequestError: it is not a patch of a pod template, or the result cannot run.
    """
    if not patch:
        return template
    _check_patch(patch)
    patch = _with_main_named(patch, template)
    result = _merged_mapping(template, patch, _FIELD)
    _check_result(result, template)
    return result


def merged(base: Mapping[str, object], template: Mapping[str, object]) -> Mapping[str, object]:
    """Return a pod template merged into another as a strategic merge patch; neither is changed."""
    return _merged_mapping(base, template, "template")


def _with_main_named(patch: Mapping[str, object], template: Mapping[str, object]) -> Mapping[str, object]:
    """Call the main container what this kind of job calls it."""
    spec, known = _mapping(patch.get("spec")), [c["name"] for c in _elements(template["spec"], "containers")]
    if "containers" not in spec or not isinstance(spec["containers"], list | tuple):
        return patch
    named = [
        {**c, "name": known[0]} if isinstance(c, Mapping) and c.get("name") in _MAIN_NAMES - {*known} else c
        for c in spec["containers"]
    ]
    return {**patch, "spec": {**spec, "containers": named}}


def _merged(base: object, patch: object, path: str, name: str) -> object:
    shape = _shape(patch if base is None else base)
    if _shape(patch) != shape:
        remedy = f"Write a {shape}, or null to remove it."
        raise RequestError(f"is not a {shape}", field=path, value=patch, remedy=remedy)
    if isinstance(patch, Mapping):
        return _merged_mapping(base if isinstance(base, Mapping) else {}, patch, path)
    if isinstance(patch, list | tuple) and (key := _MERGE_KEYS.get(name)):
        return _merged_list(base if isinstance(base, list | tuple) else (), patch, key, path)
    return patch


def _shape(value: object) -> str:
    return "mapping" if isinstance(value, Mapping) else "list" if isinstance(value, list | tuple) else "value"


def _merged_mapping(base: Mapping[str, object], patch: Mapping[str, object], path: str) -> dict[str, object]:
    result = dict(base)
    for name, value in patch.items():
        if str(name).startswith("$"):
            problem, remedy = "is an unknown directive", f"Only `{_DIRECTIVE}: delete` is supported, in a list."
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
            problem, remedy = f"has no {key!r}, the key that it is merged by", f"Write [{{{key}: …}}]."
            raise RequestError(problem, field=f"{path}[{index}]", value=change, remedy=remedy)
        if change.get(_DIRECTIVE) == "delete":
            elements.pop(change[key], None)
        else:
            elements[change[key]] = _merged_mapping(elements.get(change[key], {}), change, f"{path}[{change[key]}]")
    return list(elements.values())


def _check_patch(patch: Mapping[str, object]) -> None:
    remedy = 'It patches a pod template: {"spec": {"containers": [{"name": "train", …}]}, "metadata": {…}}.'
    for name, value in patch.items():
        if name not in ("metadata", "spec") or not isinstance(value, Mapping):
            raise RequestError("is not a part of a pod template", field=f"{_FIELD}.{name}", value=value, remedy=remedy)
    refuse_literal_tokens(patch, _FIELD, "Refer to a Secret: valueFrom: {secretKeyRef: {name: …, key: …}}.")


def _check_result(result: Mapping[str, object], template: Mapping[str, object]) -> None:
    """Refuse what the operator's webhook would, and what would silently keep it from creating pods."""
    known = ", ".join(str(c["name"]) for kind in _KINDS for c in _elements(template["spec"], kind))
    main = _elements(template["spec"], "containers")[0]["name"]
    remedy = f"There are: {known}. The main container is {main!r}; a new one needs an image."
    spec = result.get("spec")
    if main not in [c["name"] for c in _elements(spec, "containers")]:
        raise RequestError(f"removes the container {main!r}", field=f"{_FIELD}.spec.containers", remedy=remedy)
    volumes = {v["name"] for v in _elements(spec, "volumes")}
    for kind in _KINDS:
        for container in _elements(spec, kind):
            field = f"{_FIELD}.spec.{kind}[{container['name']}]"
            if not container.get("image"):
                raise RequestError("is not a container of the job, and has no image", field=field, remedy=remedy)
            _check_references(container, volumes, field)
            _check_resources(container, f"{field}.resources")
    for volume in _elements(spec, "volumes"):
        _check_one_of(set(volume) - {"name"}, f"{_FIELD}.spec.volumes[{volume['name']}]")


def _check_references(container: Mapping[str, object], volumes: Collection[object], field: str) -> None:
    for variable in _elements(container, "env"):
        _check_one_of(set(variable) & {"value", "valueFrom"}, f"{field}.env[{variable['name']}]", least=0)
    for mount in _elements(container, "volumeMounts"):
        if mount.get("name") not in volumes:
            remedy = f"There are: {', '.join(sorted(map(str, volumes)))}. Add it to spec.volumes."
            where = f"{field}.volumeMounts[{mount['mountPath']}]"
            raise RequestError(
                "mounts a volume that the pod does not have", field=where, value=mount.get("name"), remedy=remedy
            )


def _check_resources(container: Mapping[str, object], field: str) -> None:
    resources = container.get("resources")
    limits, requests = (_mapping(_mapping(resources).get(k)) for k in ("limits", "requests"))
    for name in limits.keys() & requests.keys():
        asked, most = (str(group[name]) for group in (requests, limits))
        try:
            fits = to_number(asked) <= to_number(most)
        except ValueError:
            fits = False
        if not fits:
            remedy = "Patch both: the requests follow the limits that the job has without the patch."
            raise RequestError(
                f"does not fit the limit of {most}", field=f"{field}.requests.{name}", value=asked, remedy=remedy
            )


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _check_one_of(given: set[str], field: str, least: int = 1) -> None:
    """Refuse two sources: the merge keeps fields that the patch does not name."""
    if not least <= len(given) <= 1:
        problem = f"has {' and '.join(sorted(given)) or 'no source'}, but needs exactly one source"
        raise RequestError(problem, field=field, remedy="Write null for the one to remove.")


def _elements(parent: object, name: str) -> list[Mapping[str, object]]:
    """Return the elements of a merged list."""
    elements = parent.get(name, ()) if isinstance(parent, Mapping) else ()
    if not isinstance(elements, list | tuple):
        raise RequestError("is not a list", field=f"{_FIELD}.….{name}", value=elements, remedy="Write a list.")
    return list(elements)
