"""Parse and format `gitlfs+https://host/org/repo[@ref][#folder]`.

The parts are passed to git, which runs commands for some URLs and takes what begins with `-` as an option: such parts are
refused.
"""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import quote, unquote

import attrs

from tunewright import RequestError
from tunewright.providers import UriParts, bad_uri, path_problem, ref_problem, split_uri

FORM = "gitlfs+https://host/org/repo[@ref][#folder] or gitlfs+ssh://git@host/org/repo[@ref][#folder]"
Transport = Literal["https", "http", "ssh"]

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_REPOSITORY = re.compile(r"[A-Za-z0-9_.~%+,=-]+(?:/[A-Za-z0-9_.~%+,=-]+)*")


@attrs.frozen(kw_only=True)
class GitSource:
    """The repository, ref and folder that a URI names.

    Attributes:
        transport: "https", "http" or "ssh".
        host: host with its port, and for ssh with its user: "git@host".
        repository: the repository's path on the host, percent-encoded where necessary.
        ref: a branch, tag or commit; None means the remote's default branch.
        folder: a folder in the repository; None means all of it.
    """

    transport: Transport
    host: str
    repository: str
    ref: str | None = None
    folder: str | None = None

    @property
    def url(self) -> str:
        """The remote's URL for git."""
        return f"{self.transport}://{self.host}/{self.repository}"

    @property
    def uri(self) -> str:
        """The URI as the user writes it: the inverse of `parse_uri`."""
        ref = f"@{quote(self.ref)}" if self.ref else ""
        folder = f"#{quote(self.folder)}" if self.folder else ""
        return f"gitlfs+{self.url}{ref}{folder}"


def parse_uri(uri: str, field: str = "uri") -> GitSource:
    """Return what a URI names; its ref and folder are percent-decoded.

    Raises:
        RequestError: it does not have the form, or contains something that git might run, send or follow elsewhere.
    """
    if isinstance(uri, str) and "::" in uri:
        raise bad_uri("contains '::', by which git runs other programs", uri, field=field, form=FORM)
    parts = split_uri(uri, scheme="gitlfs", form=FORM, field=field, transports=("https", "http", "ssh"))
    path, hash_sign, folder = parts.path.partition("#")
    repository, at_sign, ref = path.partition("@")
    source = GitSource(
        transport=parts.transport,  # type: ignore[arg-type] # split_uri takes no other
        host=_host(parts, field),
        repository=repository.removesuffix("/"),
        ref=unquote(ref) if at_sign else None,
        folder=unquote(folder).removesuffix("/") if hash_sign else None,
    )
    if problem := _problem(source):
        raise bad_uri(problem, uri, field=field, form=FORM)
    return source


def _host(parts: UriParts, field: str) -> str:
    user, at_sign, host = parts.authority.rpartition("@")
    if at_sign and (parts.transport != "ssh" or not _USER.fullmatch(user)):
        # The value is not shown: many servers take a token as the user name.
        remedy = "Give token=, or username= and password=; for ssh, a plain user name such as git@host is fine."
        raise RequestError("contains a user name or password", field=field, remedy=remedy)
    if not _HOST.fullmatch(host):
        raise RequestError("has no valid host name", field=field, remedy=f"Write it as {FORM}.")
    return parts.authority


def _problem(source: GitSource) -> str | None:
    if not _REPOSITORY.fullmatch(source.repository) or path_problem(unquote(source.repository)):
        return "does not name a repository"
    if source.ref is not None and (problem := ref_problem(source.ref)):
        return problem
    if source.folder is not None:
        return folder_problem(source.folder)
    return None


def folder_problem(folder: str) -> str | None:
    """Return why a folder of a repository is refused, as a clause, or None."""
    if not folder or folder.startswith("-") or "::" in folder:
        return "names a folder that is empty, begins with '-' or contains '::'"
    if ".git" in folder.lower().split("/"):
        return "names git's own folder"
    return path_problem(folder)
