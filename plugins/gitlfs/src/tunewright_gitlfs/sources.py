"""The providers behind `gitlfs+https://` and `gitlfs+ssh://`."""
# ruff: noqa: RUF009 - secret() makes an attrs field

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs

from tunewright import DatasetProvider, ModelProvider, RequestError, SecretRef, secret
from tunewright.providers import (
    Snapshot,
    SnapshotSource,
    accept_keywords,
    check_exclusive,
    check_http_url,
    check_patterns,
    check_text,
    check_together,
    from_uri_or_field,
    patterns,
    ref_problem,
    refuse_literal_tokens,
    renamed,
    uris_of,
)
from tunewright_gitlfs.uri import GitSource, folder_problem, parse_uri


def _other_spellings(slot: str) -> Callable[[dict[str, object]], dict[str, object]]:
    rename = renamed(**{slot: "uri"})

    def rewrite(keywords: dict[str, object]) -> dict[str, object]:
        given = rename(keywords)
        key = given.get("ssh_private_key")
        # A key file ends with a line break, which a secret must not have; it is added again in the container.
        return {**given, "ssh_private_key": key.strip()} if isinstance(key, str) else given

    return rewrite


def _check_ref(instance: object, attribute: attrs.Attribute[str | None], value: str | None) -> None:
    if value is not None and (not isinstance(value, str) or ref_problem(value)):
        field, remedy = f"{type(instance).__name__}.{attribute.name}", "Give a branch, a tag or a commit."
        raise RequestError("is not a valid git ref", field=field, value=value, remedy=remedy)


def _check_folder(instance: object, attribute: attrs.Attribute[str | None], value: str | None) -> None:
    if value is not None and (problem := folder_problem(value) if isinstance(value, str) else "is not text"):
        field, remedy = f"{type(instance).__name__}.{attribute.name}", "Give a folder relative to the repository."
        raise RequestError(problem, field=field, value=value, remedy=remedy)


def _check_known_hosts(instance: object, attribute: attrs.Attribute[str | None], value: str | None) -> None:
    if value is None:
        return
    field, remedy = (
        f"{type(instance).__name__}.{attribute.name}",
        "Give the output of `ssh-keyscan host`, after verifying it.",
    )
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise RequestError("is not the text of a known_hosts file", field=field, remedy=remedy)
    refuse_literal_tokens(value, field, remedy)


