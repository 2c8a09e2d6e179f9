"""Labels by which a job and its pods are found, added to what the user wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunewright.backends.kubernetes import names
from tunewright.errors import RequestError
from tunewright.plan.manifests import Document
from tunewright.request.raw import part


def labelled(metadata: Mapping[str, Any], ours: Mapping[str, str], path: str, component: names.Component) -> Document:
    """Return metadata with our labels added, and the recommended ones that the user has not set.

    Args:
        metadata: the user's.
        ours: the labels.
        path: where the metadata is in the manifest, for messages.
        component: what the object is to its job.

    Raises:
        RequestError: the user gave one of them another value.
    """
    theirs = part(metadata, "labels", path)
    for name, value in ours.items():
        if theirs.get(name, value) != value:
            field = f"{path}.labels[{name!r}]"
            remedy = "Leave it out: Tunewright finds jobs by it."
            raise RequestError("is set by Tunewright", field=field, value=theirs[name], remedy=remedy)
    return {**metadata, "labels": {**names.recommended(component), **theirs, **ours}}
