"""The providers behind `hf://`: models and datasets on the Hugging Face Hub."""

# ruff: noqa: RUF009 - secret() makes an attrs field
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

import attrs

from tunewright import DatasetProvider, ModelProvider, RequestError, SecretRef, secret
from tunewright.providers import (
    CLIENT_ONLY,
    Entry,
    FilePatterns,
    OutputTarget,
    Snapshot,
    SnapshotSource,
    Store,
    accept_keywords,
    check_flag,
    check_http_url,
    check_text,
    from_uri_or_field,
    ref_problem,
    renamed,
    uris_of,
)
from tunewright_hf.config.dataset_part import DatasetPart, split_and_rows
from tunewright_hf.config.tasks import check_class_name, check_num_labels, class_name
from tunewright_hf.hub.uri import HubRepo, RepoType, parse_uri

if TYPE_CHECKING:
    from tunewright_hf.hub.client import Hub


def _check_revision(instance: object, attribute: attrs.Attribute[str | None], value: str | None) -> None:
    if value is not None and (not isinstance(value, str) or ref_problem(value)):
        field, remedy = f"{type(instance).__name__}.{attribute.name}", "Give a branch, a tag or a commit."
        raise RequestError("is not a valid revision on the Hub", field=field, value=value, remedy=remedy)


def _check_trust(instance: object, attribute: attrs.Attribute[bool], value: object) -> None:
    check_flag(instance, attribute, value)
    if value:
        remedy = "Give it to the trainer, which runs the code: HuggingFaceTrainParams(trust_remote_code=True)."
        field = f"{type(instance).__name__}.{attribute.name}"
        raise RequestError("does nothing for a download", field=field, value=value, remedy=remedy)


def _check_config(instance: object, attribute: attrs.Attribute[str | None], value: str | None) -> None:
    if value is not None and not (isinstance(value, str) and value.strip() and value.isprintable()):
        remedy = "Give one of the names that the dataset's page shows as subsets."
        field = f"{type(instance).__name__}.{attribute.name}"
        raise RequestError("is not the name of a configuration", field=field, value=value, remedy=remedy)


def _check_split(instance: object, attribute: attrs.Attribute[str | None], value: str | None) -> None:
    if value is not None:
        split_and_rows(value, f"{type(instance).__name__}.{attribute.name}")


