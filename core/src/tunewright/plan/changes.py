"""What differs between two jobs of one name, by the keys of a job file: "num_workers (1 → 2)". Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import attrs

from tunewright import environment
from tunewright._canonical import dumps
from tunewright.errors import RequestError
from tunewright.events import Json
from tunewright.plan.secrets import REDACTED, is_called_a_secret, refuse_literal_tokens

_MOST = 5
_LONGEST = 60
_MISSING: Final = object()

# Paths in rendered manifests → keys of a job file, of which a regular expression's groups are part. Paths that are not here follow
# from those that are.
_KEYS: tuple[tuple[str, str], ...] = (
    (r"(num_workers|num_procs_per_worker)", "{0}"),
    (r"gpus", "resources_per_worker.gpu"),
    (r"elastic|elasticPolicy\.(?:min|max)Replicas", "elastic"),
    (r"nprocPerNode", "num_procs_per_worker"),
    (r"pytorchReplicaSpecs\.\w+\.replicas", "num_workers"),
    (r".*\.containers\.pytorch\.image", "image"),
    (r".*\.containers\.pytorch\.resources\.limits\.nvidia\.com/gpu", "resources_per_worker.gpu"),
    (r".*\.containers\.pytorch\.resources\.limits\.(.+)", "resources_per_worker.{0}"),
    (r"(?:worker|.*\.containers\.pytorch)\.command", "command"),
    (rf"(?:worker|.*\.containers\.pytorch)\.env\.{environment.OUTPUT}(?:\.value)?", "output"),
    (rf"(?:worker|.*\.containers\.pytorch)\.env\.{environment.UPLOAD_CHECKPOINTS}(?:\.value)?", "upload_checkpoints"),
    (r"(?:worker|.*\.containers\.pytorch)\.env\.(?!TUNEWRIGHT_)(\w+)(?:\..*)?", "env.{0}"),
    (r"(?:steps\.[\w-]+|.*\.initContainers\.[\w-]+)\.env\.(?!TUNEWRIGHT_)(\w+)(?:\..*)?", "init_env.{0}"),
    (r".*\.template\.spec\.nodeSelector\.(.+)", "node_selector.{0}"),
    (r".*\.template\.spec\.tolerations\b.*", "tolerations"),
    (r".*\.template\.spec\.affinity\b.*", "affinity"),
    (r".*\.template\.spec\.topologySpreadConstraints\b.*", "topology_spread_constraints"),
    (r".*\.template\.spec\.priorityClassName", "priority_class"),
    (r".*\.template\.spec\.runtimeClassName", "runtime_class"),
    (r".*\.template\.spec\.serviceAccountName", "service_account"),
    (r".*\.template\.spec\.volumes\.account\b.*", "progress_account"),
    (r".*\.template\.spec\.hostNetwork", "host_network"),
    (r".*\.template\.spec\.volumes\.(shm|tmp)\.emptyDir\b.*", "{0}_size"),
    (r".*\.template\.spec\.imagePullSecrets\b.*", "image_pull_secrets"),
    (r"claim\.resources\.requests\.storage", "storage.size"),
    (r"claim\.storageClassName", "storage.storage_class"),
    (r"claim\.accessModes", "storage.access_modes"),
)


@attrs.frozen(kw_only=True)
class Change:
    """One difference.

    Attributes:
        key: what differs, by the key of a job file, or else by its path in the manifest.
        values: the old value and the new one, for people; None for texts that are too long to show.
        of_request: whether a job file has the key.
    """

    key: str
    values: tuple[str, str] | None
    of_request: bool = True

    def __str__(self) -> str:
        return f"{self.key} ({self.values[0]} → {self.values[1]})" if self.values else self.key


def listed(changes: Iterable[Change]) -> str:
    """Return the differences as text: the first ones, and how many there are besides."""
    found = list(dict.fromkeys(map(str, changes)))
    more = f", and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return ", ".join(found[:_MOST]) + more


def job_changes(
    old: tuple[Json, Mapping[str, str]], new: tuple[Json, Mapping[str, str]], *, only_given: bool = False
) -> list[Change]:
    """Return what differs between two jobs.

    Args:
        old: the spec of the job that exists, and its configuration files.
        new: those of the request.
        only_given: as in `spec_changes`.
    """
    files = file_changes(old[1], new[1])
    found = spec_changes(old[0], new[0], only_given=only_given)
    return [*files, *(c for c in found if c.of_request or not files)]  # paths follow from the files


def spec_changes(old: Json, new: Json, *, only_given: bool = False) -> list[Change]:
    """Return what differs between two specs of jobs: what has a key in a job file, or else the paths.

    Args:
        old: the spec of the job that exists.
        new: the spec of the request.
        only_given: the old one has defaults of the cluster's; what only it has counts if a job file could say it.
    """
    ours, theirs = dict(_leaves(new, "")), dict(_leaves(old, ""))
    differing = [p for p in {**ours, **theirs} if ours.get(p, _MISSING) != theirs.get(p, _MISSING)]
    steps = {step for step in map(_step, ours) if step in set(map(_step, theirs))}
    keys = {path: _key(path) for path in differing if _step(path) in steps}  # a step more follows from an input more
    if not any(keys.values()):
        paths = [path for path in sorted(differing) if path in ours or not only_given]
        return [attrs.evolve(_change(p, theirs, ours, p), of_request=False) for p in paths]
    return sorted((_change(p, theirs, ours, key) for p, key in keys.items() if key), key=str)


def file_changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[Change]:
    """Return what differs between the configuration files of two jobs: fields of providers, and code."""
    return [c for name in sorted({**old, **new}) for c in _file(name, old.get(name), new.get(name)) if c is not None]


def _file(name: str, old: str | None, new: str | None) -> Iterator[Change]:
    if old == new:
        return
    theirs, ours = _document(old), _document(new)
    if not name.endswith(".json") or (theirs is None and ours is None):
        yield Change(key=f"the text of {name}", values=None)
        return
    argument = name.removesuffix(".json")
    if theirs is None or ours is None:
        yield Change(key=argument, values=(_uri(theirs), _uri(ours)))
        return
    before, now = dict(_leaves(theirs, "")), dict(_leaves(ours, ""))
    for path in sorted(p for p in {**before, **now} if before.get(p, _MISSING) != now.get(p, _MISSING)):
        kind, _, rest = path.partition(".")
        key = f"{argument}.{rest}" if kind == "params" else f"{argument}.{kind}"
        yield _change(path, before, now, f"the version of {ours.get('distribution')}" if kind == "version" else key)


def _document(text: str | None) -> dict[str, Json] | None:
    try:
        found = json.loads(text or "null")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _uri(document: Mapping[str, Json] | None) -> str:
    params = (document or {}).get("params")
    return "not given" if document is None else _shown("", params.get("uri") if isinstance(params, dict) else "given")


def _leaves(value: Json, path: str) -> Iterator[tuple[str, Json]]:
    """Yield each value of nested mappings with its path; elements of a list that have a name are found by it."""
    if isinstance(value, list) and value and all(isinstance(item, dict) and "name" in item for item in value):
        value = {str(item["name"]): {k: v for k, v in item.items() if k != "name"} for item in value}  # type: ignore[index, union-attr, call-overload]
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}".removeprefix("."))
    elif value is not None:
        yield path, [*value] if isinstance(value, list | tuple) else value


def _step(path: str) -> str:
    """Return the init container that a path is in; "" for others."""
    found = re.match(r"(?:steps|.*\.initContainers)\.[\w-]+", path)
    return found[0] if found else ""


def _key(path: str) -> str | None:
    for pattern, key in _KEYS:
        if found := re.fullmatch(pattern, path):
            return key.format(*found.groups())
    return None


def _change(path: str, old: Mapping[str, Json], new: Mapping[str, Json], key: str) -> Change:
    name = path.removesuffix(".value").rpartition(".")[2]
    values = [_shown(name, found[path]) if path in found else "not given" for found in (old, new)]
    return Change(key=key, values=(values[0], values[1]))


def _shown(name: str, value: Json) -> str:
    text = value if isinstance(value, str) else dumps(value)
    try:
        refuse_literal_tokens(text, name, "")
    except RequestError:
        return REDACTED
    if is_called_a_secret(name, text):
        return REDACTED
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
