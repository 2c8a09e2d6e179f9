"""The Hub's API for fetching: resolve a revision, list a commit's files, and explain refusals.

Every file has a digest in the commit's tree: SHA-256 for files in LFS or Xet, git's SHA-1 of the blob for all others. Files
in Xet are read over `/resolve/`, which every Hub serves: hf_xet writes whole files in its own loop, without limits, journal
or digests.

The requests are those of huggingface_hub's HfApi (`repo_info`, `list_repo_tree`, `hf_hub_url`), sent by the fetch engine's
HTTP client: HfApi lists trees without a timeout, so a server that hangs would block a pod forever, and it sends the token
to whatever host the link to the next page names.
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
from tunewright_launcher.http import Headers, Http, HttpRequest, refusal, words_of

ENDPOINT = "https://huggingface.co"
_LONGEST_ANSWER = 64 << 20
_LONGEST_REASON = 300
DENIED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_NEXT = re.compile(r'<([^>]+)>\s*;[^,]*\brel="?next\b')

# draft-ietf-httpapi-ratelimit-headers-09: nothing is left, for so many seconds.
_NONE_LEFT = re.compile(r";\s*r=0\s*;\s*t=(\d+)")


class Hub:
    """One repository on a Hub.

    Args:
        repo: the repository.
        endpoint: the Hub's URL; None for $HF_ENDPOINT, as in huggingface_hub, or else huggingface.co.
        token: sent only to the endpoint. With None no token is sent, even if this machine has one.

    Raises:
        FetchError: USAGE: $HF_ENDPOINT is not a URL. NO_PERMISSION: the token has a character that tokens never have.
    """

    def __init__(self, repo: HubRepo, *, endpoint: str | None, token: str | None) -> None:
        self.repo = repo
        self.endpoint = _checked(endpoint or os.environ.get("HF_ENDPOINT") or ENDPOINT)
        self.token = token
        self.http = Http()
        if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
            cause = "The token for the Hub contains a character that is not allowed in a token."
            raise FetchError(cause, remedy="Copy it again, complete and without spaces.", code=ExitCode.NO_PERMISSION)

    @property
    def api(self) -> str:
        """The repository's URL in the API."""
        return f"{self.endpoint}/api/{self.repo.repo_type}s/{self.repo.repo_id}"

    @property
    def page(self) -> str:
        """The URL of the repository's page."""
        return f"{self.endpoint}/{'datasets/' if self.repo.repo_type == 'dataset' else ''}{self.repo.repo_id}"

    def request(self, url: str) -> HttpRequest:
        """Return a request to the endpoint, with the token."""
        token = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return HttpRequest(url=url, headers={"User-Agent": "tunewright-hf", **token})

    def file(self, commit: str, path: str) -> HttpRequest:
        """Return the request for a file of a commit."""
        return self.request(f"{self.page}/resolve/{commit}/{quote(path)}")

    def commit(self) -> str:
        """Return the commit that the repository's revision now points to.

        Raises:
            FetchError: NOT_FOUND, NO_PERMISSION; UNAVAILABLE and TRY_AGAIN for what may be temporary.
        """
        answer, _ = self._ask(f"{self.api}/revision/{quote(self.repo.revision or 'main', safe='')}")
        sha = answer.get("sha") if isinstance(answer, dict) else None
        if not isinstance(sha, str) or not _COMMIT.fullmatch(sha):
            raise self._malformed("without a commit")
        return sha

    def tree(self, commit: str, folder: str = "") -> Iterator[Entry]:
        """Yield the files of a commit, or of a folder in it, with their paths in the repository.

        Raises:
            FetchError: as `commit`; NOT_FOUND also if the folder does not exist.
        """
        tree = f"{self.api}/tree/{commit}{f'/{quote(folder)}' if folder else ''}"
        query: str | None = "recursive=true&expand=false"
        while query is not None:
            answer, headers = self._ask(f"{tree}?{query}")
            if not isinstance(answer, list):
                raise self._malformed("that is not a list of files")
            yield from filter(None, map(self._entry, answer))
            following = _NEXT.search(headers.get("Link") or "")
            # Only the query is used: a mirror passes on links to the Hub that it mirrors.
            before, query = query, urlsplit(following[1]).query if following else None
            if query == before:
                raise self._malformed("whose next page is the same page")

    def refused(self, status: int, headers: Headers, body: bytes, path: str | None = None) -> FetchError | None:
        """Return the error for an unsuccessful answer; None if the status has no special meaning on a Hub.

        Args:
            status: the answer's status code.
            headers: the answer's headers.
            body: the beginning of the answer's body.
            path: the file that was requested, if any.
        """
        missing = {
            "RevisionNotFound": f"{self.repo.uri} has no branch, tag or commit {self.repo.revision or 'main'!r}.",
            "EntryNotFound": f"{self.repo.uri} has no {path or 'such folder'} at its commit.",
        }
        code = headers.get("X-Error-Code")
        if code == "GatedRepo":
            return self._gated()
        if code in missing:
            return FetchError(missing[code], remedy=f"See what exists on {self.page}.", code=ExitCode.NOT_FOUND)
        if status in DENIED:
            return self._denied(status, path or self.repo.uri, self._reason(headers, body))
        if status == HTTPStatus.NOT_FOUND and path is None:
            hidden = "is private and not visible to this token" if self.token else "is private, and no token is given"
            cause = f"{self.repo.uri} does not exist, or {hidden}.{words_of(body)}"
            return FetchError(cause, remedy=self._remedy, code=ExitCode.NOT_FOUND)
        return self._busy(headers) if status == HTTPStatus.TOO_MANY_REQUESTS else None

    @property
    def _remedy(self) -> str:
        return f"Check the name, and give access_token= a token that can read {self.page}."

    def _not_sent(self, cause: str) -> FetchError | None:
        """Return the error for a refusal by another host than the endpoint, which redirects there; None for the endpoint's own."""
        own, other = urlsplit(self.endpoint), urlsplit(self.http.answered_by or self.endpoint)
        if not self.token or (own.scheme, own.netloc) == (other.scheme, other.netloc):
            return None
        there = f"{other.scheme}://{other.netloc}"
        cause = f"{cause}, and the token was not sent: {self.endpoint} redirects to {there}, and the token is for {own.netloc}."
        remedy = f"If you trust {there} with the token, give endpoint={there!r}; or else an endpoint that serves the files itself."
        return FetchError(cause, remedy=remedy, code=ExitCode.NO_PERMISSION)

    def _gated(self) -> FetchError:
        if elsewhere := self._not_sent(f"{self.repo.uri} is gated"):
            return elsewhere
        who = "the token's account has not been given access" if self.token else "no token is given"
        remedy = f"Accept its terms on {self.page}, and give access_token= a token of the account that did."
        return FetchError(f"{self.repo.uri} is gated, and {who}.", remedy=remedy, code=ExitCode.NO_PERMISSION)

    def _denied(self, status: int, what: str, reason: str) -> FetchError:
        if elsewhere := self._not_sent(f"{what} was refused with {status}"):
            return elsewhere
        if status == HTTPStatus.UNAUTHORIZED and not self.token:
            cause = f"{what} is private or does not exist: without a token {self.endpoint} does not say which."
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
        cause = f"{self.endpoint} accepts no more requests for {left[1]} s."
        remedy = "Start it again after that."
        if not self.token:
            remedy = "Start it again after that, or give access_token= a token: with one, more requests are accepted."
        return FetchError(cause, remedy=remedy, code=ExitCode.TRY_AGAIN, retry_after=float(left[1]))

    def _reason(self, headers: Headers, body: bytes) -> str:
        """Return the Hub's own explanation, with the token masked."""
        text = headers.get("X-Error-Message")
        if not text:
            try:
                text = str(json.loads(body)["error"])
            except (ValueError, TypeError, KeyError):
                text = words_of(body).removeprefix(" The server says: ") or "no reason is given"
        if self.token:
            text = text.replace(self.token, "…")
        return "".join(c if c.isprintable() else " " for c in text)[:_LONGEST_REASON].rstrip(" .")

    def _ask(self, url: str) -> tuple[object, Headers]:
        response, body = self.http.ask(self.request(url), _LONGEST_ANSWER)
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise self.refused(response.status, response.headers, body) or refusal(self.repo.uri, response, body)
        try:
            return json.loads(body), response.headers
        except ValueError as error:
            raise self._malformed("that is not JSON") from error

    def _entry(self, item: object) -> Entry | None:
        """Return the file that a tree's item describes; None for a folder."""
        if not isinstance(item, Mapping) or item.get("type") != "file":
            return None
        lfs = item.get("lfs")
        size = lfs.get("size") if isinstance(lfs, Mapping) else item.get("size")
        # With `lfs`, the item's own `oid` is that of the pointer.
        digest = (
            ("sha256", _without_kind(lfs.get("oid") or lfs.get("sha256")))
            if isinstance(lfs, Mapping)
            else ("git-blob-sha1", item.get("oid"))
        )
        match item.get("path"), size, digest:
            case str(path), int(size), (("sha256" | "git-blob-sha1") as algorithm, str(value)) if size >= 0:
                # Paths go into URLs, and a lone surrogate cannot.
                name = path.encode(errors="backslashreplace").decode()
                return Entry(path=name, size=size, digests=(Digest(algorithm=algorithm, value=value),))
        raise self._malformed("about a file without path, size or digest")

    def _malformed(self, what: str) -> FetchError:
        cause = f"{self.endpoint} sent an answer {what} when asked for {self.repo.uri}."
        return FetchError(cause, remedy="Check that endpoint= or $HF_ENDPOINT names a Hub.", code=ExitCode.BAD_DATA)


def _without_kind(oid: object) -> object:
    """Return an LFS object's digest, which some mirrors write as pointers do."""
    return oid.removeprefix("sha256:") if isinstance(oid, str) else oid


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in url:
        # The value is not shown, since it may contain a password. The field `endpoint` was validated on the client.
        raise FetchError(
            "$HF_ENDPOINT is not the URL of a Hub.", remedy="Write https://host[:port].", code=ExitCode.USAGE
        )
    return url.rstrip("/")