@attrs.frozen(kw_only=True, slots=False)  # without slots it can be mixed into providers, which have theirs
class GitLFSSource(SnapshotSource):
    """Fields that the model and the dataset provider share, named as in git and git-lfs.

    For https give `token`, or `username` and `password`; for ssh give `ssh_private_key` and `known_hosts`.

    Attributes:
        ref: branch, tag or commit, as `@ref` in the URI; None means the remote's default branch.
        path: folder in the repository, as `#folder` in the URI; None means all of it.
        include: patterns of the LFS files to fetch, as in gitignore(5), relative to `path`; none for all. Files that are
            not in LFS are always fetched.
        exclude: patterns of the files to leave out, in LFS or not.
        lfs_url: URL of the LFS server: "https://lfs.example/org/name". None for the repository's own; a `.lfsconfig` in the
            repository is ignored, since it could name any host.
        lfs_token: an access token of the LFS server that `lfs_url` names. On the repository's own host, its credential is used.
        token: an access token of the server.
        username: user name, for servers without tokens; needs `password`.
        password: password, for servers without tokens; needs `username`.
        ssh_private_key: the text of an OpenSSH private key without a passphrase.
        known_hosts: the text of a known_hosts file with the servers to trust. It is not a secret.
    """

    extra: ClassVar[str | None] = "fetch"

    ref: str | None = attrs.field(default=None, validator=[check_text, _check_ref])
    path: str | None = attrs.field(default=None, validator=[check_text, _check_folder])
    include: tuple[str, ...] = attrs.field(default=(), converter=patterns, validator=check_patterns)
    exclude: tuple[str, ...] = attrs.field(default=(), converter=patterns, validator=check_patterns)
    lfs_url: str | None = attrs.field(default=None, validator=check_http_url)
    lfs_token: str | SecretRef | None = secret(env="GIT_LFS_TOKEN")
    token: str | SecretRef | None = secret(env="GIT_TOKEN")
    username: str | SecretRef | None = secret(env="GIT_USERNAME")
    password: str | SecretRef | None = secret(env="GIT_PASSWORD")
    ssh_private_key: str | SecretRef | None = secret(env="GIT_SSH_PRIVATE_KEY")
    known_hosts: str | None = attrs.field(default=None, validator=_check_known_hosts)

    def __attrs_post_init__(self) -> None:
        """Refuse URIs that are unsafe for git, and credentials that do not fit the URI."""
        check_together(self, "username", "password")
        if self.lfs_token is not None:
            check_together(self, "lfs_token", "lfs_url")
        check_exclusive(self, "token", "password", "ssh_private_key")
        for field, uri in uris_of(self):
            self._check_credentials(self._source(uri, field), field)

    @property
    def source(self) -> GitSource:
        """The commit and folder that `uri`, `ref` and `path` name together."""
        return self._source(self.uri, f"{type(self).__name__}.uri")

    def snapshot(self) -> Snapshot:
        """Fetch the commit without its files, and return its snapshot; runs in the container."""
        from tunewright_gitlfs.origin import HttpOrigin, LfsElsewhere, Origin, SshOrigin
        from tunewright_gitlfs.repository import importing_git
        from tunewright_gitlfs.snapshot import GitSnapshot
        from tunewright_launcher.http import Http

        source, http = self.source, Http()
        origin: Origin
        if source.transport == "ssh":
            origin = SshOrigin(source, key=_literal(self.ssh_private_key), known_hosts=self.known_hosts)
        else:
            token, username, password = map(_literal, (self.token, self.username, self.password))
            with importing_git():
                origin = HttpOrigin(source, http, token=token, username=username, password=password)
        if self.lfs_url is not None:
            origin = LfsElsewhere(origin, self.lfs_url, _literal(self.lfs_token))
        patterns = {"include": self.include, "exclude": self.exclude}
        return GitSnapshot(origin, http, ref=source.ref, folder=source.folder, **patterns)

    def _source(self, uri: str, field: str) -> GitSource:
        named, cls = parse_uri(uri, field), type(self).__name__
        ref = from_uri_or_field(named.ref, self.ref, field=f"{cls}.ref", uri=uri)
        folder = from_uri_or_field(named.folder, self.path, field=f"{cls}.path", uri=uri)
        return attrs.evolve(named, ref=ref, folder=folder)

    def _check_credentials(self, source: GitSource, field: str) -> None:
        unfit = ("token", "username", "password") if source.transport == "ssh" else ("ssh_private_key", "known_hosts")
        for name in unfit:
            if getattr(self, name) is not None:
                fit = "ssh_private_key=" if source.transport == "ssh" else "token=, or username= and password="
                problem = f"does not apply to {source.transport}, which {field} names"
                raise RequestError(problem, field=f"{type(self).__name__}.{name}", remedy=f"Give {fit}.")


def _literal(value: str | SecretRef | None) -> str | None:
    """Return a secret in the container, where it is a plain string and no longer a reference."""
    return value if isinstance(value, str) else None


@accept_keywords(_other_spellings("model"))
@attrs.frozen(kw_only=True)
class GitLFSModelParams(GitLFSSource, ModelProvider):
    """A model in a git repository. `model=` is an alias of `uri=`."""


@accept_keywords(_other_spellings("dataset"))
@attrs.frozen(kw_only=True)
class GitLFSDatasetParams(GitLFSSource, DatasetProvider):
    """A dataset in a git repository. `dataset=` is an alias of `uri=`."""
