"""A Hub: what huggingface_hub and a fetch ask of huggingface.co, for models and datasets, to read and to write.

with Hub() as hub:
    repo = hub.repo("org/model", {"config.json": b"{}", "model.safetensors": Lfs(b"…")})

Large files lie in a store on another port, as on huggingface.co, to which the Hub redirects; the store refuses whoever
sends it a token. See huggingface_hub's hf_api.py, _commit_api.py and lfs.py for the protocol.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import attrs
from tests.servers.faulty import Answer, FaultyServer, Request, ranged
from tests.servers.git import Lfs

File = bytes | Lfs
_API = re.compile(
    r"/api/(models|datasets)/((?:[^/]+/)?[^/]+?)(?:/(revision|tree|preupload|commit|branch)/([^/]+)(?:/(.+))?)?"
)
_RESOLVE = re.compile(r"/(datasets/)?((?:[^/]+/)?[^/]+)/resolve/([^/]+)/(.+)")
_CACHE = re.compile(r"/api/resolve-cache/(models|datasets)/((?:[^/]+/)?[^/]+)/([^/]+)/(.+)")
_LFS = re.compile(r"/(datasets/)?((?:[^/]+/)?[^/]+)\.git/info/lfs/(objects/batch|verify)")


def blob_sha1(content: bytes) -> str:
    """git's name of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@attrs.define(kw_only=True)
class Repo:
    """A repository.

    Attributes:
        name: "org/name".
        commits: sha → path → file.
        branches: name → sha.
        private: whether only members may see it.
        gated: whether only members may have its files.
        members: tokens that may.
        served: path → what is sent in place of a plain file's contents: it was damaged at its source.
    """

    name: str
    commits: dict[str, dict[str, File]] = attrs.field(factory=dict)
    branches: dict[str, str] = attrs.field(factory=dict)
    private: bool = False
    gated: bool = False
    members: set[str] = attrs.field(factory=set)
    served: dict[str, bytes] = attrs.field(factory=dict)

    @property
    def files(self) -> dict[str, File]:
        """Of the newest commit on main."""
        return self.commits[self.branches["main"]]

    @property
    def contents(self) -> dict[str, bytes]:
        """Path → contents, of the newest commit on main."""
        return {path: file.content if isinstance(file, Lfs) else file for path, file in self.files.items()}


class Store(FaultyServer):
    """Where large files lie, by SHA-256, behind signed URLs.

    Attributes:
        objects: SHA-256 → contents.
        leaked: Authorization headers that came here, and should not have.
        seen_at: URL under which clients are sent here; its own, if there is nothing between.
    """

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, bytes] = {}
        self.leaked: list[str] = []
        self.signature = os.urandom(8).hex()
        self.seen_at = self.url

    def url_of(self, oid: str) -> str:
        return f"{self.seen_at}/{oid}?Signature={self.signature}"

    def answer(self, request: Request) -> Answer:
        if token := request.headers.get("authorization"):
            self.leaked.append(token)
            return Answer(status=400)
        if self.signature not in request.target:
            return Answer(status=403)
        oid = request.path[1:]
        if request.method == "PUT":
            if hashlib.sha256(request.body).hexdigest() != oid:
                return Answer(status=400)
            self.objects[oid] = request.body
            return Answer()
        body = self.objects.get(oid)
        if body is None:
            return Answer(status=404)
        return ranged(body, request) if self.faults else _at_once(ranged(body, request))


