"""The origin of a repository: how git and LFS reach it, and with which credential.

A credential is only sent to the origin: git gets it in environment variables that bind it to the origin's URL, and LFS in
headers of requests to that URL. It is never in an argument, a URL or a file, except for an ssh key, which ssh only reads from
a file.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shlex
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from http import HTTPStatus
from http.client import HTTPResponse
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

import attrs

from tunewright import ExitCode, FetchError
from tunewright_gitlfs.failures import failure
from tunewright_gitlfs.uri import GitSource
from tunewright_launcher.http import Http, HttpRequest, reading, refusal

_REFS = "/info/refs?service=git-upload-pack"
_SSH = ("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=30")
_SSH_ALIVE = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3")
_NO_SUCH_COMMAND = 127
_LONGEST_MESSAGE = 64 << 10  # bytes
_LONGEST_WAIT = 60.0  # seconds for `git-lfs-authenticate`


@attrs.frozen(kw_only=True)
class LfsApi:
    """The endpoint of an LFS server.

    Attributes:
        url: the API's URL, without a trailing slash.
        headers: headers with credentials.
        expires_at: time on the monotonic clock at which the headers expire.
    """

    url: str
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    expires_at: float = float("inf")


class Origin(Protocol):
    """One repository on one server.

    Attributes:
        url: the URL for git.
    """

    @property
    def url(self) -> str:
        """The remote's URL."""

    def git_environment(self) -> AbstractContextManager[Mapping[str, str]]:
        """Environment variables for git, while it talks to the origin."""

    def git_config(self) -> Mapping[str, str]:
        """Settings for git, while it talks to the origin."""

    def lfs(self, refused: LfsApi | None = None) -> LfsApi:
        """Return the origin's LFS endpoint. Called from many threads.

        Args:
            refused: an endpoint that this method returned before, and that was refused.

        Raises:
            FetchError: there is no other credential to try.
        """


class HttpOrigin:
    """An origin that is reached over http or https.

    Its refs are requested once, as git would do, before git runs. That tells a missing repository from a refused credential,
    and follows redirects without sending a credential to another host.

    Args:
        source: the repository that the URI names.
        http: sends requests.
        token: an access token.
        username: user name; needs `password`.
        password: password; needs `username`.

    Raises:
        FetchError: NO_PERMISSION, NOT_FOUND, UNAVAILABLE, …: the repository cannot be read.
    """

    def __init__(
        self, source: GitSource, http: Http, *, token: str | None, username: str | None, password: str | None
    ) -> None:
        self._source = source
        self._http = http
        self._offers = _offers(token, username, password)
        self._lock = threading.Lock()
        self.url = self._find()

    def git_environment(self) -> AbstractContextManager[Mapping[str, str]]:
        """See `Origin.git_environment`."""
        return contextlib.nullcontext({})

    def git_config(self) -> Mapping[str, str]:
        """See `Origin.git_config`. The header is only sent to URLs with the origin's host and port."""
        headers = self._headers()
        return {
            f"http.{self._source.transport}://{self._source.host}/.extraHeader": f"{name}: {value}"
            for name, value in headers.items()
        }

    def lfs(self, refused: LfsApi | None = None) -> LfsApi:
        """See `Origin.lfs`. A `.lfsconfig` in the repository is ignored, since it could name any host."""
        with self._lock:
            # Several batches may be refused at once: only the first one moves on to the next credential.
            if refused is not None and refused.headers == self._headers() and not self._next_offer():
                raise self._denied(f"The LFS server of {self._source.url} refuses to serve objects.")
            own = _host_of(self.url) == _host_of(self._source.url)
            return LfsApi(url=_lfs_url(self.url), headers=self._headers() if own else {})

    def _headers(self) -> Mapping[str, str]:
        return {"Authorization": self._offers[0]} if self._offers else {}

    def _next_offer(self) -> bool:
        """Move on to the next form of the credential, if any: some servers take a token as password, others as Bearer."""
        if not self._offers[1:]:
            return False
        self._offers.pop(0)
        return True

    def _find(self) -> str:
        """Return the repository's URL, after redirects."""
        while True:
            headers = {**self._headers(), "Git-Protocol": "version=2", "Accept": "*/*"}
            response, url = self._http.send(HttpRequest(url=f"{self._source.url}{_REFS}", headers=headers))
            body = b""
            if response.status >= HTTPStatus.BAD_REQUEST:
                with reading(url):
                    body = response.read(_LONGEST_MESSAGE)
            self._http.close_unread(response)
            if response.status != HTTPStatus.UNAUTHORIZED or not self._next_offer():
                break
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise self._refused(response, body)
        return url.partition("/info/refs")[0]

    def _refused(self, response: HTTPResponse, body: bytes) -> FetchError:
        general = refusal(f"the repository {self._source.url}", response, body)
        if general.code is ExitCode.NO_PERMISSION:
            return self._denied(general.cause)
        if general.code is ExitCode.NOT_FOUND:
            remedy = "Check the URI. Without read access, a private repository looks like a missing one: give token=."
            return FetchError(general.cause, remedy=remedy, code=ExitCode.NOT_FOUND)
        return general

    def _denied(self, cause: str) -> FetchError:
        remedy = (
            "The credential is wrong, has expired, or cannot read this repository: give another one."
            if self._offers
            else "Give token=, or username= and password=. The repository may also not exist."
        )
        return FetchError(cause, remedy=remedy, code=ExitCode.NO_PERMISSION)


