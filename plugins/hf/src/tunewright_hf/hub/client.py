"""The Hub as a fetch sees it: a repository at one commit, and what a refusal means.

Every file has a digest in the commit's tree: SHA-256 where it is in LFS or Xet, git's SHA-1 of the blob otherwise. Files in
Xet are read over `/resolve/` like all others, which every Hub serves: hf_xet writes whole files by a loop of its own, that
has no limits, no journal and no digest to compare.

The API is what huggingface_hub's HfApi asks (`repo_info`, `list_repo_tree`, `hf_hub_url`), sent by the fetch engine's HTTP
client: HfApi lists trees without a timeout, so that a server which stands still would stop a pod for ever, and it sends
the token to whatever host the link to a next page names.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from urllib.parse import quote, urlsplit

from tunewright import ExitCode, FetchError
from tunewright.providers import Digest, Entry
from tunewright_hf.hub.uri import HubRepo
from tunewright_launcher.http import Headers, Http, HttpRequest, refusal

ENDPOINT = "https://huggingface.co"
_LONGEST_ANSWER = 64 << 20
_LONGEST_REASON = 300
_OFTEN = 3  # odd answers about one file
_DENIED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_NEXT = re.compile(r'<([^>]+)>\s*;[^,]*\brel="?next\b')

# draft-ietf-httpapi-ratelimit-headers-09: nothing is left, for so many seconds.
_NONE_LEFT = re.compile(r";\s*r=0\s*;\s*t=(\d+)")


class Hub:
    """One repository of a Hub.

    Args:
        repo: which one.
        endpoint: the Hub's URL; None for $HF_ENDPOINT, as huggingface_hub has it, or else huggingface.co.
        token: sent to the endpoint alone; with None none is sent, also where this machine has one.

    Raises:
        FetchError: USAGE: $HF_ENDPOINT is no URL. NO_PERMISSION: the token cannot be one.
    """

    def __init__(self, repo: HubRepo, *, endpoint: str | None, token: str | None) -> None:
        self.repo = repo
        self.endpoint = _checked(endpoint or os.environ.get("HF_ENDPOINT") or ENDPOINT)
        self.token = token
        self.http = Http()
        if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
            cause = "The token for the Hub has a character that no token has."
            raise FetchError(cause, remedy="Copy it again, whole and without spaces.", code=ExitCode.NO_PERMISSION)

    @property
    def api(self) -> str:
        """Where the API has the repository."""
        return f"{self.endpoint}/api/{self.repo.repo_type}s/{self.repo.repo_id}"

    @property
    def page(self) -> str:
        """The repository's page."""
        return f"{self.endpoint}/{'datasets/' if self.repo.repo_type == 'dataset' else ''}{self.repo.repo_id}"

    def request(self, url: str) -> HttpRequest:
        """A request to the endpoint, with the token."""
        token = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return HttpRequest(url=url, headers={"User-Agent": "tunewright-hf", **token})

    def file(self, commit: str, path: str) -> HttpRequest:
        """The request for a file of a commit."""
        return self.request(f"{self.page}/resolve/{commit}/{quote(path)}")

    def commit(self) -> str:
        """The commit that the repository's revision is now.

        Raises:
            FetchError: NOT_FOUND, NO_PERMISSION; UNAVAILABLE and TRY_AGAIN where it may pass.
        """
        answer, _ = self._ask(f"{self.api}/revision/{quote(self.repo.revision or 'main', safe='')}")
        sha = answer.get("sha") if isinstance(answer, dict) else None
        if not isinstance(sha, str) or not _COMMIT.fullmatch(sha):
            raise self._malformed("no commit")
        return sha

    def tree(self, commit: str, folder: str = "") -> Iterator[Entry]:
        """The files of a commit, or below a folder of it, with their paths within the repository.

        Raises:
            FetchError: as `commit`; NOT_FOUND also where there is no such folder.
        """
        tree = f"{self.api}/tree/{commit}{f'/{quote(folder)}' if folder else ''}"
        query: str | None = "recursive=true&expand=false"
        while query is not None:
            answer, headers = self._ask(f"{tree}?{query}")
            if not isinstance(answer, list):
                raise self._malformed("no list of files")
            yield from filter(None, map(self._entry, answer))
            following = _NEXT.search(headers.get("Link") or "")
            # Only where it goes on: a mirror passes on the links of the Hub that it mirrors.
            query = urlsplit(following[1]).query if following else None

    def refused(self, status: int, headers: Headers, body: bytes, path: str | None = None) -> FetchError | None:
        """What an answer that is no success means on a Hub; None for what it means everywhere.

        Args:
            status: of the answer.
            headers: of the answer.
            body: its beginning.
            path: the file that was asked for, if it was one.
        """
        missing = {
            "RevisionNotFound": f"{self.repo.uri} has no branch, tag or commit {self.repo.revision or 'main'!r}.",
            "EntryNotFound": f"{self.repo.uri} has no {path or 'such folder'} in its commit.",
        }
        code = headers.get("X-Error-Code")
        if code == "GatedRepo":
            return self._gated()
        if code in missing:
            return FetchError(missing[code], remedy=f"See what there is on {self.page}.", code=ExitCode.NOT_FOUND)
        if status in _DENIED:
            return self._denied(status, path or self.repo.uri, self._reason(headers, body))
        if status == HTTPStatus.NOT_FOUND and path is None:
            hidden = "private and not for this token" if self.token else "private, and no token is given"
            cause = f"{self.repo.uri} is not there, or {hidden}."
            return FetchError(cause, remedy=self._remedy, code=ExitCode.NOT_FOUND)
        return self._busy(headers) if status == HTTPStatus.TOO_MANY_REQUESTS else None

    @property
    def _remedy(self) -> str:
        return f"Check the name, and give access_token= a token that may read {self.page}."

    def _gated(self) -> FetchError:
        who = "the token's account has not been given access" if self.token else "no token is given"
        remedy = f"Accept its terms on {self.page}, and give access_token= a token of the account that did."
        return FetchError(f"{self.repo.uri} is gated, and {who}.", remedy=remedy, code=ExitCode.NO_PERMISSION)

    def _denied(self, status: int, what: str, reason: str) -> FetchError:
        if status == HTTPStatus.UNAUTHORIZED and not self.token:
            cause = f"{what} is private or not there: without a token {self.endpoint} does not say which."
            return FetchError(cause, remedy=self._remedy, code=ExitCode.NO_PERMISSION)
        if status == HTTPStatus.UNAUTHORIZED:
            cause = f"{self.endpoint} does not accept the token for {what}: {reason}."
            remedy = "Give access_token= one that is valid and has not expired."
            return FetchError(cause, remedy=remedy, code=ExitCode.NO_PERMISSION)
        cause, remedy = f"{self.endpoint} refuses {what}: {reason}.", "Give access_token= a token with that permission."
        return FetchError(cause, remedy=remedy, code=ExitCode.NO_PERMISSION)

    def _busy(self, headers: Headers) -> FetchError | None:
        left = _NONE_LEFT.search(headers.get("RateLimit") or "")
        if left is None or headers.get("Retry-After"):
            return None
        cause, remedy = f"{self.endpoint} takes no more requests for {left[1]} s.", "It is tried again."
        return FetchError(cause, remedy=remedy, code=ExitCode.TRY_AGAIN, retry_after=float(left[1]))

    def _reason(self, headers: Headers, body: bytes) -> str:
        """What the Hub says, for people; without the token, should it be in there."""
        text = headers.get("X-Error-Message")
        if not text:
            try:
                text = str(json.loads(body)["error"])
            except (ValueError, TypeError, KeyError):
                text = "no reason is given"
        if self.token:
            text = text.replace(self.token, "…")
        return "".join(c if c.isprintable() else " " for c in text)[:_LONGEST_REASON].rstrip(" .")

    def _ask(self, url: str) -> tuple[object, Headers]:
        response, body = self.http.ask(self.request(url), _LONGEST_ANSWER)
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise self.refused(response.status, response.headers, body) or refusal(self.repo.uri, response)
        try:
            return json.loads(body), response.headers
        except ValueError as error:
            raise self._malformed("no JSON") from error

    def _entry(self, item: object) -> Entry | None:
        """The file that an item of a tree is; None for a folder."""
        if not isinstance(item, Mapping) or item.get("type") != "file":
            return None
        lfs = item.get("lfs")
        size = lfs.get("size") if isinstance(lfs, Mapping) else item.get("size")
        # With `lfs`, the item's own `oid` is of the pointer.
        digest = ("sha256", lfs.get("oid")) if isinstance(lfs, Mapping) else ("git-blob-sha1", item.get("oid"))
        match item.get("path"), size, digest:
            case str(path), int(size), (("sha256" | "git-blob-sha1") as algorithm, str(value)) if size >= 0:
                # Paths go into URLs, and a lone surrogate cannot.
                name = path.encode(errors="backslashreplace").decode()
                return Entry(path=name, size=size, digests=(Digest(algorithm=algorithm, value=value),))
        raise self._malformed("a file without path, size or digest")

    def _malformed(self, what: str) -> FetchError:
        cause = f"{self.endpoint} has answered with {what} when asked for {self.repo.uri}."
        return FetchError(cause, remedy="Check that it is a Hub: endpoint= or $HF_ENDPOINT.", code=ExitCode.BAD_DATA)


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in url:
        # Unsaid, for what is in it may be a password. The field itself was looked at before.
        raise FetchError("$HF_ENDPOINT is no URL of a Hub.", remedy="Write https://host[:port].", code=ExitCode.USAGE)
    return url.rstrip("/")
