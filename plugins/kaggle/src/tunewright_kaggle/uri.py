"""Parse and format `kaggle://…`. The parts are Kaggle's own handles, as in its web URLs and in kagglehub."""

from __future__ import annotations

import re

import attrs

from tunewright.providers import bad_uri, split_uri

DATASET_FORM = "kaggle://datasets/owner/name[/versions/N]"
MODEL_FORM = "kaggle://models/owner/model/framework/variation[/N]"
COMPETITION_FORM = "kaggle://competitions/name"
_FORM = f"{DATASET_FORM}, {MODEL_FORM} or {COMPETITION_FORM}"

_SLUG = r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.))*"
_VERSION = r"[1-9][0-9]{0,8}"
_DATASET = re.compile(rf"datasets/(?P<owner>{_SLUG})/(?P<name>{_SLUG})(?:/versions/(?P<version>{_VERSION}))?/?")
_MODEL = re.compile(
    rf"models/(?P<owner>{_SLUG})/(?P<name>{_SLUG})/(?P<framework>{_SLUG})/(?P<variation>{_SLUG})(?:/(?P<version>{_VERSION}))?/?"
)
_COMPETITION = re.compile(rf"competitions/(?P<name>{_SLUG})/?")


@attrs.frozen(kw_only=True)
class KaggleDataset:
    """A dataset; version None means the newest."""

    owner: str
    name: str
    version: int | None = None

    @property
    def uri(self) -> str:
        """As the user writes it."""
        version = f"/versions/{self.version}" if self.version else ""
        return f"kaggle://datasets/{self.owner}/{self.name}{version}"


@attrs.frozen(kw_only=True)
class KaggleModel:
    """A variation of a model for a framework; version None means the newest."""

    owner: str
    name: str
    framework: str
    variation: str
    version: int | None = None

    @property
    def uri(self) -> str:
        """As the user writes it."""
        version = f"/{self.version}" if self.version else ""
        return f"kaggle://models/{self.owner}/{self.name}/{self.framework}/{self.variation}{version}"


@attrs.frozen(kw_only=True)
class KaggleCompetition:
    """The data of a competition, which has no versions."""

    name: str

    @property
    def uri(self) -> str:
        """As the user writes it."""
        return f"kaggle://competitions/{self.name}"


KaggleHandle = KaggleDataset | KaggleModel | KaggleCompetition


def parse_uri(uri: str, field: str = "uri") -> KaggleHandle:
    """Return what a URI names.

    Raises:
        RequestError: it has none of the three forms.
    """
    rest = split_uri(uri, scheme="kaggle", form=_FORM, field=field).rest
    if match := _DATASET.fullmatch(rest):
        return KaggleDataset(owner=match["owner"], name=match["name"], version=_number(match["version"]))
    if match := _MODEL.fullmatch(rest):
        names = {k: match[k] for k in ("owner", "name", "framework", "variation")}
        return KaggleModel(**names, version=_number(match["version"]))
    if match := _COMPETITION.fullmatch(rest):
        return KaggleCompetition(name=match["name"])
    raise bad_uri("cannot name anything on Kaggle", uri, field=field, form=_FORM)


def parse_model(uri: str, field: str = "uri") -> KaggleModel:
    """Return the model that a URI names.

    Raises:
        RequestError: it does not have a model's form.
    """
    handle = parse_uri(uri, field)
    if not isinstance(handle, KaggleModel):
        raise bad_uri("names data, but a model is needed", uri, field=field, form=MODEL_FORM)
    return handle


def parse_dataset(uri: str, field: str = "uri") -> KaggleDataset | KaggleCompetition:
    """Return the dataset or competition that a URI names.

    Raises:
        RequestError: it does not have the form of a dataset or a competition.
    """
    handle = parse_uri(uri, field)
    if isinstance(handle, KaggleModel):
        form = f"{DATASET_FORM} or {COMPETITION_FORM}"
        raise bad_uri("names a model, but a dataset is needed", uri, field=field, form=form)
    return handle


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)
