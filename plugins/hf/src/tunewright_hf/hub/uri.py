"""`hf://` URIs."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import quote, unquote

import attrs

from tunewright.providers import bad_uri, ref_problem, split_uri

RepoType = Literal["model", "dataset"]
_FORMS: dict[RepoType, str] = {
    "model": "hf://org/name[@revision]",
    "dataset": "hf://datasets/org/name[@revision]",
}

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
    """

    repo_type: RepoType
    repo_id: str
    revision: str | None = None

    @property
    def uri(self) -> str:
        """The URI as the user writes it: the inverse of `parse_uri`."""
        kind = "datasets/" if self.repo_type == "dataset" else ""
        return f"hf://{kind}{self.repo_id}" + (f"@{quote(self.revision)}" if self.revision else "")


def parse_uri(uri: str, repo_type: RepoType, field: str = "uri") -> HubRepo:
    """Return the repository that a URI names. A dataset's URI may leave `datasets/` out. The revision is percent-decoded.

    Raises:
        RequestError: the URI does not name a repository of this type on the Hub.
    """
    form = _FORMS[repo_type]
    location, at_sign, revision = split_uri(uri, scheme="hf", form=form, field=field).rest.partition("@")
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
    return HubRepo(repo_type=repo_type, repo_id=repo_id, revision=unquote(revision) if at_sign else None)


def _is_repo_id(repo_id: str) -> bool:
    odd = "--" in repo_id or ".." in repo_id or repo_id.endswith(".git")
    return not odd and _REPO_ID.fullmatch(repo_id) is not None
