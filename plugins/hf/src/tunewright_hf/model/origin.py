"""Where the inputs of a job came from: what a result says of them, to people who do not have the job's folders."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import attrs

from tunewright.providers import MARKER
from tunewright_hf.data.reading.card import front_matter

Kind = Literal["model", "dataset"]

_HUB = "https://huggingface.co/"
# A snapshot in the cache of huggingface_hub: models--org--name/snapshots/<commit>.
_CACHED = re.compile(r"(?P<kind>model|dataset)s--(?P<id>[^/]+)/snapshots/(?P<commit>[0-9a-f]{40})/?$")
_LICENCE = ("license", "license_name", "license_link")


@attrs.frozen(kw_only=True)
class Origin:
    """Where a model or a dataset came from.

    Attributes:
        name: its id on the Hub; or else its URI, or its path on the machine that trained.
        on_hub: whether it is an id on the Hub.
        revision: its commit on the Hub; None where it is not known.
        uri: what `tunewright fetch` takes; None for a folder, and for a volume that can only be mounted.
        licence: license, license_name and license_link, as the front matter of its card has them; {} if it has none.
    """

    name: str
    on_hub: bool = False
    revision: str | None = None
    uri: str | None = None
    licence: Mapping[str, str] = attrs.field(factory=dict)

    def __str__(self) -> str:
        """Return it for people: in Markdown, a link if it is on the Hub."""
        kind = "datasets/" if self.uri and self.uri.startswith("hf://datasets/") else ""
        where = f"[{self.name}]({_HUB}{kind}{self.name})" if self.on_hub else f"`{self.name}`"
        revision = f", revision `{self.revision}`" if self.revision else ""
        licence = self.licence.get("license_name") or self.licence.get("license")
        return f"{where}{revision}{f', licence {licence}' if licence else ''}"


def origin_of(folder: Path, uri: str | None = None, kind: Kind = "model") -> Origin:
    """Return where an input came from.

    Args:
        folder: the input's folder in the job.
        uri: its URI, as the user wrote it; None outside of a job.
        kind: what it is.
    """
    fetched, revision = _marker(folder)
    known = _of_uri(fetched or uri, revision, kind) or _of_folder(folder, kind)
    return attrs.evolve(known, licence=_licence(folder, known))


def _of_uri(uri: str | None, revision: str | None, kind: Kind) -> Origin | None:
    if uri is None:
        return None
    if uri.startswith("file://"):
        return _of_folder(Path(unquote(urlsplit(uri).path)), kind)
    if uri.startswith("hf://"):
        name, _, named = uri.removeprefix("hf://").removeprefix("datasets/").partition("?")[0].partition("@")
        return _of_repo(kind, name, revision or unquote(named) or None)
    return Origin(name=uri, revision=revision, uri=None if uri.startswith("pvc://") else uri)


def _of_folder(folder: Path, kind: Kind) -> Origin:
    """Return the origin of a folder that a user named. It may be one that was fetched, or in the cache of huggingface_hub."""
    uri, revision = _marker(folder)
    if uri and not uri.startswith("file://") and (found := _of_uri(uri, revision, kind)):
        return found
    if (cached := _CACHED.search(folder.as_posix())) and cached["kind"] == kind:
        return _of_repo(kind, cached["id"].replace("--", "/"), cached["commit"])
    return Origin(name=str(folder))


def _of_repo(kind: Kind, name: str, revision: str | None) -> Origin:
    below = "datasets/" if kind == "dataset" else ""
    uri = f"hf://{below}{name}{f'@{revision}' if revision else ''}"
    return Origin(name=name, on_hub=True, revision=revision, uri=uri)


def _marker(folder: Path) -> tuple[str | None, str | None]:
    """Return the URI and the revision of a folder that was fetched; None for what is not known."""
    try:
        marker = json.loads((folder / MARKER).read_text("utf-8"))
        return str(marker["uri"]), marker["revision"] or None
    except (OSError, ValueError, KeyError, TypeError):
        return None, None


def _licence(folder: Path, origin: Origin) -> dict[str, str]:
    found = {}
    for name in _LICENCE:
        given = front_matter(folder).get(name)
        values = given if isinstance(given, list) else [given]
        if text := ", ".join(value for value in values if isinstance(value, str)):
            found[name] = text
    link = found.get("license_link")
    if link and "://" not in link:  # relative to the repository of the model
        found.pop("license_link")
        if origin.on_hub:
            found["license_link"] = f"{_HUB}{origin.name}/blob/{origin.revision or 'main'}/{link}"
    return found
