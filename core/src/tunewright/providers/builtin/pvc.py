"""`pvc://claim/folder`: files that are already on a PersistentVolumeClaim. It is mounted, and nothing is fetched."""

from __future__ import annotations

from pathlib import Path

import attrs

from tunewright._markers import hookimpl
from tunewright.errors import ExitCode, FetchError
from tunewright.plan._names import is_object_name
from tunewright.providers.base import ClaimFolder, DatasetProvider, ModelProvider, SourceProvider, uris_of
from tunewright.providers.uris import bad_uri, path_problem, split_uri

FORM = "pvc://claim/folder"


def parse_uri(uri: str, field: str = "uri") -> ClaimFolder:
    """Return the claim, and the folder within it; the folder "" is all of the claim.

    Raises:
        RequestError: the name of the claim is not valid in Kubernetes, or the folder could lead out of the claim.
    """
    parts = split_uri(uri, scheme="pvc", form=FORM, field=field)
    if not is_object_name(parts.authority):
        raise bad_uri("has a claim name that is not valid in Kubernetes", uri, field=field, form=FORM)
    if problem := path_problem(parts.path):
        raise bad_uri(problem, uri, field=field, form=FORM)
    return ClaimFolder(claim=parts.authority, folder=parts.path.removesuffix("/"))


@attrs.frozen(kw_only=True, slots=False)  # two base classes with slots cannot be combined, and providers have them
class PvcSource(SourceProvider):
    """Base class of the model and dataset providers for `pvc://`."""

    def __attrs_post_init__(self) -> None:
        """Refuse malformed URIs."""
        for field, uri in uris_of(self):
            parse_uri(uri, field)

    def mounted_claim(self) -> ClaimFolder:
        """Return the folder of the claim, which is mounted read-only instead of being downloaded."""
        return parse_uri(self.uri)

    def _refuse(self) -> FetchError:
        cause = f"{self.uri} can only be mounted by Kubernetes, not fetched."
        return FetchError(cause, remedy="Outside Kubernetes, use file:///folder.", code=ExitCode.USAGE)


@attrs.frozen(kw_only=True)
class PvcModel(PvcSource, ModelProvider):
    """A model in a folder of a claim."""

    def download_model(self, target: Path) -> None:  # noqa: ARG002 - the base's signature
        """Refuse: a claim can only be mounted."""
        raise self._refuse()


@attrs.frozen(kw_only=True)
class PvcDataset(PvcSource, DatasetProvider):
    """A dataset in a folder of a claim."""

    def download_dataset(self, target: Path) -> None:  # noqa: ARG002 - the base's signature
        """Refuse: a claim can only be mounted."""
        raise self._refuse()


@hookimpl
def tunewright_model_provider() -> type[ModelProvider]:  # noqa: D103 - the hookspec documents it
    return PvcModel


@hookimpl
def tunewright_dataset_provider() -> type[DatasetProvider]:  # noqa: D103 - the hookspec documents it
    return PvcDataset
