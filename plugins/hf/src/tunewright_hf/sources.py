"""The providers of `hf://`: models and datasets of the Hugging Face Hub."""
# ruff: noqa: RUF009 - secret() makes an attrs field

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, cast
from urllib.parse import quote, unquote

import attrs

from tunewright import DatasetProvider, ModelProvider, RequestError, SecretRef, secret
from tunewright.outputs import OutputTarget, Store
from tunewright.providers import accept_keywords, renamed
from tunewright.snapshots import Snapshot, SnapshotSource
from tunewright.uris import (
    FilePatterns,
    bad_uri,
    check_flag,
    check_http_url,
    check_text,
    from_uri_or_field,
    ref_problem,
    split_uri,
    uris_of,
)
from tunewright_hf.inputs import split_name
from tunewright_hf.params import DataParams

if TYPE_CHECKING:
    from huggingface_hub import HfApi

RepoType = Literal["model", "dataset"]
_FORMS: dict[RepoType, str] = {
    "model": "hf://org/name[@revision]",
    "dataset": "hf://datasets/org/name[@revision]",
}
# The Hub's other name spaces, which share its paths with the organisations.
_OTHERS = ("datasets", "models", "spaces", "buckets", "kernels")
# As huggingface_hub's validate_repo_id, which a test compares it with.
_REPO_ID = re.compile(r"(?:\b[\w.-]{1,96}\b/)?\b[\w.-]{1,96}\b", re.ASCII)


@attrs.frozen(kw_only=True)
class HubRepo:
    """A repository of the Hub.

    Attributes:
        repo_type: "model" or "dataset".
        repo_id: "org/name", or "name" for the few without an organisation.
        revision: branch, tag or commit; None is `main`.
    """

    repo_type: RepoType
    repo_id: str
    revision: str | None = None

    @property
    def uri(self) -> str:
        """As the user writes it: the inverse of `parse_uri`."""
        kind = "datasets/" if self.repo_type == "dataset" else ""
        return f"hf://{kind}{self.repo_id}" + (f"@{quote(self.revision)}" if self.revision else "")


def parse_uri(uri: str, repo_type: RepoType, field: str = "uri") -> HubRepo:
    """What the URI names; a dataset's may leave `datasets/` out. The revision is percent-decoded.

    Raises:
        RequestError: it names nothing of this type on the Hub.
    """
    form = _FORMS[repo_type]
    location, at_sign, revision = split_uri(uri, scheme="hf", form=form, field=field).rest.partition("@")
    space, _, below = location.partition("/")
    repo_id = below if space == "datasets" and repo_type == "dataset" else location
    if space in _OTHERS and repo_id == location:
        raise bad_uri(
            f"names something of the Hub's {space}, and a {repo_type} is asked for", uri, field=field, form=form
        )
    if not _is_repo_id(repo_id):
        raise bad_uri("names no repository of the Hub", uri, field=field, form=form)
    if at_sign and (problem := ref_problem(unquote(revision))):
        raise bad_uri(problem, uri, field=field, form=form)
    return HubRepo(repo_type=repo_type, repo_id=repo_id, revision=unquote(revision) if at_sign else None)


def _is_repo_id(repo_id: str) -> bool:
    odd = "--" in repo_id or ".." in repo_id or repo_id.endswith(".git")
    return not odd and _REPO_ID.fullmatch(repo_id) is not None


def _check_revision(instance: object, attribute: attrs.Attribute[str | None], value: str | None) -> None:
    if value is not None and (not isinstance(value, str) or ref_problem(value)):
        field, remedy = f"{type(instance).__name__}.{attribute.name}", "Give a branch, a tag or a commit."
        raise RequestError("is not a name that the Hub takes", field=field, value=value, remedy=remedy)


def _class_name(value: object) -> str | None:
    """1.9 takes the class itself: `transformers.AutoModelForCausalLM`. The validator refuses what is no name then."""
    return cast("str | None", getattr(value, "__name__", value))


