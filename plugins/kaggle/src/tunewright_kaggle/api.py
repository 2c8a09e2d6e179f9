"""Kaggle's API, for the container half: which requests list and download something, and what their answers mean.

Requests and answers are those of kagglesdk, the library under Kaggle's own client. Its transport is not used: it has no
timeouts, takes credentials from the home folder unasked, and reads whole archives without a way to go on. What Kaggle's
client itself does at import (it signs in, and ends the process where it cannot) never happens here.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from tunewright import ExitCode, FetchError
from tunewright_kaggle.uri import KaggleCompetition, KaggleDataset, KaggleHandle, KaggleModel
from tunewright_launcher.http import Http, HttpRequest, refusal

if TYPE_CHECKING:
    from kagglesdk.kaggle_object import KaggleObject
    from kagglesdk.models.types.model_enums import ModelFramework

_PAGE = 200
_LONGEST_ANSWER = 64 << 20


class _Page(Protocol):
    """What the answers to a listing have in common, besides their files."""

    next_page_token: str


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
        """The handle with the number of its newest version, if it has none; competitions have no versions.

        Raises:
            FetchError: NOT_FOUND, NO_PERMISSION, UNAVAILABLE.
        """
        if isinstance(handle, KaggleCompetition) or handle.version is not None:
            return handle
        if isinstance(handle, KaggleDataset):
            from kagglesdk.datasets.types.dataset_api_service import ApiDataset, ApiGetDatasetRequest

            asked = ApiGetDatasetRequest()
            asked.owner_slug, asked.dataset_slug = handle.owner, handle.name
            dataset = self._ask(handle, "datasets.DatasetApiService/GetDataset", asked, ApiDataset)
            return attrs.evolve(handle, version=dataset.current_version_number or None)
        from kagglesdk.models.types.model_api_service import ApiGetModelInstanceRequest, ApiModelInstance

        wanted = ApiGetModelInstanceRequest()
        _name_variation(wanted, handle)
        instance = self._ask(handle, "models.ModelApiService/GetModelInstance", wanted, ApiModelInstance)
        return attrs.evolve(handle, version=instance.version_number or None)

    def files(self, handle: KaggleHandle) -> Iterator[File]:
        """What is listed; page by page.

        Raises:
            FetchError: NOT_FOUND, NO_PERMISSION, UNAVAILABLE.
        """
        token = ""
        while True:
            page, files = self._page(handle, token)
            yield from files
            token = page.next_page_token or ""
            if not token:
                return

    def _page(self, handle: KaggleHandle, token: str) -> tuple[_Page, list[File]]:
        if isinstance(handle, KaggleDataset):
            from kagglesdk.datasets.types import dataset_api_service as datasets

            asked = datasets.ApiListDatasetFilesRequest()
            asked.owner_slug, asked.dataset_slug = handle.owner, handle.name
            asked.dataset_version_number = handle.version
            asked.page_token, asked.page_size = token, _PAGE
            method = "datasets.DatasetApiService/ListDatasetFiles"
            listed = self._ask(handle, method, asked, datasets.ApiListDatasetFilesResponse)
            return listed, [File(path=f.name, size=f.total_bytes) for f in listed.dataset_files]
        if isinstance(handle, KaggleModel):
            from kagglesdk.models.types import model_api_service as models

            wanted = models.ApiListModelInstanceVersionFilesRequest()
            _name_variation(wanted, handle)
            wanted.version_number = handle.version
            wanted.page_token, wanted.page_size = token, _PAGE
            method = "models.ModelApiService/ListModelInstanceVersionFiles"
            page = self._ask(handle, method, wanted, models.ApiListModelInstanceVersionFilesResponse)
            return page, [File(path=f.name, size=f.size) for f in page.files]
        from kagglesdk.competitions.types import competition_api_service as competitions

        data = competitions.ApiListDataFilesRequest()
        data.competition_name, data.page_token, data.page_size = handle.name, token, _PAGE
        method = "competitions.CompetitionApiService/ListDataFiles"
        answer = self._ask(handle, method, data, competitions.ApiListDataFilesResponse)
        return answer, [File(path=f.name, size=f.total_bytes) for f in answer.files]

    def archive(self, handle: KaggleHandle) -> HttpRequest:
        """The request for everything in one archive: a zip, or for models a tar."""
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
        from kagglesdk.kaggle_env import KaggleEnv, get_endpoint, get_env

        environment = get_env()
        # As kagglesdk's KaggleHttpClient has it: only the real service's name stands for its API alone.
        base = get_endpoint(environment) + ("" if environment is KaggleEnv.PROD else "/api")
        headers = {"Content-Type": "application/json", "Accept": "application/json", **self.account.headers}
        return HttpRequest(method="POST", url=f"{base}/v1/{method}", headers=headers, body=asked.to_json().encode())

    def _ask(
        self, handle: KaggleHandle, method: str, asked: KaggleObject, answer: type[Any]
    ) -> Any:  # kagglesdk has no types
        response, _ = self.http.send(self._request(method, asked))
        try:
            if response.status >= HTTPStatus.BAD_REQUEST:
                response.read(_LONGEST_ANSWER)
                raise self.refused(handle, response)
            return answer.from_json(response.read(_LONGEST_ANSWER).decode())
        except (ValueError, TypeError, AttributeError, KeyError, HTTPException, OSError) as error:
            cause = f"Kaggle's answer about {handle.uri} cannot be read: {type(error).__name__}."
            raise FetchError(cause, remedy="It is tried again.", code=ExitCode.TRY_AGAIN) from error
        finally:
            self.http.close_unread(response)

    def refused(self, handle: KaggleHandle, response: HTTPResponse) -> FetchError:
        """What it means that Kaggle refuses to list or to download."""
        said = f"{handle.uri} was answered with {response.status} {response.reason}."
        if response.status == HTTPStatus.UNAUTHORIZED:
            remedy = "Give api_token=, or username= and key=, from Kaggle's settings page."
            return FetchError(said, remedy=remedy, code=ExitCode.NO_PERMISSION)
        if response.status == HTTPStatus.FORBIDDEN:
            rules = "the competition's rules" if isinstance(handle, KaggleCompetition) else "the licence"
            remedy = f"Accept {rules} on its page at Kaggle; if it is private, give a credential that may read it."
            return FetchError(said, remedy=remedy, code=ExitCode.NO_PERMISSION)
        return refusal(handle.uri, response)


def _name_variation(request: KaggleObject, handle: KaggleModel) -> None:
    request.owner_slug, request.model_slug, request.instance_slug = handle.owner, handle.name, handle.variation
    request.framework = _framework(handle)


def _framework(handle: KaggleModel) -> ModelFramework:
    from kagglesdk.models.types.model_enums import ModelFramework

    names = {f.name.removeprefix("MODEL_FRAMEWORK_").replace("_", "").lower(): f for f in ModelFramework}
    found = names.get(handle.framework.replace("-", "").replace("_", "").lower())
    if found is None:
        remedy = f"Write one of {', '.join(sorted(set(names) - {'unspecified'}))}."
        cause = f"{handle.uri} names the framework {handle.framework!r}, which Kaggle does not have."
        raise FetchError(cause, remedy=remedy, code=ExitCode.USAGE)
    return found