@attrs.frozen(kw_only=True, slots=False)  # without slots it can be mixed into providers, which have theirs
class HubSource(FilePatterns, SnapshotSource):
    """Fields that the model and the dataset provider share, named as in huggingface_hub.

    Attributes:
        revision: branch, tag or commit, as `@revision` in the URI; None means `main`.
        access_token: token for private and gated repositories.
        endpoint: URL of a mirror or a self-hosted hub: "https://hub.example".
    """

    extra: ClassVar[str | None] = "fetch"
    repo_type: ClassVar[RepoType]

    revision: str | None = attrs.field(default=None, validator=[check_text, _check_revision])
    access_token: str | SecretRef | None = secret(env="HF_TOKEN")
    endpoint: str | None = attrs.field(default=None, validator=check_http_url)

    def __attrs_post_init__(self) -> None:
        """Refuse URIs that cannot name a repository on the Hub."""
        for field, uri in uris_of(self):
            self._repo(uri, field)

    def snapshot(self) -> Snapshot:
        """Return the repository at the commit that its revision now points to; runs in the container."""
        from tunewright_hf.hub.snapshot import HubSnapshot

        return HubSnapshot(self._hub(), self._choose)

    def _hub(self) -> Hub:
        from tunewright_hf.hub.client import Hub

        token = self.access_token if isinstance(self.access_token, str) else None
        return Hub(self.repo, endpoint=self.endpoint, token=token)

    def _choose(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Yield the files to fetch."""
        return (entry for entry in entries if self.selects(entry.path))

    @property
    def repo(self) -> HubRepo:
        """The repository that `uri` and `revision` name together."""
        return self._repo(self.uri, f"{type(self).__name__}.uri")

    def _repo(self, uri: str, field: str) -> HubRepo:
        named = parse_uri(uri, self.repo_type, field)
        revision = from_uri_or_field(named.revision, self.revision, field=f"{type(self).__name__}.revision", uri=uri)
        return attrs.evolve(named, revision=revision)


@accept_keywords(renamed(model="uri", model_uri="uri"))
@attrs.frozen(kw_only=True)
class HuggingFaceModelParams(HubSource, OutputTarget, ModelProvider):
    """A model on the Hub. `model=` (KEP-2003) and `model_uri=` (kubeflow-training 1.9) are aliases of `uri=`.

    As `output=`, the result is committed to the branch that `revision` names. A repository that does not exist is
    created as a private one.

    Attributes:
        transformer_type: the Auto class of transformers that the trainer hf loads the model with, by name or, as in 1.9, the
            class itself; see `HuggingFaceTrainParams.transformer_type`.
        num_labels: number of labels of a sequence classifier; see `HuggingFaceTrainParams.num_labels`.
        trust_remote_code: True is refused: the trainer has the field that lets code from the repository run.
    """

    repo_type: ClassVar[RepoType] = "model"

    # The trainer reads them on the client. If they travelled to the container, a change of them would fetch the same files again.
    transformer_type: str | None = attrs.field(
        default=None, converter=class_name, validator=check_class_name, metadata={CLIENT_ONLY: True}
    )
    num_labels: int | None = attrs.field(default=None, validator=check_num_labels, metadata={CLIENT_ONLY: True})
    trust_remote_code: bool = attrs.field(default=False, validator=_check_trust)

    def store(self) -> Store:
        """Return the repository to commit to; runs in the container."""
        from tunewright_hf.hub.upload import HubStore

        return HubStore(self._hub())

    def _choose(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        from tunewright_hf.hub.file_selection import without_duplicates

        selected = super()._choose(entries)
        return selected if self.allow_patterns else without_duplicates(selected)


def _dataset_spellings() -> Callable[[dict[str, object]], dict[str, object]]:
    rename = renamed(dataset="uri", repo_id="uri")

    def rewrite(keywords: dict[str, object]) -> dict[str, object]:
        repo_id, split = keywords.get("repo_id"), keywords.get("split")
        if isinstance(repo_id, str) and "://" not in repo_id:
            keywords = {**keywords, "repo_id": f"hf://datasets/{repo_id}"}
        if isinstance(split, str) and "[" in split:
            field = "HuggingFaceDatasetParams.split"
            name, rows = split_and_rows(split, field)
            rows = from_uri_or_field(
                rows, _text(keywords.get("rows")), field="HuggingFaceDatasetParams.rows", uri=field
            )
            keywords = {**keywords, "split": name, "rows": rows}
        return rename(keywords)

    return rewrite


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


@accept_keywords(_dataset_spellings(), spellings=("dataset", "repo_id"))
@attrs.frozen(kw_only=True)
class HuggingFaceDatasetParams(HubSource, DatasetProvider):
    """A dataset on the Hub. `dataset=` (KEP-2003) and `repo_id=` (kubeflow-training 1.9) are aliases of `uri=`.

    Only the files of the configuration and the split are fetched: those that the card names for them, or else those in
    folders and with names that say so. The URI may name both: `hf://datasets/org/name?config=main&split=train`. The trainer
    hf reads what is named here, without being told again.

    Attributes:
        config: a configuration of a dataset that has several: a `config_name` of its card, or a folder.
        split: a split ("train"), or a slice of one ("train[:3000]", "train[10%:]"), whose `rows` are then set; None: all.
        rows: the rows of the split that the trainer hf takes: "[:3000]". Files are fetched whole.
    """

    repo_type: ClassVar[RepoType] = "dataset"

    config: str | None = attrs.field(default=None, validator=[check_text, _check_config])
    split: str | None = attrs.field(default=None, validator=[check_text, _check_split])
    # The trainer gets them on the client. If they travelled, other rows of the same files would be another download.
    rows: str | None = attrs.field(default=None, validator=check_text, metadata={CLIENT_ONLY: True})

    def __attrs_post_init__(self) -> None:
        """Refuse a part that would apply to two datasets, or that is not named completely."""
        super().__attrs_post_init__()
        for name in ("config", "split"):
            if getattr(self, name) is not None and self.eval_dataset is not None:
                remedy = "Give train() eval_dataset= with a HuggingFaceDatasetParams of its own."
                field = f"{type(self).__name__}.{name}"
                raise RequestError(
                    "would also apply to eval_dataset", field=field, value=getattr(self, name), remedy=remedy
                )
        if self.rows is not None:
            field = f"{type(self).__name__}.rows"
            if self.split is None:
                raise RequestError("are those of no split", field=field, value=self.rows, remedy="Give split=, too.")
            if not self.rows.startswith("["):
                remedy = "Write [:3000], [-500:], [10%:] or [:90%]."
                raise RequestError("is not a slice", field=field, value=self.rows, remedy=remedy)
            split_and_rows(f"{self.split}{self.rows}", field)

    @property
    def part(self) -> DatasetPart:
        """The part of the dataset that the URI and the fields name together."""
        repo = self.repo
        split, rows = split_and_rows(repo.split, f"{type(self).__name__}.split") if repo.split else (None, None)
        return DatasetPart(config=repo.config, split=split, rows=rows)

    def snapshot(self) -> Snapshot:
        """Return the part of the repository at the commit that its revision now points to; runs in the container."""
        from tunewright_hf.hub.snapshot import DatasetSnapshot

        return DatasetSnapshot(self._hub(), self._choose, part=self.part)

    def _repo(self, uri: str, field: str) -> HubRepo:
        named, cls = super()._repo(uri, field), type(self).__name__
        config = from_uri_or_field(named.config, self.config, field=f"{cls}.config", uri=uri)
        written = None if self.split is None else f"{self.split}{self.rows or ''}"
        split = from_uri_or_field(named.split, written, field=f"{cls}.split", uri=uri)
        return attrs.evolve(named, config=config, split=split)
