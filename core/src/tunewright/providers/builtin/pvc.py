"""`pvc://claim/folder`: what lies on a PersistentVolumeClaim already. It is mounted, and nothing is fetched."""

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
    """The claim and the folder within it; the folder "" is all of the claim.

    Raises:
        RequestError: the claim's name is none that Kubernetes takes, or the folder could lead out of the claim.
    """
    parts = split_uri(uri, scheme="pvc", form=FORM, field=field)
    if not is_object_name(parts.authority):
        raise bad_uri("has a claim name that Kubernetes does not take", uri, field=field, form=FORM)
    if problem := path_problem(parts.path):
        raise bad_uri(problem, uri, field=field, form=FORM)
    return ClaimFolder(claim=parts.authority, folder=parts.path.removesuffix("/"))


@attrs.frozen(kw_only=True, slots=False)  # without slots it can be mixed into providers, which have theirs
class PvcSource(SourceProvider):
    """What the model and the dataset provider share."""

    def __attrs_post_init__(self) -> None:
        """Refuse URIs that name no claim."""
        for field, uri in uris_of(self):
            parse_uri(uri, field)

    def mounted_claim(self) -> ClaimFolder:
        """The claim's folder, which is mounted read-only in place of a download."""
        return parse_uri(self.uri)

    def _refuse(self) -> FetchError:
        cause = f"{self.uri} is mounted by Kubernetes, and is not fetched."
        return FetchError(cause, remedy="Without Kubernetes, use file:///folder.", code=ExitCode.USAGE)


@attrs.frozen(kw_only=True)
class PvcModel(PvcSource, ModelProvider):
    """A model's folder on a claim."""

    def download_model(self, target: Path) -> None:  # noqa: ARG002 - the base's signature
        """Refuse: there is nothing to fetch from outside Kubernetes."""
        raise self._refuse()


@attrs.frozen(kw_only=True)
class PvcDataset(PvcSource, DatasetProvider):
    """A dataset's folder on a claim."""

    def download_dataset(self, target: Path) -> None:  # noqa: ARG002 - the base's signature
        """Refuse: there is nothing to fetch from outside Kubernetes."""
        raise self._refuse()


@hookimpl
def tunewright_model_provider() -> type[ModelProvider]:  # noqa: D103 - the hookspec documents it
    return PvcModel


@hookimpl
def tunewright_dataset_provider() -> type[DatasetProvider]:  # noqa: D103 - the hookspec documents it
    return PvcDataset