def _check_class_name(instance: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    if value is not None and not (isinstance(value, str) and value.isidentifier()):
        field, remedy = f"{type(instance).__name__}.{attribute.name}", 'Write "AutoModelForCausalLM".'
        raise RequestError("is not the name of a class of transformers", field=field, value=value, remedy=remedy)


def _check_count(instance: object, attribute: attrs.Attribute[int | None], value: object) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        field, remedy = f"{type(instance).__name__}.{attribute.name}", "Give the number of classes, or leave it out."
        raise RequestError("must be a whole number, 1 or more", field=field, value=value, remedy=remedy)


def _check_split(instance: object, attribute: attrs.Attribute[str | None], value: str | None) -> None:
    if value is not None and not re.fullmatch(r"[\w.-]+", value):
        remedy = "Write the split's name alone, such as 'train': whole files are fetched."
        field = f"{type(instance).__name__}.{attribute.name}"
        raise RequestError("is not the name of a split", field=field, value=value, remedy=remedy)


@attrs.frozen(kw_only=True, slots=False)  # without slots it can be mixed into providers, which have theirs
class HubSource(FilePatterns, SnapshotSource):
    """What the model and the dataset provider share. Field names are those of huggingface_hub.

    Attributes:
        revision: branch, tag or commit, as `@revision` in the URI; None is `main`.
        access_token: for private and gated repositories.
        endpoint: of a mirror or a hub of one's own: "https://hub.example".
    """

    extra: ClassVar[str | None] = "fetch"
    repo_type: ClassVar[RepoType]

    revision: str | None = attrs.field(default=None, validator=[check_text, _check_revision])
    access_token: str | SecretRef | None = secret(env="HF_TOKEN")
    endpoint: str | None = attrs.field(default=None, validator=check_http_url)

    def __attrs_post_init__(self) -> None:
        """Refuse URIs that name nothing on the Hub."""
        for field, uri in uris_of(self):
            self._repo(uri, field)

    def snapshot(self) -> Snapshot:
        """The repository at one commit; see `tunewright_hf.hub`."""
        from tunewright_hf.hub import HubSnapshot

        return HubSnapshot(self._api(), self.repo, self.selects)

    def _api(self) -> HfApi:
        from tunewright_hf.hub import connect

        return connect(endpoint=self.endpoint, token=self.access_token if isinstance(self.access_token, str) else None)

    @property
    def repo(self) -> HubRepo:
        """What `uri` and `revision` name together."""
        return self._repo(self.uri, f"{type(self).__name__}.uri")

    def _repo(self, uri: str, field: str) -> HubRepo:
        named = parse_uri(uri, self.repo_type, field)
        revision = from_uri_or_field(named.revision, self.revision, field=f"{type(self).__name__}.revision", uri=uri)
        return attrs.evolve(named, revision=revision)


@accept_keywords(renamed(model="uri", model_uri="uri"))
@attrs.frozen(kw_only=True)
class HuggingFaceModelParams(HubSource, OutputTarget, ModelProvider):
    """A model of the Hub. `model=` (KEP-2003) and `model_uri=` (kubeflow-training 1.9) are taken for `uri=`.

    Attributes:
        transformer_type: the class of transformers that loads it, by name or the class itself; None: the trainer
            chooses.
        num_labels: classes, for a sequence classifier.
        trust_remote_code: whether code from the repository may run.
    """

    repo_type: ClassVar[RepoType] = "model"

    transformer_type: str | None = attrs.field(default=None, converter=_class_name, validator=_check_class_name)
    num_labels: int | None = attrs.field(default=None, validator=_check_count)
    trust_remote_code: bool = attrs.field(default=False, validator=check_flag)

    def store(self) -> Store:
        """The repository, to commit to."""
        from tunewright_hf.hub import HubStore

        return HubStore(self._api(), self.repo)


def _dataset_spellings() -> Callable[[dict[str, object]], dict[str, object]]:
    rename = renamed(dataset="uri", repo_id="uri")

    def rewrite(keywords: dict[str, object]) -> dict[str, object]:
        repo_id = keywords.get("repo_id")
        bare = isinstance(repo_id, str) and "://" not in repo_id
        return rename({**keywords, "repo_id": f"hf://datasets/{repo_id}"} if bare else keywords)

    return rewrite


@accept_keywords(_dataset_spellings())
@attrs.frozen(kw_only=True)
class HuggingFaceDatasetParams(HubSource, DatasetProvider):
    """A dataset of the Hub. `dataset=` (KEP-2003) and `repo_id=` (kubeflow-training 1.9) are taken for `uri=`.

    Attributes:
        split: fetch the files of this split alone ("train"), and those that name none; None: all that there are. The
            trainer is told which one to train on by `DataParams(train_split=…)`.
    """

    repo_type: ClassVar[RepoType] = "dataset"

    split: str | None = attrs.field(default=None, validator=[check_text, _check_split])

    def selects(self, path: str) -> bool:
        """Also leaves out the files of other splits, where files or folders are named by their split."""
        if not super().selects(path):
            return False
        return self.split is None or split_name(Path(path), DataParams(train_split=self.split)) in (None, self.split)
