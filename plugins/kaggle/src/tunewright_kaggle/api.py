"""Kaggle's API, for the container half: which requests list and download something, and what their answers mean.

Requests and answers are those of kagglesdk, the library under Kaggle's own client. Its transport is not used: it has no
timeouts, takes credentials from the home folder unasked, and reads whole archives without a way to go on. What Kaggle's
client itself does at import (it signs in, and ends the process where it cannot) never happens here.
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
from tunewright_launcher.http import Answered, Headers, Http, HttpRequest, refusal

if TYPE_CHECKING:
    from kagglesdk.kaggle_object import KaggleObject
    from kagglesdk.models.types.model_enums import ModelFramework

_PAGE = 200
_LONGEST_ANSWER = 64 << 20
_LONGEST_MESSAGE = 200


class _Page(Protocol):
    """What the answers to a listing have in common, besides their files."""

    next_page_token: str | None


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
        try:
            version = self._newest(handle)
        except FetchError as error:
            if error.code is not ExitCode.NOT_FOUND:
                raise
            return handle  # whether there is such a thing is said by the listing
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
        """What is listed; page by page.

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
        raise _unreadable(handle, "its pages have no end")

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
            if fields.get("code", 0) >= HTTPStatus.BAD_REQUEST:  # kagglesdk takes such an answer for an error, too
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


def _file(handle: KaggleHandle, name: object, size: object) -> File:
    if not isinstance(name, str) or not name or not isinstance(size, int) or size < 0:
        raise _unreadable(handle, f"it lists a file {name!r:.100} of {size!r:.100} bytes")
    return File(path=name, size=size)


def _base() -> str:
    """Where the API is: Kaggle's own client can be told another place with KAGGLE_API_ENVIRONMENT, so this can be, too."""
    from kagglesdk.kaggle_env import KaggleEnv, get_endpoint, get_env

    try:
        environment = get_env()
    except Exception as error:  # it raises no other class
        raise FetchError(str(error), remedy="Correct it in init_env.", code=ExitCode.USAGE) from error
    # As kagglesdk's KaggleHttpClient has it: only the real service's name stands for its API alone.
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
        cause = f"{handle.uri} names the framework {handle.framework!r}, which Kaggle does not have."
        raise FetchError(cause, remedy=remedy, code=ExitCode.USAGE)
    return found
