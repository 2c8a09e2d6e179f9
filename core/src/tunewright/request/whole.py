"""A job that the user wrote whole: the manifest that `create_job(job=…)` takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from tunewright.errors import RequestError
from tunewright.events import Json
from tunewright.plan._checks import check_manifest, check_mapping, to_mapping
from tunewright.request._validate import check_name
from tunewright.request.request import generated_name

_REMEDY = "Give one manifest: a mapping, an object of Kubernetes' or Kubeflow's client, or the path of a YAML file."


@attrs.frozen(kw_only=True)
class RawManifest:
    """What `create_job(job=…)` asks for.

    Attributes:
        name: the job's name.
        job: its manifest, as the user wrote it; `metadata.name` is the name or missing.
    """

    name: str = attrs.field(validator=check_name)
    job: Mapping[str, Json] = attrs.field(converter=to_mapping, validator=[check_mapping, check_manifest])


def raw_manifest(name: str | None, job: object, options: Mapping[str, object]) -> RawManifest:
    """The checked job.

    Args:
        name: the job's name; None takes the manifest's, or a generated one where that has none.
        job: its manifest: a mapping, a model object of a Kubernetes client, or the path of a YAML file.
        options: what else was given to `create_job()`.

    Raises:
        RequestError: it is no manifest, or something is said beside it.
    """
    for option, value in options.items():
        if value is not None:
            raise RequestError("is given beside a whole job", field=option, remedy="Write it into the job's manifest.")
    manifest = _plain(_read(job) if isinstance(job, str | Path) else job)
    metadata = part(manifest, "metadata", "job") if isinstance(manifest, Mapping) else {}
    own = metadata.get("name")
    if name is not None and own not in (None, name):
        problem = f"is not {own!r}, the name in the job's manifest"
        raise RequestError(problem, field="name", value=name, remedy="Leave one of them out.")
    return RawManifest(name=name or own or generated_name("job"), job=manifest)


def part(parent: Mapping[str, Any], name: str, path: str) -> Mapping[str, Any]:
    """A mapping in a manifest; empty where it is not written.

    Raises:
        RequestError: something else is there.
    """
    found = parent.get(name)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        remedy = "Write it as Kubernetes' API has it."
        raise RequestError("must be a mapping", field=f"{path}.{name}", value=found, remedy=remedy)
    return found


def _read(path: str | Path) -> object:
    import yaml

    try:
        documents = [d for d in yaml.safe_load_all(Path(path).read_text("utf-8")) if d is not None]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RequestError(f"cannot be read: {error}", field="job", value=str(path), remedy=_REMEDY) from error
    if len(documents) != 1:
        problem = f"has {len(documents)} documents, and a job is one"
        remedy = "Create what else the job needs beforehand: kubectl apply -f …"
        raise RequestError(problem, field="job", value=str(path), remedy=remedy)
    return documents[0]


def _plain(value: object) -> Any:
    """Without model objects: their fields become those of the API."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    # Generated clients' classes say how the API calls their attributes, which `to_dict` does not.
    if isinstance(names := getattr(value, "attribute_map", None), Mapping):
        given = {api: getattr(value, attribute) for attribute, api in names.items()}
        return {api: _plain(item) for api, item in given.items() if item is not None}
    if callable(to_dict := getattr(value, "to_dict", None)):
        return _plain(to_dict())
    return value
