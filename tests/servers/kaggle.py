"""A Kaggle for tests: the API's methods for reading, and the store that downloads are redirected to.

with FakeKaggle() as kaggle:
    kaggle.add(Dataset("owner", "name", {3: Archive.zipped({"a.csv": b"1"})}))
    run(env=kaggle.environment)

Requests are read and answers are written by kagglesdk's own classes, so that names and forms are Kaggle's.
"""

import base64
import functools
import hashlib
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Mapping
from typing import Self
from urllib.parse import parse_qs, urlsplit

import attrs
from kagglesdk.competitions.types import competition_api_service as competitions
from kagglesdk.datasets.types import dataset_api_service as datasets
from kagglesdk.kaggle_object import KaggleObject
from kagglesdk.models.types import model_api_service as models
from kagglesdk.models.types.model_enums import ModelFramework
from tests.servers.faulty import Answer, FaultyServer, Request, ranged

TOKEN, USER, KEY = "KGAT_a-token-that-must-not-show", "someone-who-asks", "a-key-that-must-not-show"


@attrs.define(kw_only=True)
class Archive:
    """What one download gives, and what is listed of it.

    Attributes:
        body: the archive.
        listed: path and bytes, in the order of the listing.
        hashed: whether the store tells its MD5.
    """

    body: bytes
    listed: list[tuple[str, int]]
    hashed: bool = True

    @classmethod
    def zipped(cls, files: Mapping[str, bytes], *, hashed: bool = True) -> Self:
        """A zip, as datasets and competitions have it."""
        return cls(body=make_zip(files), listed=[(p, len(b)) for p, b in files.items()], hashed=hashed)

    @classmethod
    def tarred(cls, files: Mapping[str, bytes], *, hashed: bool = True) -> Self:
        """A compressed tar, as models have it."""
        return cls(body=make_tar(files), listed=[(p, len(b)) for p, b in files.items()], hashed=hashed)


@attrs.define(kw_only=True)
class Thing:
    """A dataset, a variation of a model, or a competition.

    Attributes:
        archives: by version; a competition has one, numbered 0.
        private: answered with 403 to whoever gives no credential.
        rules: what is to be accepted before a download; None for nothing.
    """

    archives: dict[int, Archive]
    private: bool = False
    rules: str | None = None


@functools.lru_cache(maxsize=8)
def _md5(body: bytes) -> bytes:
    return hashlib.md5(body).digest()


