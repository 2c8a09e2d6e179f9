"""`output="hf://org/name"`: commit results to a repository on the Hub, with huggingface_hub."""

from __future__ import annotations

import contextlib
import functools
import http.client
import importlib.util
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import attrs

from tunewright import ExitCode, FetchError
from tunewright.providers import Digest, Entry, Snapshot, Store
from tunewright_hf.hub.client import Hub
from tunewright_hf.hub.snapshot import HubSnapshot
from tunewright_launcher.http import Headers, is_there, refusal

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HfHubHTTPError

_TIMEOUT = 300.0  # seconds; the Hub takes its time for a large commit
_MOVED = (HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED)
_COMMIT = re.compile(r"[0-9a-f]{40}")


class HubStore(Store):
    """A repository to commit to, on the branch that its revision names.

    Args:
        hub: the repository. It is created, as a private one, if it does not exist.

    Raises:
        FetchError: NO_PERMISSION: no token is given. USAGE: the revision is a commit.
    """

    atomic: ClassVar[bool] = True
    check_leaves_traces: ClassVar[bool] = True

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._branch = hub.repo.revision or "main"
        if hub.token is None:
            remedy = "Give access_token= a token with write permission; for `tunewright push`, set HF_TOKEN to it."
            raise FetchError(f"{hub.repo.uri} needs a token.", remedy=remedy, code=ExitCode.NO_PERMISSION)
        if _COMMIT.fullmatch(self._branch):
            cause = f"{hub.repo.uri} names a commit, and a result can only be added to a branch."
            raise FetchError(cause, remedy="Name a branch, or leave the revision out for main.", code=ExitCode.USAGE)

    def check_writable(self) -> None:
        """Create the repository if needed, and ask how to upload a file, which needs the same permission as a commit."""
        from huggingface_hub import CommitOperationAdd

        self._make()
        probe = CommitOperationAdd(path_in_repo="check", path_or_fileobj=b"")
        with self._errors():
            self._api.preupload_lfs_files(self._hub.repo.repo_id, [probe], revision=self._branch)

    def entries(self, folder: str) -> Iterator[Entry]:
        """See `Store.entries`. A branch that does not exist yet has no entries."""
        try:
            yield from self._hub.tree(self._hub.commit(), folder)
        except FetchError as error:
            if error.code is not ExitCode.NOT_FOUND:
                raise

    def upload(self, files: Mapping[str, Path]) -> None:
        """Commit the files together, and compare the commit's digests with them."""
        self.replace(files, ())

    def replace(self, files: Mapping[str, Path], superseded: Collection[str]) -> None:
        """Commit the files, and the removal of others, together; compare the commit's digests with them."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        with contextlib.ExitStack() as opened:
            # huggingface_hub uploads files that are given by path to Xet, even if the Hub does not support it.
            contents = files if self._by_path else {p: opened.enter_context(f.open("rb")) for p, f in files.items()}
            with self._errors():
                added = [CommitOperationAdd(path_in_repo=p, path_or_fileobj=contents[p]) for p in files]
            # Of a try before, which was answered too late, there may be none left to remove.
            old = {entry.path for entry in self.entries("")} & {*superseded} if superseded else ()
            removed = [CommitOperationDelete(path_in_repo=path, is_folder=False) for path in sorted(old)]
            if not (added or removed):
                return
            commit = self._commit_to_any([*added, *removed], _message(len(added), len(removed)))
        self._compare(commit, files, {one.path_in_repo: one.upload_info.sha256.hex() for one in added})

    def _compare(self, commit: str, files: Mapping[str, Path], digests: Mapping[str, str]) -> None:
        """Compare a commit with the files, and the SHA-256 digests that huggingface_hub computed of them.

        Raises:
            FetchError: BAD_DATA: it lacks a file.
        """
        there = {entry.path: entry for entry in self._hub.tree(commit) if entry.path in files}
        for path, file in files.items():
            entry, computed = there.get(path), Digest(algorithm="sha256", value=digests[path])
            # A large file is not read once more.
            if not (entry and computed in entry.digests) and not is_there(entry, file):
                cause = f"{self._hub.repo.uri} lacks the uploaded {path} in the commit {commit}."
                remedy = "Check whether a .gitignore in the repository excludes it."
                raise FetchError(cause, remedy=remedy, code=ExitCode.BAD_DATA)

    def remove(self, folder: str) -> None:
        """Remove a folder with a commit."""
        from huggingface_hub import CommitOperationDelete

        if any(True for _ in self.entries(folder)):
            self._commit([CommitOperationDelete(path_in_repo=f"{folder}/", is_folder=True)], f"Remove {folder}")

    def remove_files(self, paths: Collection[str]) -> None:
        """Remove files with a commit."""
        self.replace({}, paths)

    def snapshot(self, folder: str) -> Snapshot:
        """A folder of the newest commit."""
        return HubSnapshot(self._hub, folder=folder)

    @property
    def _api(self) -> HfApi:
        from huggingface_hub import HfApi, get_session

        # It has no timeout of its own: a server that hangs would block the job forever.
        get_session().timeout = _TIMEOUT
        return HfApi(endpoint=self._hub.endpoint, token=self._hub.token, library_name="tunewright-hf")

    @functools.cached_property
    def _by_path(self) -> bool:
        """Whether files may be given to huggingface_hub by path: it has no client for Xet, or the Hub supports it."""
        from huggingface_hub import constants

        if constants.HF_HUB_DISABLE_XET or importlib.util.find_spec("hf_xet") is None:
            return True
        response, _ = self._hub.http.send(self._hub.request(f"{self._hub.api}/xet-write-token/main"))
        self._hub.http.close_unread(response)
        return response.status == HTTPStatus.OK

    def _make(self) -> None:
        try:
            self._hub.commit()
        except FetchError as error:
            if error.code is not ExitCode.NOT_FOUND:
                raise
        else:
            return
        with self._errors():
            self._api.create_repo(self._hub.repo.repo_id, private=True, exist_ok=True)
            if self._branch != "main":
                self._api.create_branch(self._hub.repo.repo_id, branch=self._branch, exist_ok=True)

    def _commit_to_any(self, operations: Sequence[CommitOperationAdd | CommitOperationDelete], message: str) -> str:
        """Commit, to a repository that is created if it does not exist."""
        try:
            return self._commit(operations, message)
        except FetchError as error:
            if error.code is not ExitCode.NOT_FOUND:
                raise
        self._make()
        return self._commit(operations, message)

    def _commit(self, operations: Sequence[CommitOperationAdd | CommitOperationDelete], message: str) -> str:
        with self._errors():
            info = self._api.create_commit(
                self._hub.repo.repo_id, operations, commit_message=message, revision=self._branch
            )
        return info.oid

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Translate the exceptions of huggingface_hub."""
        from huggingface_hub.errors import OfflineModeIsEnabled

        try:
            yield
        except OfflineModeIsEnabled as error:
            cause = f"HF_HUB_OFFLINE is set, so nothing can be written to {self._hub.repo.uri}."
            raise FetchError(cause, remedy="Remove it from env.", code=ExitCode.USAGE) from error
        except FileNotFoundError:
            raise
        except Exception as error:  # of whichever transport it uses
            raise self._meaning(error) from error

    def _meaning(self, error: Exception) -> FetchError:
        if (refused := _http_error(error)) is not None:
            return self._refused(refused)
        cause = f"Writing to {self._hub.repo.uri} failed: {type(error).__name__}: {error}."
        if isinstance(error, ValueError):
            return FetchError(cause, remedy="Correct the files to upload.", code=ExitCode.BAD_DATA)
        remedy = "Check that the Hub is reachable from where the job runs."
        return FetchError(cause, remedy=remedy, code=ExitCode.UNAVAILABLE)

    def _refused(self, error: HfHubHTTPError) -> FetchError:
        response, headers = error.response, http.client.HTTPMessage()
        for name, value in response.headers.items():
            headers[name] = value
        status, uri = response.status_code, self._hub.repo.uri
        if status in _MOVED:
            cause = f"{uri} was changed by somebody else in the meantime."
            remedy = "Start the upload again, once nobody else commits there."
            return FetchError(cause, remedy=remedy, code=ExitCode.TRY_AGAIN)
        return self._hub.refused(status, headers, response.content) or refusal(
            uri, _Answer(status, response.reason_phrase, headers), response.content
        )


@attrs.define
class _Answer:
    status: int
    reason: str
    headers: Headers


def _message(added: int, removed: int) -> str:
    """Return what a commit says of itself."""
    if not added:
        return f"Remove {removed} files of an earlier result"
    return f"Upload {added} files with Tunewright" + (f", and remove {removed} of an earlier result" if removed else "")


def _http_error(error: BaseException | None) -> HfHubHTTPError | None:
    """Return the HTTP error that caused an error, if any."""
    from huggingface_hub.errors import HfHubHTTPError

    while error is not None and not isinstance(error, HfHubHTTPError):
        error = error.__cause__
    return error
