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
