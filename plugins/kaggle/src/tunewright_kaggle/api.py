"""Kaggle's API, for the container half: which requests list and download something, and what their answers mean.

Services, methods and fields are those of kagglesdk 0.1.38, the library under Kaggle's own client; the tests hold them
against it. It is not used itself: it has no timeouts, takes credentials from the home folder unasked, cannot go on with half
an archive, and would add half a second to each start.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPException

import attrs

from tunewright import ExitCode, FetchError
from tunewright.environment import user_variable
from tunewright_kaggle.uri import KaggleCompetition, KaggleDataset, KaggleHandle, KaggleModel
from tunewright_launcher.http import Answered, Headers, Http, HttpRequest, refusal

# Kaggle's own client can be told another place with KAGGLE_API_ENVIRONMENT, so this can be, too.
_PLACES = {
    "PROD": "https://api.kaggle.com",
    "QA": "https://qa.kaggle.com/api",
    "LOCALHOST": "http://localhost/api",
    "TEST": "http://localhost:7777/api",
}
_FRAMEWORKS = (
    *("TENSOR_FLOW_1", "TENSOR_FLOW_2", "TF_LITE", "TF_JS", "PY_TORCH", "JAX", "FLAX", "PAX", "MAX_TEXT", "GEMMA_CPP"),
    *(
        "GGML",
        "GGUF",
        "CORAL",
        "SCIKIT_LEARN",
        "MXNET",
        "ONNX",
        "KERAS",
        "TRANSFORMERS",
        "API",
        "OTHER",
        "TENSOR_RT_LLM",
    ),
    *("TRITON", "VLLM"),
)
_PAGE = 200
_LONGEST_ANSWER = 64 << 20
_LONGEST_MESSAGE = 200

Fields = dict[str, object]


@attrs.frozen
class _Service:
    """How a kind of handle is asked for.

    Attributes:
        name: the service.
        listing: the method that lists files.
        files: the field of its answer that has them.
        size: the field of a file that has its bytes.
        download: the method that leads to the archive.
        newest: the method that tells the newest version.
        version: the field of its answer that does.
    """

    name: str
    listing: str
    files: str
    size: str
    download: str
    newest: str = ""
    version: str = ""


_DATASETS = _Service(
    "datasets.DatasetApiService",
    "ListDatasetFiles",
    "datasetFiles",
    "totalBytes",
    "DownloadDataset",
    "GetDataset",
    "currentVersionNumber",
)
_MODELS = _Service(
    "models.ModelApiService",
    "ListModelInstanceVersionFiles",
    "files",
    "size",
    "DownloadModelInstanceVersion",
    "GetModelInstance",
    "versionNumber",
)
_COMPETITIONS = _Service(
    "competitions.CompetitionApiService", "ListDataFiles", "files", "totalBytes", "DownloadDataFiles"
)


@attrs.frozen(kw_only=True)
class Account:
    """Who asks: a token, or a user with a key; neither for what everybody may read."""

    api_token: str | None = attrs.field(default=None, repr=False)
    username: str | None = attrs.field(default=None, repr=False)
    key: str | None = attrs.field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """The header that says so."""
        if self.api_token is not None:
            return {"Authorization": f"Bearer {self.api_token}"}
        if self.username is None:
            return {}
        return {"Authorization": f"Basic {base64.b64encode(f'{self.username}:{self.key}'.encode()).decode()}"}


@attrs.frozen(kw_only=True)
class File:
    """One file, as it is listed: relative path and bytes."""

    path: str
    size: int


@attrs.frozen
class Api:
    """Asks Kaggle.

    Attributes:
        account: who asks.
        http: sends the requests.
    """

    account: Account
    http: Http = attrs.field(factory=Http)

    def pin(self, handle: KaggleHandle) -> KaggleHandle:
        """The handle with the number of its newest version, if it has none and Kaggle tells; competitions have no versions.

        Raises:
            FetchError: NO_PERMISSION, UNAVAILABLE, TRY_AGAIN.
        """
        if isinstance(handle, KaggleCompetition) or handle.version is not None:
            return handle
        service, _ = _of(handle)
        try:
            version = self._ask(handle, service.newest).get(service.version)
        except FetchError as error:
            if error.code is not ExitCode.NOT_FOUND:
                raise
            return handle  # whether there is such a thing is said by the listing
        return attrs.evolve(handle, version=version) if isinstance(version, int) and version > 0 else handle

    def files(self, handle: KaggleHandle) -> Iterator[File]:
        """What is listed; page by page.

        Raises:
            FetchError: NOT_FOUND, NO_PERMISSION, UNAVAILABLE.
        """
        service, _ = _of(handle)
        seen: set[object] = set()
        page: Fields = {"pageSize": _PAGE}
        while True:
            answer = self._ask(handle, service.listing, page)
            if said := answer.get("errorMessage"):
                raise _unreadable(handle, _short(said))
            listed = answer.get(service.files, [])
            if not isinstance(listed, list):
                raise _unreadable(handle, f"its {service.files} are no list")
            for file in listed:
                yield _file(handle, file, service.size)
            token = answer.get("nextPageToken")
            if not token:
                return
            if not isinstance(token, str) or token in seen:
                raise _unreadable(handle, "its pages have no end")
            seen.add(token)
            page = {"pageSize": _PAGE, "pageToken": token}

    def archive(self, handle: KaggleHandle) -> HttpRequest:
        """The request for everything in one archive: a zip, or for models a tar."""
        return self._request(handle, _of(handle)[0].download, {})

    def _request(self, handle: KaggleHandle, method: str, more: Fields) -> HttpRequest:
        service, names = _of(handle)
        headers = {"Content-Type": "application/json", "User-Agent": "tunewright", **self.account.headers}
        body = json.dumps({**names, **more}).encode()
        return HttpRequest(method="POST", url=f"{_base()}/v1/{service.name}/{method}", headers=headers, body=body)

    def _ask(self, handle: KaggleHandle, method: str, more: Fields | None = None) -> Fields:
        response, _ = self.http.send(self._request(handle, method, more or {}))
        try:
            body = response.read(_LONGEST_ANSWER)
        except (HTTPException, OSError) as error:
            raise _unreadable(handle, type(error).__name__) from error
        finally:
            self.http.close_unread(response)
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise refused(handle, response, body)
        try:
            fields = json.loads(body)
        except ValueError as error:
            raise _unreadable(handle, "it is no JSON") from error
        if not isinstance(fields, dict):
            raise _unreadable(handle, "it is no JSON object")
        code = fields.get("code")
        if isinstance(code, int) and code >= HTTPStatus.BAD_REQUEST:  # kagglesdk takes such an answer for an error, too
            raise refused(handle, _Answered(code, "in its body", response.headers), body)
        return fields


@attrs.define
class _Answered:
    """An error that came with status 200."""

    status: int
    reason: str
    headers: Headers


def refused(handle: KaggleHandle, response: Answered, body: bytes) -> FetchError:
    """What it means that Kaggle refuses to list or to download.

    Args:
        handle: what was asked for.
        response: the answer.
        body: its body, or the beginning.
    """
    said = f"{handle.uri} was answered with {response.status} {response.reason}{_message(body)}."
    if response.status == HTTPStatus.UNAUTHORIZED:
        remedy = "Give api_token=, or username= and key=, from Kaggle's settings page."
        return FetchError(said, remedy=remedy, code=ExitCode.NO_PERMISSION)
    if response.status == HTTPStatus.FORBIDDEN:
        # Kaggle answers so to what does not exist, too: it does not tell strangers of what is private.
        what = "the competition's rules" if isinstance(handle, KaggleCompetition) else "its licence"
        remedy = f"Check the URI; accept {what} on its page at Kaggle; give a credential of who may read it."
        return FetchError(said, remedy=remedy, code=ExitCode.NO_PERMISSION)
    return refusal(handle.uri, response)


def _message(body: bytes) -> str:
    """What Kaggle says itself, for the end of a sentence."""
    try:
        text = json.loads(body)["message"]
    except (ValueError, TypeError, KeyError):
        return ""
    return f": {_short(text)}" if text else ""


def _short(text: object) -> str:
    shown = "".join(c if c.isprintable() else " " for c in str(text))
    return shown[:_LONGEST_MESSAGE].rstrip(". ")


def _unreadable(handle: KaggleHandle, why: str) -> FetchError:
    cause = f"Kaggle's answer about {handle.uri} cannot be used: {why}."
    return FetchError(cause, remedy="It is tried again.", code=ExitCode.TRY_AGAIN)


def _file(handle: KaggleHandle, fields: object, size_field: str) -> File:
    name, size = (fields.get("name"), fields.get(size_field, 0)) if isinstance(fields, dict) else (None, None)
    if not isinstance(name, str) or not name or not isinstance(size, int) or size < 0:
        raise _unreadable(handle, f"it lists a file {name!r:.100} of {size!r:.100} bytes")
    return File(path=name, size=size)


def _base() -> str:
    environment = user_variable("KAGGLE_API_ENVIRONMENT") or "PROD"
    if environment not in _PLACES:
        cause = f"KAGGLE_API_ENVIRONMENT is {environment!r}, which is none of {', '.join(_PLACES)}."
        raise FetchError(cause, remedy="Correct it in init_env.", code=ExitCode.USAGE)
    return _PLACES[environment]


def _of(handle: KaggleHandle) -> tuple[_Service, Fields]:
    """How it is asked for, and the fields that name it."""
    match handle:
        case KaggleDataset():
            version = {"datasetVersionNumber": handle.version} if handle.version else {}
            return _DATASETS, {"ownerSlug": handle.owner, "datasetSlug": handle.name, **version}
        case KaggleModel():
            version = {"versionNumber": handle.version} if handle.version else {}
            names = {"ownerSlug": handle.owner, "modelSlug": handle.name, "instanceSlug": handle.variation}
            return _MODELS, {**names, "framework": _framework(handle), **version}
        case KaggleCompetition():
            return _COMPETITIONS, {"competitionName": handle.name}


def _framework(handle: KaggleModel) -> str:
    names = {name.replace("_", "").lower(): name for name in _FRAMEWORKS}
    found = names.get(handle.framework.replace("-", "").replace("_", "").lower())
    if found is None:
        cause = f"{handle.uri} names the framework {handle.framework!r}, which Kaggle does not have."
        raise FetchError(cause, remedy=f"Write one of {', '.join(sorted(names))}.", code=ExitCode.USAGE)
    return f"MODEL_FRAMEWORK_{found}"
