"""Kaggle's API in the container: requests that list and download files, and the meaning of their answers.

Requests and answers are those of kagglesdk, the library under Kaggle's own client. Its transport is not used: it has no
timeouts, silently reads credentials from the home folder, and cannot resume the download of an archive. Kaggle's client
itself is never imported, as it signs in on import and exits the process if it cannot.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, cast

import attrs

from tunewright import ExitCode, FetchError
from tunewright_kaggle.uri import KaggleCompetition, KaggleDataset, KaggleHandle, KaggleModel
from tunewright_launcher.http import Answered, Headers, Http, HttpRequest, refusal, status_of

if TYPE_CHECKING:
    from kagglesdk.kaggle_object import KaggleObject
    from kagglesdk.models.types.model_enums import ModelFramework

_PAGE = 200
_LONGEST_ANSWER = 64 << 20
UNUSABLE = "Start it again later. If this persists, check for a proxy that changes answers."
_LONGEST_MESSAGE = 200


class _Page(Protocol):
    """The common fields of all answers to a listing, besides their files."""

    next_page_token: str | None


@attrs.frozen(kw_only=True)
class Account:
    """A credential: a token, or a user name with a key; neither for public data."""

    api_token: str | None = attrs.field(default=None, repr=False)
    username: str | None = attrs.field(default=None, repr=False)
    key: str | None = attrs.field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """The Authorization header."""
        if self.api_token is not None:
            return {"Authorization": f"Bearer {self.api_token}"}
        if self.username is None:
            return {}
        return {"Authorization": f"Basic {base64.b64encode(f'{self.username}:{self.key}'.encode()).decode()}"}


@attrs.frozen(kw_only=True)
class File:
    """One file in a listing: relative path and size in bytes."""

    path: str
    size: int


@attrs.frozen
class Api:
    """A client of Kaggle's API.

    Attributes:
        account: the credential.
        http: sends the requests.
    """

    account: Account
    http: Http = attrs.field(factory=Http)

    def pin(self, handle: KaggleHandle) -> KaggleHandle:
        """Return the handle with its newest version, if it has none and Kaggle reports one. Competitions have no versions.

        Raises:
            FetchError: NO_PERMISSION, UNAVAILABLE, TRY_AGAIN.
        """
        if isinstance(handle, KaggleCompetition) or handle.version is not None:
            return handle
        try:
            version = self._newest(handle)
        except FetchError as error:
            if error.code is not ExitCode.NOT_FOUND:
                raise
            return handle  # the listing reports whether it exists
        return attrs.evolve(handle, version=version or None)

    def _newest(self, handle: KaggleDataset | KaggleModel) -> int | None:
        if isinstance(handle, KaggleDataset):
            from kagglesdk.datasets.types.dataset_api_service import ApiDataset, ApiGetDatasetRequest

            asked = ApiGetDatasetRequest()
            asked.owner_slug, asked.dataset_slug = handle.owner, handle.name
            dataset = self._ask(handle, "datasets.DatasetApiService/GetDataset", asked, ApiDataset)
            return cast("int | None", dataset.current_version_number)
        from kagglesdk.models.types.model_api_service import ApiGetModelInstanceRequest, ApiModelInstance

        wanted = ApiGetModelInstanceRequest()
        _name_variation(wanted, handle)
        instance = self._ask(handle, "models.ModelApiService/GetModelInstance", wanted, ApiModelInstance)
        return cast("int | None", instance.version_number)

    def files(self, handle: KaggleHandle) -> Iterator[File]:
        """Yield all listed files, page by page.

        Raises:
            FetchError: NOT_FOUND, NO_PERMISSION, UNAVAILABLE.
        """
        seen: set[str] = set()
        token = ""
        while token not in seen:
            seen.add(token)
            page, files = self._page(handle, token or None)
            yield from files
            token = page.next_page_token or ""
            if not token:
                return
        raise _unreadable(handle, "its listing repeats a page")

    def _page(self, handle: KaggleHandle, token: str | None) -> tuple[_Page, list[File]]:
        if isinstance(handle, KaggleDataset):
            from kagglesdk.datasets.types import dataset_api_service as datasets

            asked = datasets.ApiListDatasetFilesRequest()
            asked.owner_slug, asked.dataset_slug = handle.owner, handle.name
            asked.dataset_version_number = handle.version
            asked.page_token, asked.page_size = token, _PAGE
            method = "datasets.DatasetApiService/ListDatasetFiles"
            listed = self._ask(handle, method, asked, datasets.ApiListDatasetFilesResponse)
            if listed.error_message:
                raise _unreadable(handle, _short(listed.error_message))
            return listed, [_file(handle, f.name, f.total_bytes) for f in listed.dataset_files]
        if isinstance(handle, KaggleModel):
            from kagglesdk.models.types import model_api_service as models

            wanted = models.ApiListModelInstanceVersionFilesRequest()
            _name_variation(wanted, handle)
            wanted.version_number = handle.version
            wanted.page_token, wanted.page_size = token, _PAGE
            method = "models.ModelApiService/ListModelInstanceVersionFiles"
            page = self._ask(handle, method, wanted, models.ApiListModelInstanceVersionFilesResponse)
            return page, [_file(handle, f.name, f.size) for f in page.files]
        from kagglesdk.competitions.types import competition_api_service as competitions

        data = competitions.ApiListDataFilesRequest()
        data.competition_name, data.page_token, data.page_size = handle.name, token, _PAGE
        method = "competitions.CompetitionApiService/ListDataFiles"
        answer = self._ask(handle, method, data, competitions.ApiListDataFilesResponse)
        return answer, [_file(handle, f.name, f.total_bytes) for f in answer.files]

    def archive(self, handle: KaggleHandle) -> HttpRequest:
        """Return the request for one archive of all files: a zip, or a tar for models."""
        if isinstance(handle, KaggleDataset):
            from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

            asked = ApiDownloadDatasetRequest()
            asked.owner_slug, asked.dataset_slug = handle.owner, handle.name
            asked.dataset_version_number = handle.version
            return self._request("datasets.DatasetApiService/DownloadDataset", asked)
        if isinstance(handle, KaggleModel):
            from kagglesdk.models.types.model_api_service import ApiDownloadModelInstanceVersionRequest

            wanted = ApiDownloadModelInstanceVersionRequest()
            _name_variation(wanted, handle)
            wanted.version_number = handle.version
            return self._request("models.ModelApiService/DownloadModelInstanceVersion", wanted)
        from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFilesRequest

        data = ApiDownloadDataFilesRequest()
        data.competition_name = handle.name
        return self._request("competitions.CompetitionApiService/DownloadDataFiles", data)

    def _request(self, method: str, asked: KaggleObject) -> HttpRequest:
        headers = {"Content-Type": "application/json", "User-Agent": "tunewright", **self.account.headers}
        return HttpRequest(method="POST", url=f"{_base()}/v1/{method}", headers=headers, body=asked.to_json().encode())

    def _ask(
        self, handle: KaggleHandle, method: str, asked: KaggleObject, answer: type[Any]
    ) -> Any:  # kagglesdk has no types
        response, body = self.http.ask(self._request(method, asked), _LONGEST_ANSWER)
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise refused(handle, response, body)
        try:
            fields = json.loads(body)
            if fields.get("code", 0) >= HTTPStatus.BAD_REQUEST:  # kagglesdk also treats such an answer as an error
                raise refused(handle, _Answered(int(fields["code"]), "in its body", response.headers), body)
            return answer.from_dict(fields)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise _unreadable(handle, type(error).__name__) from error


@attrs.define
class _Answered:
    """An error that came with status 200."""

    status: int
    reason: str
    headers: Headers


def refused(handle: KaggleHandle, response: Answered, body: bytes) -> FetchError:
    """Return the error for a listing or download that Kaggle refused.

    Args:
        handle: what was requested.
        response: the answer.
        body: the answer's body, or its beginning.
    """
    said = f"{handle.uri} was answered with {status_of(response)}{_message(body)}."
    if response.status == HTTPStatus.UNAUTHORIZED:
        remedy = "Give api_token=, or username= and key=, from Kaggle's settings page."
        return FetchError(said, remedy=remedy, code=ExitCode.NO_PERMISSION)
    if response.status == HTTPStatus.FORBIDDEN:
        # Kaggle also answers so for what does not exist, in order not to reveal what is private.
        what = "the competition's rules" if isinstance(handle, KaggleCompetition) else "its licence"
        remedy = (
            f"Check the URI, accept {what} on its page at Kaggle, and give the credential of an account with access."
        )
        return FetchError(said, remedy=remedy, code=ExitCode.NO_PERMISSION)
    return refusal(handle.uri, response, body)


def _message(body: bytes) -> str:
    """Return Kaggle's own message, as the end of a sentence."""
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
    return FetchError(cause, remedy=UNUSABLE, code=ExitCode.TRY_AGAIN)


