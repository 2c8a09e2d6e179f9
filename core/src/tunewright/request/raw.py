"""A job whose manifest the user wrote: `create_job(manifest=…)`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from tunewright.errors import RequestError
from tunewright.events import Json
from tunewright.plan._checks import check_manifest, check_mapping, copied
from tunewright.request._validate import check_name
from tunewright.request.request import generated_name

_REMEDY = "Give one manifest: a dict, an object of the Kubernetes or Kubeflow client, or the path of a YAML file."


@attrs.frozen(kw_only=True)
class RawManifest:
    """What `create_job(manifest=…)` asks for.

    Attributes:
        name: the job's name.
        document: its manifest, as the user wrote it; its `metadata.name` is the name, or missing.
    """

    name: str = attrs.field(validator=check_name)
    document: Mapping[str, Json] = attrs.field(converter=copied)

    @document.validator
    def _check_document(self, attribute: attrs.Attribute[Any], value: object) -> None:
        for check in (check_mapping, check_manifest):
            check(self, attribute.evolve(name="manifest"), value)


def raw_manifest(name: str | None, manifest: object, options: Mapping[str, object]) -> RawManifest:
    """Check a manifest.

    Args:
        name: the job's name; None takes the manifest's, or generates one if it has none.
        manifest: a mapping, a model object of a Kubernetes client, or the path of a YAML file.
        options: the other arguments of `create_job()`.

    Raises:
        RequestError: it is not a manifest, or other arguments are given with it.
    """
    for option, value in options.items():
        if value is not None:
            raise RequestError("cannot be given with a manifest", field=option, remedy="Write it into the manifest.")
    document = _plain(_read(manifest) if isinstance(manifest, str | Path) else manifest)
    metadata = part(document, "metadata", "manifest") if isinstance(document, Mapping) else {}
    own = metadata.get("name")
    if name is not None and own not in (None, name):
        problem = f"is not {own!r}, the name in the manifest"
        raise RequestError(problem, field="name", value=name, remedy="Leave one of them out.")
    return RawManifest(name=name or own or generated_name("job"), document=document)


def part(parent: Mapping[str, Any], name: str, path: str) -> Mapping[str, Any]:
    """Return a mapping in a manifest; an empty one if it is missing.

    Raises:
        RequestError: it is not a mapping.
    """
    found = parent.get(name)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        remedy = "Write it as the Kubernetes API defines it."
        raise RequestError("must be a mapping", field=f"{path}.{name}", value=found, remedy=remedy)
    return found


def _read(path: str | Path) -> object:
    import yaml

    try:
        documents = [d for d in yaml.safe_load_all(Path(path).read_text("utf-8")) if d is not None]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RequestError(f"cannot be read: {error}", field="manifest", value=str(path), remedy=_REMEDY) from error
    if len(documents) != 1:
        problem = f"has {len(documents)} documents, but a job is one document"
        remedy = "Create the other objects beforehand: kubectl apply -f …"
        raise RequestError(problem, field="manifest", value=str(path), remedy=remedy)
    return documents[0]


def _plain(value: object) -> Any:
    """Replace model objects by dicts with the field names of the API."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    # `to_dict` of generated clients keeps Python's spelling of the fields; `attribute_map` has the API's.
    if isinstance(names := getattr(value, "attribute_map", None), Mapping):
        given = {api: getattr(value, attribute) for attribute, api in names.items()}
        return {api: _plain(item) for api, item in given.items() if item is not None}
    if callable(to_dict := getattr(value, "to_dict", None)):
        return _plain(to_dict())
    return value