def make_zip(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for path, body in files.items():
            archive.writestr(path, body)
    return buffer.getvalue()


def make_tar(files: Mapping[str, bytes], *more: tarfile.TarInfo, mode: str = "w:gz") -> bytes:
    """A tar, with the folders that its files are in, and what else it should have."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for folder in sorted({p.rpartition("/")[0] for p in files} - {""}):
            info = tarfile.TarInfo(folder)
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
        for path, body in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
        for info in more:
            archive.addfile(info)
    return buffer.getvalue()


class Store(FaultyServer):
    """Keeps archives behind signed addresses, as Google's storage does, and knows no credentials.

    Attributes:
        archives: by name.
        public_url: where it is said to be; None for where it is.
        lifetime: how many requests an address is good for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.archives: dict[str, Archive] = {}
        self.public_url: str | None = None
        self.lifetime: int | None = None
        self._signed: dict[str, int] = {}

    def sign(self, archive: Archive) -> str:
        """A new address of an archive."""
        name = _md5(archive.body).hex()
        signature = f"{len(self._signed):032x}"
        self.archives[name] = archive
        self._signed[signature] = 0
        return f"{self.public_url or self.url}/kaggle-data/{name}/archive?X-Goog-Signature={signature}"

    def answer(self, request: Request) -> Answer:
        """The archive, or a range of it."""
        signature = parse_qs(urlsplit(request.target).query).get("X-Goog-Signature", [""])[0]
        if signature not in self._signed or request.method != "GET":
            return Answer(status=403, body=b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
        self._signed[signature] += 1
        if self.lifetime is not None and self._signed[signature] > self.lifetime:
            return Answer(status=400, body=b"<Error><Code>ExpiredToken</Code></Error>")
        archive = self.archives[request.path.split("/")[2]]
        md5 = _md5(archive.body)
        known = f"crc32c=AAAAAA==,md5={base64.b64encode(md5).decode()}"
        headers = {"x-goog-hash": known} if archive.hashed else {}
        return ranged(archive.body, request, {**headers, "ETag": f'"{md5.hex()}"'})

    @property
    def credentials(self) -> list[str]:
        """The Authorization headers that have come here: there must be none."""
        return [request.headers["authorization"] for request in self.log if "authorization" in request.headers]


class FakeKaggle(FaultyServer):
    """The API, at http://localhost/api, for which it is the proxy.

    Attributes:
        things: by the path of their URI: "datasets/owner/name", "competitions/name", ….
        store: where downloads are redirected to.
        page: the most files of a page.
        asks: whether a credential is asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.things: dict[str, Thing] = {}
        self.store = Store()
        self.page = 200
        self.asks = True

    def __enter__(self) -> Self:
        self.store.__enter__()
        return super().__enter__()

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self.store.__exit__(*exc)

    @property
    def environment(self) -> dict[str, str]:
        """What leads Kaggle's own client here, and this project's; nothing of the user's own settings."""
        return {
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": self.url,
            "HTTP_PROXY": self.url,
            "no_proxy": "127.0.0.1",
            "NO_PROXY": "127.0.0.1",
        }

    def answer(self, request: Request) -> Answer:
        """What Kaggle says; as a proxy, it also leads to the store."""
        if request.target.startswith(f"{self.store.url}/"):
            return self.store.answer(attrs.evolve(request, target=request.target.removeprefix(self.store.url)))
        match = re.fullmatch(r"http://localhost/api/v1/([a-z]+)\.\w+ApiService/(\w+)", request.target)
        method = match and getattr(self, f"_{match[1]}_{match[2]}", None)
        if request.method != "POST" or not method:
            return _error(404, "Not found")
        if not self._knows(request):
            return _error(401, "Unauthenticated")
        return method(json.loads(request.body), "authorization" in request.headers)

    def _knows(self, request: Request) -> bool:
        given = request.headers.get("authorization")
        if given is None:
            return not self.asks
        basic = base64.b64encode(f"{USER}:{KEY}".encode()).decode()
        return given in (f"Bearer {TOKEN}", f"Basic {basic}")

    def _find(self, path: str, *, known: bool, download: bool = False) -> Thing | Answer:
        thing = self.things.get(path)
        if thing is None:
            return _error(404, "Not found")
        if thing.private and not known:
            return _error(403, "Permission 'get' was denied")
        return _error(403, thing.rules) if download and thing.rules else thing

    def _listed(self, archive: Archive, asked: KaggleObject) -> tuple[list[tuple[str, int]], str]:
        start = int(asked.page_token or 0)
        stop = start + min(asked.page_size or 20, self.page)
        return archive.listed[start:stop], str(stop) if stop < len(archive.listed) else ""

    def _download(self, path: str, version: int, *, known: bool) -> Answer:
        thing = self._find(path, known=known, download=True)
        if isinstance(thing, Answer):
            return thing
        if version not in thing.archives:
            return _error(404, "Not found")
        return Answer(status=302, headers={"Location": self.store.sign(thing.archives[version])})

    def _datasets_GetDataset(self, body: dict[str, object], known: bool) -> Answer:
        asked = datasets.ApiGetDatasetRequest.from_dict(body)
        thing = self._find(f"datasets/{asked.owner_slug}/{asked.dataset_slug}", known=known)
        if isinstance(thing, Answer):
            return thing
        answer = datasets.ApiDataset()
        answer.ref = f"{asked.owner_slug}/{asked.dataset_slug}"
        answer.current_version_number = max(thing.archives)
        return _json(answer)

    def _datasets_ListDatasetFiles(self, body: dict[str, object], known: bool) -> Answer:
        asked = datasets.ApiListDatasetFilesRequest.from_dict(body)
        thing = self._find(f"datasets/{asked.owner_slug}/{asked.dataset_slug}", known=known)
        if isinstance(thing, Answer):
            return thing
        if (asked.dataset_version_number or max(thing.archives)) not in thing.archives:
            return _error(404, "Not found")
        listed, token = self._listed(thing.archives[asked.dataset_version_number or max(thing.archives)], asked)
        answer = datasets.ApiListDatasetFilesResponse()
        answer.dataset_files = [_named(datasets.ApiDatasetFile(), *file) for file in listed]
        answer.next_page_token = token
        return _json(answer)

    def _datasets_DownloadDataset(self, body: dict[str, object], known: bool) -> Answer:
        asked = datasets.ApiDownloadDatasetRequest.from_dict(body)
        path = f"datasets/{asked.owner_slug}/{asked.dataset_slug}"
        newest = max(self.things[path].archives) if path in self.things else 0
        return self._download(path, asked.dataset_version_number or newest, known=known)

    def _models_GetModelInstance(self, body: dict[str, object], known: bool) -> Answer:
        asked = models.ApiGetModelInstanceRequest.from_dict(body)
        thing = self._find(_variation(asked), known=known)
        if isinstance(thing, Answer):
            return thing
        answer = models.ApiModelInstance()
        answer.slug, answer.framework = asked.instance_slug, asked.framework
        answer.version_number = max(thing.archives)
        return _json(answer)

    def _models_ListModelInstanceVersionFiles(self, body: dict[str, object], known: bool) -> Answer:
        asked = models.ApiListModelInstanceVersionFilesRequest.from_dict(body)
        thing = self._find(_variation(asked), known=known)
        if isinstance(thing, Answer):
            return thing
        if asked.version_number not in thing.archives:
            return _error(404, "Not found")
        listed, token = self._listed(thing.archives[asked.version_number], asked)
        answer = models.ApiListModelInstanceVersionFilesResponse()
        for name, size in listed:
            file = models.ApiModelFile()
            file.name, file.size = name, size
            answer.files = [*answer.files, file]
        answer.next_page_token = token
        return _json(answer)

    def _models_DownloadModelInstanceVersion(self, body: dict[str, object], known: bool) -> Answer:
        asked = models.ApiDownloadModelInstanceVersionRequest.from_dict(body)
        return self._download(_variation(asked), asked.version_number, known=known)

    def _competitions_ListDataFiles(self, body: dict[str, object], known: bool) -> Answer:
        asked = competitions.ApiListDataFilesRequest.from_dict(body)
        thing = self._find(f"competitions/{asked.competition_name}", known=known)
        if isinstance(thing, Answer):
            return thing
        listed, token = self._listed(thing.archives[0], asked)
        answer = competitions.ApiListDataFilesResponse()
        answer.files = [_named(competitions.ApiDataFile(), *file) for file in listed]
        answer.next_page_token = token
        return _json(answer)

    def _competitions_DownloadDataFiles(self, body: dict[str, object], known: bool) -> Answer:
        asked = competitions.ApiDownloadDataFilesRequest.from_dict(body)
        return self._download(f"competitions/{asked.competition_name}", 0, known=known)


def _variation(asked: models.ApiGetModelInstanceRequest) -> str:
    framework = ModelFramework(asked.framework).name.removeprefix("MODEL_FRAMEWORK_").replace("_", "").lower()
    return f"models/{asked.owner_slug}/{asked.model_slug}/{framework}/{asked.instance_slug}"


def _named(file: KaggleObject, name: str, size: int) -> KaggleObject:
    file.name, file.total_bytes = name, size
    return file


def _json(answer: KaggleObject) -> Answer:
    return Answer(headers={"Content-Type": "application/json"}, body=answer.to_json().encode())


def _error(status: int, message: str) -> Answer:
    body = json.dumps({"code": status, "message": message}).encode()
    return Answer(status=status, headers={"Content-Type": "application/json"}, body=body)