def _file(handle: KaggleHandle, name: object, size: object) -> File:
    if not isinstance(name, str) or not name or not isinstance(size, int) or size < 0:
        raise _unreadable(handle, f"it lists a file {name!r:.100} of {size!r:.100} bytes")
    return File(path=name, size=size)


def _base() -> str:
    """Return the API's base URL, which KAGGLE_API_ENVIRONMENT can change, as for Kaggle's own client."""
    from kagglesdk.kaggle_env import KaggleEnv, get_endpoint, get_env

    try:
        environment = get_env()
    except Exception as error:  # it raises no other class
        raise FetchError(str(error), remedy="Correct it in init_env.", code=ExitCode.USAGE) from error
    # As in kagglesdk's KaggleHttpClient: only the production host serves the API at its root.
    return f"{get_endpoint(environment)}{'' if environment is KaggleEnv.PROD else '/api'}"


def _name_variation(request: KaggleObject, handle: KaggleModel) -> None:
    request.owner_slug, request.model_slug, request.instance_slug = handle.owner, handle.name, handle.variation
    request.framework = _framework(handle)


def _framework(handle: KaggleModel) -> ModelFramework:
    from kagglesdk.models.types.model_enums import ModelFramework

    names = {f.name.removeprefix("MODEL_FRAMEWORK_").replace("_", "").lower(): f for f in ModelFramework}
    found = names.get(handle.framework.replace("-", "").replace("_", "").lower())
    if found is None:
        remedy = f"Write one of {', '.join(sorted(set(names) - {'unspecified'}))}."
        cause = f"{handle.uri} names the framework {handle.framework!r}, which Kaggle does not know."
        raise FetchError(cause, remedy=remedy, code=ExitCode.USAGE)
    return found
