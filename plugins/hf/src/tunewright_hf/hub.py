"""The Hub, for the container half: what a repository holds at one commit, and how to write to one.

huggingface_hub resolves and lists; the engine fetches, because `snapshot_download` reports success for files that are cut
off, damaged or refused. Every file has a digest in the commit's tree: SHA-256 for those in LFS or Xet, git's blob SHA-1 for
the others. Files in Xet are read over `/resolve/`, which serves them whole to every client: their chunks are another way to
the same bytes, and could not be compared with a digest before all of them are there.
"""

from __future__ import annotations

import contextlib
import fnmatch
import http.client
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar

from tunewright import ExitCode, FetchError
from tunewright.outputs import Store
from tunewright.snapshots import Digest, Entry, Snapshot
from tunewright_hf.sources import HubRepo
from tunewright_launcher.http import HttpRequest, HttpSnapshot, retry_after, shown

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import RepoFile

# The same weights in the formats of other libraries, and of before safetensors.
_SAME_WEIGHTS = (
    "pytorch_model*.bin",
    "pytorch_model*.bin.index.json",
    "adapter_model.bin",
    "tf_model*.h5",
    "tf_model*.h5.index.json",
    "flax_model*.msgpack",
    "flax_model*.msgpack.index.json",
    "rust_model.ot",
)

Selects = Callable[[str], bool]


class HubSnapshot(HttpSnapshot):
    """A repository at one commit.

    Args:
        api: the Hub.
        repo: the repository; its revision is resolved once.
        selects: whether a path is wanted.
        folder: only what lies below it; paths are relative to it.

    Raises:
        FetchError: NOT_FOUND, NO_PERMISSION, UNAVAILABLE.
    """

    def __init__(self, api: HfApi, repo: HubRepo, selects: Selects, *, folder: str = "") -> None:
        super().__init__()
        self._api = api
        self._repo = repo
        self._selects = selects
        self._folder = folder
        with hub_errors(repo):
            info = api.repo_info(repo.repo_id, revision=repo.revision, repo_type=repo.repo_type)
        self.revision = str(info.sha)

    def entries(self) -> Iterator[Entry]:
        """The selected files of the commit's tree."""
        prefix = f"{self._folder}/" if self._folder else ""
        found = {file.path.removeprefix(prefix): file for file in self._files() if file.path.startswith(prefix)}
        for path in without_same_weights([path for path in found if self._selects(path)]):
            yield Entry(path=path, size=found[path].size, digests=(_digest(found[path]),), source=found[path].path)

    def _files(self) -> list[RepoFile]:
        from huggingface_hub.hf_api import RepoFile

        with hub_errors(self._repo):
            tree = self._api.list_repo_tree(
                self._repo.repo_id, recursive=True, revision=self.revision, repo_type=self._repo.repo_type
            )
            return [item for item in tree if isinstance(item, RepoFile)]

    def request(self, entry: Entry) -> HttpRequest:
        """`/resolve/` at the commit; the token goes to the Hub alone, and not to where it redirects to."""
        from huggingface_hub import hf_hub_url

        url = hf_hub_url(
            self._repo.repo_id,
            entry.source,
            repo_type=self._repo.repo_type,
            revision=self.revision,
            endpoint=self._api.endpoint,
        )
        return HttpRequest(url=url, headers={"Authorization": f"Bearer {self._api.token}"} if self._api.token else {})

    def refusal(self, entry: Entry, status: int, headers: http.client.HTTPMessage, body: bytes) -> FetchError | None:
        """The Hub says in a header what its statuses leave open."""
        del body
        if headers.get("X-Error-Code") == "GatedRepo":
            return _gated(self._repo)
        if status == HTTPStatus.UNAUTHORIZED:
            return _refused(f"{entry.path} was answered with 401.")
        return None