class Hub(FaultyServer):
    """The Hub itself; what goes wrong with large files is a fault of its `store`.

    Attributes:
        store: has the large files.
        models: name → repository.
        datasets: name → repository.
        tokens: token → "read" or "write". Others are invalid.
        page: entries of a tree in one answer.
        cached: whether plain files are redirected to another path of the Hub, as huggingface.co does.
        ignored: paths that a .gitignore would leave out of commits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.models: dict[str, Repo] = {}
        self.datasets: dict[str, Repo] = {}
        self.tokens: dict[str, str] = {}
        self.page = 1000
        self.cached = False
        self.ignored: set[str] = set()
        self._digests: dict[int, tuple[File, str]] = {}

    def __enter__(self) -> Self:
        self.store.__enter__()
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.store.__exit__(*error)

    def repo(
        self, name: str, files: Mapping[str, File] | None = None, *, kind: str = "models", **about: object
    ) -> Repo:
        """A new repository, with a first commit."""
        repo = Repo(name=name, **about)  # type: ignore[arg-type]
        self._repos(kind)[name] = repo
        self.commit(repo, files or {})
        return repo

    def commit(self, repo: Repo, files: Mapping[str, File], *, branch: str = "main") -> str:
        """Commit these files, and no others, on a branch; its sha."""
        for file in files.values():
            if isinstance(file, Lfs):
                self.store.objects[self._digest(file)] = file.content
        sha = hashlib.sha1(f"{repo.name} {len(repo.commits)} {os.urandom(8).hex()}".encode()).hexdigest()
        repo.commits[sha] = dict(files)
        repo.branches[branch] = sha
        return sha

    def answer(self, request: Request) -> Answer:
        path = urlsplit(request.target).path  # a branch's name may hold an encoded slash
        if path == "/api/repos/create":
            return self._create(request)
        if path == "/api/validate-yaml":
            return _json({"errors": [], "warnings": []})
        for pattern, answer in ((_API, self._api), (_CACHE, self._cache), (_RESOLVE, self._resolve), (_LFS, self._lfs)):
            if match := pattern.fullmatch(path):
                return answer(request, *(part and unquote(part) for part in match.groups()))
        return _refused(404, "", "Not Found")

    def _repos(self, kind: str | None) -> dict[str, Repo]:
        return self.datasets if kind and kind.startswith("datasets") else self.models

    def _find(self, request: Request, kind: str | None, name: str, *, to: str = "see") -> Repo | Answer:
        """The repository, if whoever asks may "see", "read" or "write" it; else the refusal."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in self.tokens:
            return _refused(401, "", "Invalid credentials in Authorization header")
        repo = self._repos(kind).get(name)
        if repo is None or (repo.private and token not in repo.members):
            # Who does not say who they are is not told which of the two it is.
            return _refused(
                404 if token else 401,
                "RepoNotFound",
                "Repository not found" if token else "Invalid username or password.",
            )
        if to == "read" and repo.gated and token not in repo.members:
            return _refused(403 if token else 401, "GatedRepo", f"Access to model {name} is restricted.")
        if to == "write" and self.tokens.get(token) != "write":
            return _refused(403, "", "You have read access but not the required permissions for this operation")
        return repo

    def _api(self, request: Request, kind: str, name: str, what: str | None, ref: str, below: str | None) -> Answer:
        to = "write" if what in ("preupload", "commit", "branch") else "see"
        repo = self._find(request, kind, name, to=to)
        if isinstance(repo, Answer):
            return repo
        ref = ref or "main"
        if what == "branch":
            repo.branches.setdefault(ref, repo.branches["main"])
        sha = repo.branches.get(ref, ref)
        if sha not in repo.commits:
            return _refused(404, "RevisionNotFound", f"Invalid rev id: {ref}")
        if what == "preupload":
            return self._preupload(request, repo.commits[sha])
        if what in ("commit", "tree"):
            tree = what == "tree"
            return self._tree(request, repo.commits[sha], below) if tree else self._commit(request, repo, ref)
        siblings = [{"rfilename": path} for path in repo.commits[sha]]
        return _json({"id": name, "sha": sha, "private": repo.private, "gated": repo.gated, "siblings": siblings})

    def _tree(self, request: Request, files: Mapping[str, File], below: str | None) -> Answer:
        query = dict(parse_qsl(urlsplit(request.target).query))
        found = [(p, f) for p, f in files.items() if below is None or p.startswith(f"{below}/")]
        if below is not None and not found:
            return _refused(404, "EntryNotFound", f"{below} does not exist on this revision")
        start = int(query.get("cursor", 0))
        entries = [self._entry(path, file) for path, file in found[start : start + self.page]]
        headers = {}
        if start + self.page < len(found):
            target = f"{request.target.split('?')[0]}?recursive=true&expand=false&cursor={start + self.page}"
            headers["Link"] = f'<http://{request.headers["host"]}{target}>; rel="next"'
        folders = {p.rpartition("/")[0] for p, _ in found} - {""} if not start else set()
        entries += [{"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in folders]
        return _json(entries, headers)

    def _entry(self, path: str, file: File) -> dict[str, object]:
        if isinstance(file, Lfs):
            lfs = {"oid": self._digest(file), "size": len(file.content), "pointerSize": 134}
            return {"type": "file", "path": path, "size": len(file.content), "oid": "0" * 40, "lfs": lfs}
        return {"type": "file", "path": path, "size": len(file), "oid": self._digest(file)}

    def _digest(self, file: File) -> str:
        """What the tree says of a file: git's SHA-1 of a blob, or the SHA-256 of a large one. Computed once."""
        if id(file) not in self._digests:
            self._digests[id(file)] = (file, file.oid if isinstance(file, Lfs) else blob_sha1(file))
        return self._digests[id(file)][1]

    def _resolve(self, request: Request, kind: str | None, name: str, ref: str, path: str) -> Answer:
        repo = self._find(request, kind, name, to="read")
        if isinstance(repo, Answer):
            return repo
        sha = repo.branches.get(ref, ref)
        if sha not in repo.commits:
            return _refused(404, "RevisionNotFound", f"Invalid rev id: {ref}")
        file = repo.commits[sha].get(path)
        about = {"X-Repo-Commit": sha}
        if file is None:
            return _refused(404, "EntryNotFound", "Entry not found", about)
        if isinstance(file, Lfs):
            linked = {"X-Linked-Etag": f'"{self._digest(file)}"', "X-Linked-Size": str(len(file.content))}
            return Answer(status=302, headers={**about, **linked, "Location": self.store.url_of(self._digest(file))})
        if self.cached and "resolve-cache" not in request.target:
            target = f"/api/resolve-cache/{'datasets' if kind else 'models'}/{name}/{sha}/{quote(path)}"
            return Answer(status=307, headers={**about, "Location": target})
        return ranged(repo.served.get(path, file), request, {**about, "ETag": f'"{self._digest(file)}"'})

    def _cache(self, request: Request, kind: str, name: str, sha: str, path: str) -> Answer:
        return self._resolve(request, "datasets/" if kind == "datasets" else None, name, sha, path)

    def _create(self, request: Request) -> Answer:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            return _refused(401, "", "Invalid credentials in Authorization header")
        if self.tokens[token] != "write":
            return _refused(403, "", "You don't have the rights to create a model under this namespace")
        asked = json.loads(request.body)
        name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
        if name in self.models:
            return Answer(status=409, body=json.dumps({"url": f"{self.url}/{name}"}).encode())
        private = asked.get("private") or asked.get("visibility") == "private"
        self.repo(name, {".gitattributes": b"*.bin filter=lfs\n"}, private=bool(private), members={token})
        return _json({"url": f"{self.url}/{name}"})

    def _preupload(self, request: Request, files: Mapping[str, File]) -> Answer:
        return _json(
            {"files": [self._mode(f["path"], files.get(f["path"])) for f in json.loads(request.body)["files"]]}
        )

    def _mode(self, path: str, there: File | None) -> dict[str, object]:
        mode = "lfs" if path.endswith((".safetensors", ".bin", ".pt", ".parquet")) else "regular"
        about: dict[str, object] = {"path": path, "uploadMode": mode, "shouldIgnore": path in self.ignored}
        if there is not None:
            about["oid"] = self._digest(there)
        return about

    def _lfs(self, request: Request, kind: str | None, name: str, what: str) -> Answer:
        repo = self._find(request, kind, name, to="write")
        if isinstance(repo, Answer):
            return repo
        asked = json.loads(request.body)
        if what == "verify":
            return Answer() if asked["oid"] in self.store.objects else _refused(404, "", "not uploaded")
        objects = []
        for one in asked["objects"]:
            if one["oid"] not in self.store.objects:
                verify = f"{self.url}/{name}.git/info/lfs/verify"
                one["actions"] = {"upload": {"href": self.store.url_of(one["oid"])}, "verify": {"href": verify}}
            objects.append(one)
        return _json({"transfer": "basic", "objects": objects})

    def _commit(self, request: Request, repo: Repo, branch: str) -> Answer:
        lines = [json.loads(line) for line in request.body.splitlines()]
        files = dict(repo.commits[repo.branches[branch]])
        for key, value in ((line["key"], line["value"]) for line in lines):
            path = value.get("path", "")
            if key == "file":
                files[path] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if value["oid"] not in self.store.objects:
                    return _refused(400, "", f"The object of {path} was not uploaded")
                files[path] = Lfs(self.store.objects[value["oid"]])
            elif key in ("deletedFile", "deletedFolder"):
                gone = [p for p in files if p == path or p.startswith(f"{path.rstrip('/')}/")]
                if not gone:
                    return _refused(404, "EntryNotFound", "A file with this name doesn't exist")
                for name in gone:
                    del files[name]
        sha = self.commit(repo, files, branch=branch)
        return _json({"commitUrl": f"{self.url}/{repo.name}/commit/{sha}", "commitOid": sha})


def _at_once(answer: Answer) -> Answer:
    """Send the body in one piece: with many small ones, sixteen threads wait for the interpreter most of the time."""
    length = {"Content-Length": str(len(answer.body))}
    return attrs.evolve(answer, headers={**answer.headers, **length}, body=b"", chunks=iter([answer.body]))


def _json(document: object, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(headers={"Content-Type": "application/json", **(headers or {})}, body=json.dumps(document).encode())


def _refused(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    about = {"X-Error-Code": code} if code else {}
    body = json.dumps({"error": message}).encode()
    return Answer(status=status, headers={**about, "X-Error-Message": message, **(headers or {})}, body=body)


def tokens_in(requests: Iterable[Request]) -> set[str]:
    """The Authorization headers that came."""
    return {request.headers["authorization"] for request in requests if "authorization" in request.headers}
