"""The LFS batch API: where to download the contents of pointers.

See git-lfs' docs/api/batch.md. Objects are requested in batches of a hundred, each while the one before it is downloaded. The
answers expire, and are then requested again.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin, urlsplit

import attrs

from tunewright import ExitCode, FetchError
from tunewright_gitlfs.origin import LfsApi, Origin
from tunewright_gitlfs.pointers import Pointer
from tunewright_launcher.http import Headers, Http, HttpRequest, refusal, retry_after, shown, without_user, words_of

BATCH = 100
_FRESH = 5.0  # seconds for which a refused action cannot have expired
_KEPT = 64  # batches whose actions are kept: each takes hundreds of bytes
_PUSH = "Push the objects with `git lfs push --all`, or leave the files out with exclude=."
_ELSEWHERE = "If its .lfsconfig names another LFS server, give lfs_url= that server's URL."
_JSON = "application/vnd.git-lfs+json"
_LONGEST_ANSWER = 16 << 20
_QUOTA = (507, 509)  # insufficient storage; bandwidth limit exceeded, which no RFC has
_MISSING = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_DENIED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


@attrs.frozen(kw_only=True)
class Action:
    """How to download an object.

    Attributes:
        request: the GET request.
        expires_at: time on the monotonic clock after which the action is requested again.
    """

    request: HttpRequest
    expires_at: float


class Batch:
    """Objects that are asked for together; may be used by many threads.

    Args:
        lfs: who is asked.
        pointers: the objects.
    """

    def __init__(self, lfs: Lfs, pointers: Iterable[Pointer]) -> None:
        self._lfs = lfs
        self._pointers = tuple(pointers)
        self._lock = threading.Lock()
        self._actions: Mapping[str, Action] = {}
        self._asked_at = float("-inf")

    def action(self, oid: str) -> Action:
        """Return how to download this object.

        Raises:
            FetchError: the server refuses it.
        """
        with self._lock:  # one thread asks for all
            action = self._actions.get(oid)
            if action is None or time.monotonic() > action.expires_at:
                self._asked_at = time.monotonic()
                actions = self._actions = self._lfs.ask(self._pointers)
                self._lfs.keep(self)
                action = actions[oid]
            return action

    def prepare(self) -> None:
        """Ask for the actions, so that `action` need not; it raises what is wrong."""
        with contextlib.suppress(FetchError):
            self.action(self._pointers[0].oid)

    def forget(self) -> None:
        """Drop the actions; the next call requests them again."""
        self._actions = {}

    def renew(self, oid: str, refused: Action) -> bool:
        """Return whether a refused action may have expired, so that a new one is worth a try."""
        with self._lock:
            if self._actions.get(oid) is not refused:
                return True  # another thread has been here
            if time.monotonic() < self._asked_at + _FRESH:
                return False
            self.forget()
            return True


class Lfs:
    """The LFS server of an origin.

    Args:
        origin: the origin.
        http: sends requests.
    """

    def __init__(self, origin: Origin, http: Http) -> None:
        self._origin = origin
        self._http = http
        self._recent: deque[Batch] = deque()
        self._lock = threading.Lock()

    def keep(self, batch: Batch) -> None:
        """Note that a batch has its actions, and let the oldest batch drop its own."""
        with self._lock:
            self._recent.append(batch)
            if len(self._recent) > _KEPT:
                self._recent.popleft().forget()

    def ask(self, pointers: Iterable[Pointer]) -> Mapping[str, Action]:
        """Return how to download these objects, by oid.

        Raises:
            FetchError: NOT_FOUND, NO_PERMISSION, BAD_DATA: the server lacks one of them, or refuses it.
        """
        wanted = {pointer.oid: pointer for pointer in pointers}
        api, answer = self._post({"oid": p.oid, "size": p.size} for p in wanted.values())
        now = time.monotonic()
        try:
            if (answer.get("transfer") or "basic") != "basic":
                raise _malformed(api, f"the transfer {answer['transfer']!r}, which was not offered")
            about = {str(o["oid"]).lower(): o for o in answer["objects"]}
            found = {oid: _action(api, about[oid], now) for oid in wanted.keys() & about.keys()}
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise _malformed(api, f"an unreadable document ({type(error).__name__})") from error
        if missing := wanted.keys() - found.keys():
            raise _malformed(api, f"nothing about the object {min(missing)}")
        return found

    def _post(self, objects: Iterable[Mapping[str, object]]) -> tuple[LfsApi, dict[str, Any]]:
        asked = {"operation": "download", "transfers": ["basic"], "hash_algo": "sha256", "objects": list(objects)}
        refused: LfsApi | None = None
        for _ in range(2):
            api = self._origin.lfs(refused)
            headers = {**api.headers, "Accept": _JSON, "Content-Type": _JSON}
            url, body = f"{api.url}/objects/batch", json.dumps(asked).encode()
            asking = HttpRequest(url=url, headers=headers, method="POST", body=body)
            response, text = self._http.ask(asking, _LONGEST_ANSWER)
            if response.status != HTTPStatus.UNAUTHORIZED:
                break
            refused = api
        if response.status != HTTPStatus.OK:
            raise _refused(api, response.status, response.headers, text) or refusal(
                f"LFS at {shown(url)}", response, text
            )
        try:
            return api, dict(json.loads(text))
        except (TypeError, ValueError) as error:
            raise _malformed(api, "something that is not JSON") from error


def _action(api: LfsApi, answer: Mapping[str, Any], now: float) -> Action:
    if error := answer.get("error"):
        raise _object_error(api, str(answer["oid"]), int(error.get("code", 0)), str(error.get("message", "")))
    download = (answer.get("actions") or {}).get("download")
    if download is None:
        raise _malformed(api, f"no address of the object {answer['oid']}")
    url, user = without_user(urljoin(f"{api.url}/objects/batch", str(download["href"])))
    headers = {**user, **{str(k): str(v) for k, v in (download.get("header") or {}).items()}}
    own, other = urlsplit(api.url), urlsplit(url)
    if other.scheme not in ("http", "https") or (own.scheme == "https" and other.scheme == "http"):
        raise _malformed(api, f"the URL {shown(url)}, which is not encrypted")
    if not all(f"{name}{value}".isprintable() for name, value in headers.items()):
        raise _malformed(api, "headers that cannot be sent")
    # Our credential is for the LFS server itself, unless the server provides another one.
    is_own = (own.scheme, own.netloc) == (other.scheme, other.netloc)
    if is_own and not answer.get("authenticated") and "authorization" not in map(str.lower, headers):
        headers = {**api.headers, **headers}
    return Action(request=HttpRequest(url=url, headers=headers), expires_at=now + _life(download))


def _life(download: Mapping[str, Any]) -> float:
    """Return the seconds for which to use an action: somewhat less than its lifetime."""
    life = float(download.get("expires_in") or 0)
    if life <= 0 and (until := download.get("expires_at")):
        moment = dt.datetime.fromisoformat(str(until))
        life = moment.timestamp() - time.time() if moment.year > 1 else 0  # Go's zero time means never
    return 0.8 * life if life > 0 else float("inf")


def _object_error(api: LfsApi, oid: str, code: int, message: str) -> FetchError:
    cause = f"LFS at {shown(api.url)} does not provide the object {oid}: {code} {_short(message)}."
    if code in _DENIED or code in _QUOTA:
        remedy = "Give a credential that can read it. If a quota is used up, have it raised."
        return FetchError(cause, remedy=remedy, code=ExitCode.NO_PERMISSION)
    if code in _MISSING:
        return FetchError(cause, remedy=f"{_PUSH} {_ELSEWHERE}", code=ExitCode.NOT_FOUND)
    if code == HTTPStatus.TOO_MANY_REQUESTS or code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return FetchError(
            cause, remedy="Start it again later, or ask the server's operator.", code=ExitCode.UNAVAILABLE
        )
    return FetchError(cause, remedy="Ask the server's operator.", code=ExitCode.BAD_DATA)


def _refused(api: LfsApi, status: int, headers: Headers, body: bytes) -> FetchError | None:
    """Return the error for a refused batch; None if the status has no special meaning for LFS."""
    cause = f"LFS at {shown(api.url)} refused the request with {status}: {_message(body)}."
    if status in _DENIED or status in _QUOTA:
        remedy = "Give a credential that can read it. If a quota is used up, have it raised."
        return FetchError(cause, remedy=remedy, code=ExitCode.NO_PERMISSION, retry_after=retry_after(headers))
    if status in _MISSING:
        remedy = "The repository has LFS files, but this server has no LFS: check whether it is enabled there."
        if _JSON in headers.get("Content-Type", ""):  # an answer of LFS, as giftless's if it has none of the objects
            remedy = _PUSH
        return FetchError(cause, remedy=f"{remedy} {_ELSEWHERE}", code=ExitCode.NOT_FOUND)
    return None


def _message(body: bytes) -> str:
    try:
        return _short(str(json.loads(body)["message"]))
    except (ValueError, TypeError, KeyError):
        return _short(words_of(body).removeprefix(" The server says: ")) or "no reason given"


def _short(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:200].rstrip(" .")


def _malformed(api: LfsApi, what: str) -> FetchError:
    cause = f"LFS at {shown(api.url)} answered with {what}."
    return FetchError(cause, remedy="Ask the operator of the server, or of a proxy in between.", code=ExitCode.BAD_DATA)
