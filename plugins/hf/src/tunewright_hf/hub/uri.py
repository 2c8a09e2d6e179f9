"""`hf://` URIs."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode

import attrs

from tunewright.providers import bad_uri, ref_problem, split_uri
from tunewright_hf.config.dataset_part import split_and_rows

RepoType = Literal["model", "dataset"]
_FORMS: dict[RepoType, str] = {
    "model": "hf://org/name[@revision]",
    "dataset": "hf://datasets/org/name[@revision][?config=name&split=name]",
}

_QUERY = ("config", "split")

# The Hub's other namespaces, which share its paths with the organisations.
_OTHERS = ("datasets", "models", "spaces", "buckets", "kernels")

# As in huggingface_hub's validate_repo_id; a test compares the two.
_REPO_ID = re.compile(r"(?:\b[\w.-]{1,96}\b/)?\b[\w.-]{1,96}\b", re.ASCII)


@attrs.frozen(kw_only=True)
class HubRepo:
    """A repository on the Hub.

    Attributes:
        repo_type: "model" or "dataset".
        repo_id: "org/name", or "name" for the few without an organisation.
        revision: branch, tag or commit; None means `main`.
        config: a configuration of a dataset; None if none is named.
        split: a split of a dataset, or a slice of it; None if none is named.
    """

    repo_type: RepoType
    repo_id: str
    revision: str | None = None
    config: str | None = None
    split: str | None = None

    @property
    def uri(self) -> str:
        """The URI as the user writes it: the inverse of `parse_uri`."""
        kind = "datasets/" if self.repo_type == "dataset" else ""
        part = {name: getattr(self, name) for name in _QUERY if getattr(self, name) is not None}
        query = f"?{urlencode(part, quote_via=quote)}" if part else ""
        return f"hf://{kind}{self.repo_id}" + (f"@{quote(self.revision)}" if self.revision else "") + query


def parse_uri(uri: str, repo_type: RepoType, field: str = "uri") -> HubRepo:
    """Return the repository that a URI names. A dataset's URI may leave `datasets/` out. Values are percent-decoded.

    Raises:
        RequestError: the URI does not name a repository of this type on the Hub.
    """
    form = _FORMS[repo_type]
    rest = split_uri(uri, scheme="hf", form=form, field=field).rest
    rest, question_mark, query = rest.partition("?") if repo_type == "dataset" else (rest, "", "")
    location, at_sign, revision = rest.partition("@")
    space, _, below = location.partition("/")
    repo_id = below if space == "datasets" and repo_type == "dataset" else location
    if space in _OTHERS and repo_id == location:
        raise bad_uri(
            f"names something among the Hub's {space}, but a {repo_type} is needed", uri, field=field, form=form
        )
    if not _is_repo_id(repo_id):
        raise bad_uri("does not name a repository on the Hub", uri, field=field, form=form)
    if at_sign and (problem := ref_problem(unquote(revision))):
        raise bad_uri(problem, uri, field=field, form=form)
    part = _part(query, uri, field) if question_mark else {}
    return HubRepo(repo_type=repo_type, repo_id=repo_id, revision=unquote(revision) if at_sign else None, **part)


def _part(query: str, uri: str, field: str) -> dict[str, str]:
    """Return the configuration and the split that the query of a dataset's URI names."""
    pairs = parse_qsl(query, keep_blank_values=True)
    part = dict(pairs)
    if not pairs or len(part) < len(pairs) or set(part) - set(_QUERY):
        problem = f"has the query {query!r}, which does not name config and split once each"
        raise bad_uri(problem, uri, field=field, form=_FORMS["dataset"])
    if not all(value.strip() and value.isprintable() for value in part.values()):
        raise bad_uri("names an empty configuration or split", uri, field=field, form=_FORMS["dataset"])
    if "split" in part:
        split_and_rows(part["split"], field)
    return part


def _is_repo_id(repo_id: str) -> bool:
    odd = "--" in repo_id or ".." in repo_id or repo_id.endswith(".git")
    return not odd and _REPO_ID.fullmatch(repo_id) is not None