class SshOrigin:
    """An origin that is reached over ssh; `git-lfs-authenticate` on the server tells how to reach its LFS over HTTP.

    Args:
        source: the repository that the URI names.
        key: the text of a private key; None for the keys that ssh finds by itself.
        known_hosts: the text of a known_hosts file; None for the default files of ssh.
    """

    def __init__(self, source: GitSource, *, key: str | None, known_hosts: str | None) -> None:
        self._source = source
        self._key = key
        self._known_hosts = known_hosts
        self._api: LfsApi | None = None
        self._lock = threading.Lock()
        self.url = source.url

    @contextlib.contextmanager
    def git_environment(self) -> Iterator[Mapping[str, str]]:
        """See `Origin.git_environment`."""
        with self._ssh() as ssh:
            yield {"GIT_SSH_COMMAND": shlex.join(ssh), "GIT_SSH_VARIANT": "ssh"}

    def git_config(self) -> Mapping[str, str]:
        """See `Origin.git_config`."""
        return {}

    def lfs(self, refused: LfsApi | None = None) -> LfsApi:
        """See `Origin.lfs` and git-lfs' docs/api/authentication.md."""
        with self._lock:
            if self._api is None or self._api is refused or time.monotonic() > self._api.expires_at:
                self._api = self._authenticate()
            return self._api

    def _authenticate(self) -> LfsApi:
        parts = urlsplit(self._source.url)
        user = f"{parts.username}@" if parts.username else ""
        port = ["-p", str(parts.port)] if parts.port else []
        command = f"git-lfs-authenticate {shlex.quote(unquote(parts.path))} download"
        what = f"Asking {self._source.host} for access to the LFS of {unquote(parts.path)}"
        with self._ssh() as ssh:
            argv = [*ssh, *port, "--", f"{user}{parts.hostname}", command]
            try:
                done = subprocess.run(
                    argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_LONGEST_WAIT
                )
            except subprocess.TimeoutExpired:
                raise failure(what, "ssh: the answer timed out") from None
        if done.returncode == _NO_SUCH_COMMAND:
            return LfsApi(url=_lfs_url(f"https://{parts.hostname}{quote(unquote(parts.path))}"))
        if done.returncode != 0:
            raise failure(what, done.stderr.decode(errors="replace"))
        return _read_access(what, done.stdout)

    @contextlib.contextmanager
    def _ssh(self) -> Iterator[list[str]]:
        """Yield the first arguments of ssh, while its key is in a file that nobody else can read."""
        with tempfile.TemporaryDirectory(prefix="tunewright-ssh-") as folder:  # created with mode 0700
            argv = [*_SSH, *_SSH_ALIVE]
            if self._known_hosts is not None:
                _write(hosts := Path(folder, "known_hosts"), self._known_hosts)
                argv += ["-o", f"UserKnownHostsFile={hosts}", "-o", "GlobalKnownHostsFile=/dev/null"]
            if self._key is not None:
                _write(key := Path(folder, "key"), self._key)
                argv += ["-i", str(key), "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"]
            yield argv


class LfsElsewhere:
    """An origin whose LFS server is another one, which the user names.

    Args:
        origin: the repository's own server.
        url: the URL of the LFS server.
        token: an access token of it; None for the repository's credential if that is for the same host, or else for none.
    """

    def __init__(self, origin: Origin, url: str, token: str | None) -> None:
        self._origin = origin
        self._url = url.rstrip("/")
        self._offers = _offers(token, None, None)
        self._own = token is None and _host_of(url) == _host_of(origin.url)
        self._lock = threading.Lock()
        self.url = origin.url

    def git_environment(self) -> AbstractContextManager[Mapping[str, str]]:
        """See `Origin.git_environment`."""
        return self._origin.git_environment()

    def git_config(self) -> Mapping[str, str]:
        """See `Origin.git_config`."""
        return self._origin.git_config()

    def lfs(self, refused: LfsApi | None = None) -> LfsApi:
        """See `Origin.lfs`."""
        if self._own:
            return attrs.evolve(self._origin.lfs(refused), url=self._url)
        with self._lock:
            if refused is not None and refused.headers == self._headers():
                if not self._offers[1:]:
                    remedy = "Give lfs_token= a token of that server which can read the repository's objects."
                    cause = f"The LFS server {self._url} refuses to serve objects."
                    raise FetchError(cause, remedy=remedy, code=ExitCode.NO_PERMISSION)
                self._offers.pop(0)
            return LfsApi(url=self._url, headers=self._headers())

    def _headers(self) -> Mapping[str, str]:
        return {"Authorization": self._offers[0]} if self._offers else {}


def _offers(token: str | None, username: str | None, password: str | None) -> list[str]:
    """Return values of an Authorization header, the most common form first."""
    if token is not None:
        return [_basic("x-access-token", token), f"Bearer {token}"]
    if username is not None and password is not None:
        return [_basic(username, password)]
    return []


def _basic(username: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"


def _lfs_url(remote: str) -> str:
    """See git-lfs' docs/api/server-discovery.md."""
    return f"{remote}/info/lfs" if remote.endswith(".git") else f"{remote}.git/info/lfs"


def _host_of(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _read_access(what: str, output: bytes) -> LfsApi:
    try:
        answer = json.loads(output)
        href, headers, life = str(answer["href"]), dict(answer.get("header") or {}), answer.get("expires_in")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise failure(what, f"malformed answer of git-lfs-authenticate: {type(error).__name__}") from error
    if re.match(r"https?://", href) is None:
        raise failure(what, "malformed answer of git-lfs-authenticate: it contains no LFS URL")
    expires_at = time.monotonic() + 0.8 * float(life) if life else float("inf")
    return LfsApi(url=href.rstrip("/"), headers=headers, expires_at=expires_at)


def _write(path: Path, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
        stream.write(f"{text.strip()}\n")
