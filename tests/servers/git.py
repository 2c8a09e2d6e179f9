"""A git server with LFS: `git http-backend`, the batch API, and objects in ranges; also an sshd, where there is one.

with GitServer(folder) as server:
    commit = server.commit("org/model", {"config.json": b"{}", "model.safetensors": Lfs(b"…")})
"""

import base64
import datetime as dt
import getpass
import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import attrs
from tests.servers.faulty import Answer, FaultyServer, Request, ranged

JSON = "application/vnd.git-lfs+json"
# What a test does must not depend on who runs it.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


@attrs.frozen
class Lfs:
    """A file whose contents are an LFS object."""

    content: bytes

    @property
    def oid(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        return pointer(self.oid, len(self.content))


@attrs.frozen
class Link:
    """A symbolic link."""

    target: str


File = bytes | Lfs | Link


def pointer(oid: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n".encode()


def basic(username: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"


WEIGHTS = Lfs(random.Random(0).randbytes(300_000))
LARGE = Lfs(random.Random(1).randbytes(20 << 20))
MODEL: dict[str, File] = {
    ".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.txt text eol=crlf working-tree-encoding=UTF-16\n",
    "config.json": b'{"model_type": "tiny"}\n',
    "empty": b"",
    "lines.txt": b"one\r\ntwo\n$Id$\n",
    "model.safetensors": WEIGHTS,
    "parts/a/model-1.bin": Lfs(b"first"),
    "parts/a/notes.md": b"notes",
    "parts/b/model-2.bin": Lfs(b"second"),
    "run.sh": b"#!/bin/sh\n",
    "ünïcode name.txt": "ö".encode(),
}


def contents(files: Mapping[str, File]) -> dict[str, bytes]:
    """The files that are to be in the slot."""
    return {path: file.content if isinstance(file, Lfs) else file for path, file in files.items()}  # type: ignore[misc]


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> str:
    """Run git; its output without the last line break."""
    done = subprocess.run(
        ["git", "-C", folder, *arguments], env=ENVIRONMENT, check=True, capture_output=True, input=stdin
    )
    return done.stdout.decode().rstrip("\n")


class ObjectStore(FaultyServer):
    """Where LFS objects lie: it gives them to whoever has what the batch API handed out for it.

    Attributes:
        objects: by oid.
        public: whether anybody gets them, and nothing is handed out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, bytes] = {}
        self.public = False
        self.passes: dict[str, float] = {}  # → until when it is good

    def hand_out(self, oid: str, life: float, address: str) -> dict[str, object]:
        """An action: a URL at this address and the header that it wants."""
        if self.public:
            return {"href": f"{address}/objects/{oid}"}
        value = f"RemoteAuth {os.urandom(8).hex()}"
        self.passes[value] = time.monotonic() + life
        return {"href": f"{address}/objects/{oid}", "header": {"Authorization": value}}

    def answer(self, request: Request) -> Answer:
        until = self.passes.get(request.headers.get("authorization", ""), 0.0)
        if not self.public and time.monotonic() > until:
            return Answer(status=403)
        body = self.objects.get(request.path.rpartition("/")[2])
        return Answer(status=404) if body is None else ranged(body, request)


class GitServer(ObjectStore):
    """Repositories in a folder, over HTTP.

    Attributes:
        accepts: values of the Authorization header, one of which is asked for; empty: everybody may read.
        store: where objects are; this server itself, or another one.
        life: seconds for which an action is good.
        tells_life: whether the batch API says so.
        any_commit: whether a commit may be asked for by its name, and files be left out of what is sent.
        lfs_error: status and message with which the batch API refuses; for one object, if `lfs_error_of` names it.
        moved: paths of repositories → where they are redirected to, as a URL.
    """

    def __init__(self, folder: Path, *, store: ObjectStore | None = None) -> None:
        super().__init__()
        self.folder = folder
        self.accepts: set[str] = set()
        self.store = store or self
        self.life = 3600.0
        self.tells_life = True
        self.any_commit = True
        self.lfs_error: tuple[int, str] | None = None
        self.lfs_error_of = ""
        self.moved: dict[str, str] = {}

    def uri(self, name: str = "org/model") -> str:
        return f"gitlfs+{self.url}/{name}"

    def repository(self, name: str = "org/model") -> Path:
        """The folder of a repository, made if it is not there."""
        folder = self.folder / f"{name}.git"
        if not folder.exists():
            folder.mkdir(parents=True)
            git(folder, "init", "--quiet", "--bare", "--template=", "--initial-branch=main")
            git(folder, "config", "uploadpack.allowFilter", "true")
        return folder

    def commit(self, name: str, files: Mapping[str, File], *, branch: str = "main") -> str:
        """Commit these files, and no others, on a branch; their LFS objects go to the store."""
        folder = self.repository(name)
        lines = []
        for path, file in files.items():
            if isinstance(file, Lfs):
                self.store.objects[file.oid] = file.content
            mode = "120000" if isinstance(file, Link) else "100644"
            lines.append(f"{mode} {self._blob(folder, file)}\t{path}\n")
        index = {**ENVIRONMENT, "GIT_INDEX_FILE": str(folder / f"index-{os.urandom(4).hex()}")}
        add = ["git", "-C", folder, "update-index", "--add", "--index-info"]
        subprocess.run(add, env=index, check=True, input="".join(lines).encode())
        tree = subprocess.run(
            ["git", "-C", folder, "write-tree"], env=index, check=True, capture_output=True
        ).stdout.decode()
        return self.commit_tree(name, tree.strip(), branch=branch)

    def commit_tree(self, name: str, tree: str, *, branch: str = "main") -> str:
        folder = self.repository(name)
        before = subprocess.run(
            ["git", "-C", folder, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}"],
            env=ENVIRONMENT,
            check=False,
            capture_output=True,
        ).stdout.decode()
        parent = ["-p", before.strip()] if before else []
        made = git(folder, "commit-tree", tree, *parent, stdin=b"a commit\n")
        git(folder, "update-ref", f"refs/heads/{branch}", made)
        return made

    def _blob(self, folder: Path, file: File) -> str:
        content = file.pointer if isinstance(file, Lfs) else file.target.encode() if isinstance(file, Link) else file
        return git(folder, "hash-object", "-w", "--stdin", stdin=content)

    def answer(self, request: Request) -> Answer:
        for path, target in self.moved.items():
            if request.path.startswith(path):
                return Answer(status=302, headers={"Location": target + request.target.removeprefix(path)})
        if request.path.startswith("/objects/"):
            return super().answer(request)
        if self.accepts and request.headers.get("authorization") not in self.accepts:
            return Answer(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        if request.path.endswith("/info/lfs/objects/batch"):
            return self._batch(request)
        return self._backend(request)

    def _batch(self, request: Request) -> Answer:
        if self.lfs_error and not self.lfs_error_of:
            status, message = self.lfs_error
            return Answer(status=status, headers={"Content-Type": JSON}, body=json.dumps({"message": message}).encode())
        asked = json.loads(request.body)
        # As the client knows this server: there may be a proxy between them.
        address = f"http://{request.headers['host']}" if self.store is self else self.store.url
        objects = [self._object(one["oid"], one["size"], address) for one in asked["objects"]]
        body = json.dumps({"transfer": "basic", "objects": objects}).encode()
        return Answer(headers={"Content-Type": JSON}, body=body)

    def _object(self, oid: str, size: int, address: str) -> dict[str, object]:
        about: dict[str, object] = {"oid": oid, "size": size}
        if self.lfs_error and oid == self.lfs_error_of:
            return about | {"error": {"code": self.lfs_error[0], "message": self.lfs_error[1]}}
        if oid not in self.store.objects:
            return about | {"error": {"code": 404, "message": "Object does not exist"}}
        action = self.store.hand_out(oid, self.life, address)
        until = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self.life)
        told = {"expires_in": int(self.life)} if self.life >= 1 else {"expires_at": until.isoformat()}
        return about | {"actions": {"download": action | (told if self.tells_life else {})}}

    def _backend(self, request: Request) -> Answer:
        path, query = request.path, urlsplit(request.target).query
        first, _, rest = path.partition("/info/refs")
        name, service = (first, f"/info/refs{rest}") if rest or "/info/refs" in path else path.rsplit("/", 1)
        if not (self.folder / name.strip("/")).exists():
            name = f"{name}.git"
        environment = {
            **ENVIRONMENT,
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": request.method,
            "PATH_INFO": f"{name}/{service.lstrip('/')}",
            "QUERY_STRING": query,
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
            "CONTENT_LENGTH": str(len(request.body)),
            "REMOTE_ADDR": "127.0.0.1",
            "GIT_PROTOCOL": request.headers.get("git-protocol", "") if self.any_commit else "",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "uploadpack.allowFilter",
            "GIT_CONFIG_VALUE_0": str(self.any_commit).lower(),
        }
        done = subprocess.run(
            ["git", "http-backend"], env=environment, input=request.body, capture_output=True, check=False
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        return Answer(status=int(headers.pop("Status", "200")[:3]), headers=headers, body=body)


def sshd_problem() -> str | None:
    """Why no sshd can be run here, or None."""
    if shutil.which("ssh") is None:
        return "there is no ssh"
    return None if Path("/usr/sbin/sshd").exists() else "there is no sshd (apt-get install openssh-server)"


class SshServer:
    """An sshd on a free port of the loopback interface that gives a git server's repositories to one key.

    Attributes:
        key: the private key's text.
        known_hosts: the server's line.
        access: what `git-lfs-authenticate` answers; a command not found while it is None.
    """

    def __init__(self, folder: Path, repositories: Path) -> None:
        self.folder = folder
        self._repositories = repositories
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        for name in ("host", "user"):
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", folder / name]
            subprocess.run(make, check=True)
        self.key = (folder / "user").read_text()
        self.known_hosts = f"[127.0.0.1]:{self.port} {(folder / 'host.pub').read_text()}"
        (folder / "authorized").write_text((folder / "user.pub").read_text())
        (folder / "serve").write_text(_SERVE.format(access=folder / "access.json", log=folder / "log"))
        (folder / "serve").chmod(0o755)
        self.access = None

    @property
    def access(self) -> Mapping[str, object] | None:
        file = self.folder / "access.json"
        return json.loads(file.read_text()) if file.exists() else None

    @access.setter
    def access(self, value: Mapping[str, object] | None) -> None:
        file = self.folder / "access.json"
        file.unlink(missing_ok=True)
        if value is not None:
            file.write_text(json.dumps(value))

    @property
    def commands(self) -> list[str]:
        """What was asked for."""
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []

    def uri(self, name: str = "org/model") -> str:
        return f"gitlfs+ssh://{getpass.getuser()}@127.0.0.1:{self.port}{self._repositories}/{name}.git"

    def __enter__(self) -> Self:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where sshd locks itself in
        options = {
            "ListenAddress": f"127.0.0.1:{self.port}",
            "HostKey": self.folder / "host",
            "AuthorizedKeysFile": self.folder / "authorized",
            "ForceCommand": self.folder / "serve",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "AcceptEnv": "GIT_PROTOCOL",
        }
        given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        self._process = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", *given], stderr=(self.folder / "sshd.log").open("wb")
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                time.sleep(0.02)
            else:
                return self
        raise RuntimeError((self.folder / "sshd.log").read_text())

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


_SERVE = """#!/bin/sh
echo "$SSH_ORIGINAL_COMMAND" >> {log}
case "$SSH_ORIGINAL_COMMAND" in
    git-lfs-authenticate*) if [ -f {access} ]; then cat {access}; else echo "git-lfs-authenticate: not found" >&2; exit 127; fi ;;
    git-upload-pack*) exec sh -c "$SSH_ORIGINAL_COMMAND" ;;
    *) exit 1 ;;
esac
"""