class HubStore(Store):
    """A repository that outputs are committed to.

    Args:
        api: the Hub.
        repo: the repository; made, private, with the first upload.
    """

    atomic: ClassVar[bool] = True

    def __init__(self, api: HfApi, repo: HubRepo) -> None:
        self._api = api
        self._repo = repo

    def check_writable(self) -> None:
        """Make the repository, which needs the same permission as a commit."""
        with hub_errors(self._repo):
            self._api.create_repo(self._repo.repo_id, repo_type=self._repo.repo_type, private=True, exist_ok=True)

    def entries(self, folder: str) -> Iterator[Entry]:
        """The files below a folder, with their digests; none where there is no repository yet."""
        try:
            found = list(HubSnapshot(self._api, self._repo, lambda _: True, folder=folder).entries())
        except FetchError as error:
            if error.code is not ExitCode.NOT_FOUND:
                raise
            found = []
        return iter([_moved(entry) for entry in found])

    def upload(self, files: Mapping[str, Path]) -> None:
        """One commit; what is in LFS already is not sent again."""
        from huggingface_hub import CommitOperationAdd

        self.check_writable()
        added = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=file) for path, file in files.items()]
        self._commit(added, f"Upload {len(added)} files with Tunewright")

    def remove(self, folder: str) -> None:
        """One commit."""
        from huggingface_hub import CommitOperationDelete

        if any(True for _ in self.entries(folder)):
            removed = CommitOperationDelete(path_in_repo=f"{folder}/", is_folder=True)
            self._commit([removed], f"Remove {folder}")

    def snapshot(self, folder: str) -> Snapshot:
        """A folder of the newest commit."""
        return HubSnapshot(self._api, self._repo, lambda _: True, folder=folder)

    def _commit(self, operations: Sequence[CommitOperationAdd | CommitOperationDelete], message: str) -> None:
        with hub_errors(self._repo):
            self._api.create_commit(
                self._repo.repo_id,
                operations,
                commit_message=message,
                repo_type=self._repo.repo_type,
                revision=self._repo.revision,
            )


def connect(*, endpoint: str | None, token: str | None) -> HfApi:
    """The Hub. A token that somebody has logged in with on this machine is not used."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=endpoint, token=token or False)


def without_same_weights(paths: list[str]) -> list[str]:
    """The paths without weights that lie beside the same ones as safetensors."""
    safe = {PurePosixPath(path).parent for path in paths if path.endswith(".safetensors")}

    def is_double(path: PurePosixPath) -> bool:
        return path.parent in safe and any(fnmatch.fnmatchcase(path.name, pattern) for pattern in _SAME_WEIGHTS)

    return [path for path in paths if not is_double(PurePosixPath(path))]


@contextlib.contextmanager
def hub_errors(repo: HubRepo) -> Iterator[None]:
    """What huggingface_hub raises, as what it means for a fetch."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise _gated(repo) from error
    except errors.RevisionNotFoundError as error:
        cause = f"{repo.uri} has no revision {repo.revision!r}."
        raise FetchError(
            cause, remedy="Name a branch, a tag or a commit that it has.", code=ExitCode.NOT_FOUND
        ) from error
    except (errors.RepositoryNotFoundError, errors.EntryNotFoundError) as error:
        remedy = "Check the name; if it is private, give access_token=, of somebody who may read it."
        raise FetchError(f"The Hub does not show {repo.uri}.", remedy=remedy, code=ExitCode.NOT_FOUND) from error
    except errors.OfflineModeIsEnabled as error:
        remedy = "Leave it out of init_env, or use file:// or pvc://."
        cause = f"HF_HUB_OFFLINE is set, and {repo.uri} is on the Hub."
        raise FetchError(cause, remedy=remedy, code=ExitCode.USAGE) from error
    except errors.HfHubHTTPError as error:
        raise _status_error(repo, error) from error
    except OSError as error:  # of the transport, whichever library it is
        cause = f"The Hub gives no answer about {repo.uri}: {type(error).__name__}."
        remedy = "Look whether it can be reached from where the step runs."
        raise FetchError(cause, remedy=remedy, code=ExitCode.UNAVAILABLE) from error


def _status_error(repo: HubRepo, error: HfHubHTTPError) -> FetchError:
    status = error.response.status_code
    said = f"The Hub answered {status} about {repo.uri} ({shown(str(error.response.url))})."
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return _refused(said)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        message = http.client.HTTPMessage()
        message["Retry-After"] = error.response.headers.get("Retry-After", "")
        wait = retry_after(message)
        return FetchError(said, remedy="It is tried again.", code=ExitCode.TRY_AGAIN, retry_after=wait)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return FetchError(said, remedy="It is tried again.", code=ExitCode.UNAVAILABLE)
    return FetchError(said, remedy="Check the URI and the endpoint.", code=ExitCode.BAD_DATA)


def _refused(said: str) -> FetchError:
    remedy = (
        "Give access_token=, of somebody who may use it; a token that has expired, or may only read, has to be renewed."
    )
    return FetchError(said, remedy=remedy, code=ExitCode.NO_PERMISSION)


def _gated(repo: HubRepo) -> FetchError:
    cause = f"{repo.uri} is gated, and the token's owner has not been let in."
    remedy = "Accept its terms on its page at the Hub, and give access_token= of the same account."
    return FetchError(cause, remedy=remedy, code=ExitCode.NO_PERMISSION)


def _digest(file: RepoFile) -> Digest:
    if file.lfs is not None:
        return Digest(algorithm="sha256", value=file.lfs.sha256)
    return Digest(algorithm="git-blob-sha1", value=file.blob_id)


def _moved(entry: Entry) -> Entry:
    """With the path relative to the repository, as a store has it."""
    return Entry(path=entry.source, size=entry.size, digests=entry.digests)
