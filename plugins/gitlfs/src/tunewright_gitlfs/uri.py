"""`gitlfs+https://host/org/repo[@ref][#folder]`, read and written.

What comes out is handed to git, which runs commands for some URLs and takes what begins with `-` for an option: nothing
of the kind gets through.
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
    """What a URI names.

    Attributes:
        transport: "https", "http" or "ssh".
        host: with its port, and for ssh with its user: "git@host".
        repository: its path on the host, percent-encoded where it needs to be.
        ref: a branch, tag or commit; None is the remote's default branch.
        folder: within the repository; None is all of it.
    """

    transport: Transport
    host: str
    repository: str
    ref: str | None = None
    folder: str | None = None

    @property
    def url(self) -> str:
        """The remote's URL, as git takes it."""
        return f"{self.transport}://{self.host}/{self.repository}"

    @property
    def uri(self) -> str:
        """As the user writes it: the inverse of `parse_uri`."""
        ref = f"@{quote(self.ref)}" if self.ref else ""
        folder = f"#{quote(self.folder)}" if self.folder else ""
        return f"gitlfs+{self.url}{ref}{folder}"


def parse_uri(uri: str, field: str = "uri") -> GitSource:
    """What the URI names; its ref and folder are percent-decoded.

    Raises:
        RequestError: it is not of the form, or holds anything that git might run, send or follow elsewhere.
    """
    if isinstance(uri, str) and "::" in uri:
        raise bad_uri("has '::', with which git runs other programs", uri, field=field, form=FORM)
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
        # The value stays unsaid: a token alone is a user name for many servers.
        remedy = "Give token=, or username= and password=; for ssh, a plain user name such as git@host is fine."
        raise RequestError("has a user name or password in it", field=field, remedy=remedy)
    if not _HOST.fullmatch(host):
        raise RequestError("has no host name that can be reached", field=field, remedy=f"Write it as {FORM}.")
    return parts.authority


def _problem(source: GitSource) -> str | None:
    if not _REPOSITORY.fullmatch(source.repository) or path_problem(unquote(source.repository)):
        return "names no repository"
    if source.ref is not None and (problem := ref_problem(source.ref)):
        return problem
    if source.folder is not None:
        return folder_problem(source.folder)
    return None


def folder_problem(folder: str) -> str | None:
    """Why a folder of a repository is refused, as a clause, or None."""
    if not folder or folder.startswith("-") or "::" in folder:
        return "names a folder that is empty, begins with '-' or has '::'"
    if ".git" in folder.lower().split("/"):
        return "names git's own folder"
    return path_problem(folder)
