"""A scratch repository: git fetches one commit of an origin into it, and checks out the files beside it.

git only gets its settings from its environment: no configuration of the user, the machine or the repository is read, and no
credential is written to a file.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import shutil
import ssl
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from tunewright import ExitCode, FetchError
from tunewright_gitlfs.failures import failure
from tunewright_gitlfs.origin import Origin

if TYPE_CHECKING:
    from git import Git

_NEEDS = (2, 31)  # the first version that reads GIT_CONFIG_COUNT
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_UNSERVED = re.compile(r"couldn't find remote ref|unadvertised object|not our ref")
_NO_FILES = "--filter=blob:none"
_SYMLINK, _SUBMODULE = "120000", "160000"
_SETTINGS = {
    "core.fsync": "none",  # the repository is not needed after a crash
    "core.hooksPath": "/dev/null",
    "core.sparseCheckout": "true",
    "core.sparseCheckoutCone": "false",
    "core.symlinks": "false",  # written as text, never as a link
    "credential.helper": "",
    "fetch.recurseSubmodules": "false",
    "gc.auto": "0",
    "http.followRedirects": "false",  # `HttpOrigin` has followed them
    # A server that is busy packing sends five bytes every five seconds; see uploadpack.keepAlive in git-config(1).
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "60",
    "maintenance.auto": "false",
    "protocol.version": "2",
}
_ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "http:https:ssh",
    "GIT_ASKPASS": "",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_PARAMETERS": "",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_TRACE_CURL": "",
    "SSH_ASKPASS": "",
}
# Takes precedence over every .gitattributes, so that files keep the bytes that git stores.
_ATTRIBUTES = "* -text -ident -filter -working-tree-encoding\n"


@attrs.frozen
class Blob:
    """A file of the commit.

    Attributes:
        path: path relative to the folder that is checked out.
        oid: the blob's SHA-1.
    """

    path: str
    oid: str


class Repository:
    """One commit of an origin, without its history.

    Args:
        origin: the origin.
        scratch: an empty folder.

    Raises:
        FetchError: USAGE: git is not installed, or too old.
    """

    def __init__(self, origin: Origin, scratch: Path) -> None:
        self._origin = origin
        self._metadata, self.files = scratch / "git", scratch / "files"
        self.files.mkdir()
        self._git = _find_git(self.files)
        self._git.check_unsafe_protocols(origin.url)
        self._run("Creating a repository", "init", "--quiet", "--template=")
        (self._metadata / "info").mkdir(exist_ok=True)
        (self._metadata / "info" / "attributes").write_text(_ATTRIBUTES, "utf-8")

    def fetch(self, ref: str | None, *, whole: bool) -> str:
        """Fetch a commit and its trees.

        Args:
            ref: a branch, a tag, or a commit (may be abbreviated); None for the origin's default branch.
            whole: whether to fetch all of its files, too, as all will be checked out; git would ask the origin once more.

        Returns:
            The commit's SHA-1, 40 hexadecimal digits.

        Raises:
            FetchError: NOT_FOUND, NO_PERMISSION, UNAVAILABLE, …
        """
        wanted = ref or "HEAD"
        what = f"Fetching {wanted} of {self._origin.url}"
        try:
            self._fetch(what, wanted, "--depth=1", *(() if whole else (_NO_FILES,)))
        except FetchError as error:
            if not (_COMMIT.fullmatch(wanted) and _UNSERVED.search(error.cause)):
                raise
            # Not every server serves a commit by its SHA-1: look for it in all branches and tags.
            self._fetch(what, "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*", _NO_FILES)
        else:
            wanted = "FETCH_HEAD"
        found = self._run(what, "rev-parse", "--verify", "--quiet", f"{wanted}^{{commit}}", check=False)
        if not found:
            raise failure(what, "no such remote ref, or it is not a commit")
        return found.strip()

    def check_out(self, commit: str, folder: str | None, exclude: Iterable[str]) -> Iterator[Blob]:
        """Check out the files of a folder to `self.files`, except those that the patterns exclude.

        Raises:
            FetchError: NOT_FOUND: there is no such folder. BAD_DATA: it contains links or invalid file names.
        """
        tree = self._tree(commit, folder)
        patterns = "".join(f"!{pattern}\n" for pattern in exclude)
        (self._metadata / "info" / "sparse-checkout").write_text(f"/*\n{patterns}", "utf-8")
        what = f"Fetching the files of {commit} of {self._origin.url}"
        self._run(what, "read-tree", "-m", "-u", tree, remote=True)
        for line in _split(self._run(what, "ls-files", "--stage", "-t", "-z")):
            about, _, path = line.partition("\t")
            state, mode, oid, _ = about.split(" ")
            if state != "H" or mode == _SUBMODULE:
                continue
            if mode == _SYMLINK:
                cause = f"{path!r} in the repository is a symbolic link, which could lead out of the input folder."
                remedy = "Leave it out with exclude=, or commit the file itself in its place."
                raise FetchError(cause, remedy=remedy, code=ExitCode.BAD_DATA)
            yield Blob(path, oid)

    def matching(self, patterns: Iterable[str]) -> frozenset[str]:
        """Return the paths of all files that a pattern matches, by the rules of gitignore(5)."""
        given = [f"--exclude={pattern}" for pattern in patterns]
        return frozenset(_split(self._run("Reading patterns", "ls-files", "--cached", "--ignored", "-z", *given)))

    def _tree(self, commit: str, folder: str | None) -> str:
        if folder is None:
            return commit
        what = f"Looking for {folder} in {commit}"
        tree = self._run(what, "rev-parse", "--verify", "--quiet", f"{commit}:{folder}", check=False).strip()
        if not tree or self._run(what, "cat-file", "-t", tree).strip() != "tree":
            cause = f"{self._origin.url} has no folder {folder!r} in the commit {commit}."
            raise FetchError(cause, remedy="Check the folder and the ref.", code=ExitCode.NOT_FOUND)
        return tree

    def _fetch(self, what: str, *arguments: str) -> None:
        from git import Git, Remote

        options = [a for a in arguments if a.startswith("--")]
        refs = [a for a in arguments if a not in options]
        Git.check_unsafe_options(options=[*options, *refs], unsafe_options=Remote.unsafe_git_fetch_options)
        self._run(what, "fetch", *options, "--no-tags", "--", "origin", *refs, remote=True)

    def _run(self, what: str, *arguments: str, remote: bool = False, check: bool = True) -> str:
        """Run git, and return its standard output."""
        with self._origin.git_environment() if remote else contextlib.nullcontext({}) as variables:
            status, output, said = self._git.execute(
                [self._git.GIT_PYTHON_GIT_EXECUTABLE or "git", *arguments],
                env={**self._environment(remote=remote), **variables},
                with_extended_output=True,
                with_exceptions=False,
                strip_newline_in_stdout=False,
            )
        if status != 0 and check:
            raise failure(what, str(said))
        return str(output)

    def _environment(self, *, remote: bool) -> dict[str, str]:
        settings = {**_SETTINGS, "remote.origin.url": self._origin.url}
        if remote:
            settings |= self._origin.git_config()
        if trusted := ssl.get_default_verify_paths().cafile:  # the same as for Python's requests
            settings["http.sslCAInfo"] = trusted
        return {
            **_ENVIRONMENT,
            **_as_variables(settings),
            "GIT_DIR": str(self._metadata),
            "GIT_WORK_TREE": str(self.files),
            "GIT_INDEX_FILE": str(self._metadata / "index"),
        }


@contextlib.contextmanager
def importing_git() -> Iterator[None]:
    """Let another thread import GitPython, which takes 50 ms, while the origin is asked. If it is missing, `Repository` says so."""
    with ThreadPoolExecutor(1, "import-git") as pool:
        pool.submit(importlib.import_module, "git")
        yield


def _as_variables(settings: Mapping[str, str]) -> dict[str, str]:
    """See git-config(1), GIT_CONFIG_COUNT."""
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return variables


def _split(output: str) -> list[str]:
    return [line for line in output.split("\0") if line]


def _find_git(folder: Path) -> Git:
    remedy = "Use an image with git and tunewright-gitlfs[fetch], or install both."
    try:
        from git import Git
    except ImportError as error:
        missing = "GitPython" if shutil.which("git") else "git itself"
        raise FetchError(f"{missing} is not installed here.", remedy=remedy, code=ExitCode.USAGE) from error
    git = Git(folder)
    if git.version_info < _NEEDS:
        version = ".".join(map(str, git.version_info))
        raise FetchError(f"git {version} is too old: 2.31 or later is required.", remedy=remedy, code=ExitCode.USAGE)
    return git
