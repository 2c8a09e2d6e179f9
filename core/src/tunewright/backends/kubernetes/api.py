"""The Kubernetes API as JSON, over the official client's connection, which handles kubeconfigs, logins and certificates."""

from __future__ import annotations

import builtins
import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import attrs

from tunewright.backends.kubernetes.connection import Connection
from tunewright.backends.kubernetes.failures import ApiFailure
from tunewright.backends.kubernetes.kind import JobKind, Object

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

_CONNECT, _READ = 10.0, 30.0  # seconds
_PAGE = 500
_FIRST_ERROR = 400
_PATHS = {
    "Pod": "/api/v1/namespaces/{}/pods",
    "Event": "/api/v1/namespaces/{}/events",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "Service": "/api/v1/namespaces/{}/services",
    "Namespace": "/api/v1/namespaces",
    "StorageClass": "/apis/storage.k8s.io/v1/storageclasses",
}

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"


@attrs.frozen
class Page:
    """All objects of a kind, and the version of the list, from which a watch can continue."""

    items: list[Object]
    version: str


class Api:
    """Requests about one namespace and one kind of job. Any number of threads may use it.

    Args:
        connection: the way there, and the namespace; kinds of jobs may share one.
        kind: the kind of its job objects.

    Raises:
        RequestError: there is no way there: no kubeconfig that can be used, and no pod that this process runs in.
    """

    def __init__(self, connection: Connection, kind: JobKind) -> None:
        self._client = connection.client
        self.context = connection.options.context
        self._paths = {**_PATHS, **kind.paths}
        self.namespace = connection.namespace
        self.kind = kind

    def get(self, kind: str, name: str, *, metadata: bool = False) -> Object:
        """Return an object, or only its metadata."""
        accept = _METADATA.format("") if metadata else "application/json"
        return self._json("GET", self._path(kind, name), accept=accept)

    def find(self, kind: str, name: str, *, metadata: bool = False) -> Object | None:
        """Return an object, or None if it does not exist."""
        try:
            return self.get(kind, name, metadata=metadata)
        except ApiFailure as failure:
            if failure.no_such_object:
                return None
            raise

    def list(self, kind: str, selector: Mapping[str, str], *, metadata: bool = False) -> Page:
        """Return all current objects that match a selector (labelSelector, fieldSelector), read in pages."""
        pages = builtins.list(self.pages(kind, selector, metadata=metadata))
        return Page([item for page in pages for item in page.items], pages[-1].version)

    def pages(self, kind: str, selector: Mapping[str, str], *, metadata: bool = False) -> Iterator[Page]:
        """Yield what `list` returns page by page."""
        accept = _METADATA.format("List") if metadata else "application/json"
        more: dict[str, str] = {}
        while True:
            answer = self._json("GET", self._path(kind), {"limit": str(_PAGE), **selector, **more}, accept=accept)
            yield Page(answer.get("items") or [], answer["metadata"].get("resourceVersion", ""))
            if not (token := answer["metadata"].get("continue")):
                return
            more = {"continue": token}

    def cached(
        self, kind: str, selector: Mapping[str, str], *, metadata: bool = False, everywhere: bool = False
    ) -> builtins.list[Object]:
        """Return the objects that match a selector from the API server's cache, which may be some milliseconds old.

        All of them come at once: 2,000 jobs take a sixth of the time of pages, each of which the API server compares with etcd.
        https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list

        Args:
            kind: of the objects.
            selector: labelSelector and fieldSelector.
            metadata: whether their metadata is enough.
            everywhere: whether to return those of all namespaces.
        """
        accept = _METADATA.format("List") if metadata else "application/json"
        path = self._paths[kind].replace("/namespaces/{}", "") if everywhere else self._path(kind)
        return self._json("GET", path, {"resourceVersion": "0", **selector}, accept=accept).get("items") or []

    def first(self, kind: str) -> None:
        """Ask for one object of a kind, from the API server's cache: whether the cluster knows it and the user may."""
        self._json("GET", self._path(kind), {"limit": "1", "resourceVersion": "0"}, accept=_METADATA.format("List"))

    def ask(self, path: str) -> Object:
        """Return what the API server says about itself at a path: "/version", "/apis/kubeflow.org/v1"."""
        return self._json("GET", path)

    def may(self, verb: str, resource: str) -> bool:
        """Return whether the user has a right on a resource ("pods/log", "pytorchjobs.kubeflow.org") in the namespace."""
        plural, _, group = resource.partition(".")
        plural, _, part = plural.partition("/")
        about = {"namespace": self.namespace, "verb": verb, "group": group, "resource": plural, "subresource": part}
        kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        answer = self._json("POST", _REVIEWS, body={**kind, "spec": {"resourceAttributes": about}})
        return bool(answer["status"]["allowed"])

    def create(self, document: Mapping[str, Any], *, dry: bool = False) -> Object:
        """Create an object; unknown fields are an error. With `dry` the server validates it without storing it."""
        query = {"fieldValidation": "Strict", **({"dryRun": "All"} if dry else {})}
        return self._json("POST", self._path(document["kind"]), query, document)

    def patch(self, kind: str, name: str, change: Mapping[str, Any]) -> Object:
        """Apply a JSON merge patch to an object."""
        return self._json("PATCH", self._path(kind, name), {"fieldValidation": "Strict"}, change)

    def delete(self, kind: str, name: str, *, uid: str | None = None, propagation: str = "Background") -> None:
        """Delete an object if it still exists; with `uid`, only that object and not a newer one of its name."""
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            self._json("DELETE", self._path(kind, name), body=options)
        except ApiFailure as failure:
            if not (failure.no_such_object or failure.conflict):
                raise

    def log(self, pod: str, container: str, query: Mapping[str, str], read: float = 300.0) -> Stream:
        """Open a container's log; with `follow="true"` the stream continues until the container has terminated.

        Args:
            pod: its pod.
            container: its name in the pod.
            query: further parameters of the request.
            read: seconds to wait for each part, several times: the node that has the log may be lost.
        """
        return self._stream(f"{self._path('Pod', pod)}/log", {"container": container, **query}, read=read)

    def watch(self, kind: str, selector: Mapping[str, str], version: str) -> Stream:
        """Open a stream of changes after a version of the list: one JSON document per line, for some minutes."""
        # The server sends a bookmark every minute, so a longer silence means that it is gone.
        given = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": "300", "resourceVersion": version}
        return self._stream(self._path(kind), {**selector, **given}, read=90.0)

    def _path(self, kind: str, name: str = "") -> str:
        path = self._paths[kind].format(self.namespace)
        return f"{path}/{name}" if name else path

    def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        accept: str = "application/json",
    ) -> Object:
        response = self._send(method, path, query or {}, body, accept=accept, read=_READ)
        answer: Object = json.loads(response.data)
        return answer

    def _stream(self, path: str, query: Mapping[str, str], *, read: float) -> Stream:
        return Stream(self._send("GET", path, query, None, accept="*/*", read=read, preload=False))

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None,
        *,
        accept: str,
        read: float,
        preload: bool = True,
    ) -> BaseHTTPResponse:
        import urllib3

        kind = "merge-patch+json" if method == "PATCH" else "json"
        headers = {"Accept": accept, "Content-Type": f"application/{kind}"}
        self._client.update_params_for_auth(headers, [], ["BearerToken"])
        url = f"{self._client.configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            response: BaseHTTPResponse = self._client.rest_client.pool_manager.request(
                method,
                url,
                headers=headers,
                body=None if body is None else json.dumps(body),
                preload_content=preload,
                timeout=urllib3.Timeout(connect=_CONNECT, read=read),
            )
            if response.status >= _FIRST_ERROR:
                raise _failure(response.status, response.data)
        except urllib3.exceptions.HTTPError as error:
            raise ApiFailure(0, _plain(error)) from error
        return response


class Stream:
    """A response that is read line by line as it arrives."""

    def __init__(self, response: BaseHTTPResponse) -> None:
        self._response = response
        self._closed = threading.Event()

    def lines(self) -> Iterator[bytes]:
        """Yield the lines without their line breaks, including an unterminated last line.

        Raises:
            ApiFailure: the connection broke.
        """
        import urllib3

        rest = b""
        try:
            for part in self._response.stream(1 << 16):
                *whole, rest = (rest + part).split(b"\n")
                yield from whole
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            # ValueError: `close` was called during the read.
            if not self._closed.is_set():
                raise ApiFailure(0, _plain(error)) from error
        else:
            if rest:
                yield rest
        finally:
            self._response.close()

    def close(self) -> None:
        """Make `lines` end, whichever thread it is blocked in."""
        self._closed.set()
        with contextlib.suppress(Exception):  # it may have just ended; urllib3 before 2.3 has no shutdown()
            self._response.shutdown()


def _failure(status: int, body: bytes) -> ApiFailure:
    text = body.decode("utf-8", errors="replace")
    try:
        answer = json.loads(text)
        return ApiFailure(status, str(answer["message"]))
    except (ValueError, KeyError, TypeError):
        return ApiFailure(status, text[:1000] or "no reason given")


def _plain(error: BaseException) -> str:
    """Return the reason inside urllib3's wrapper exceptions."""
    reason = getattr(error, "reason", None)
    return _plain(reason) if isinstance(reason, BaseException) else f"{type(error).__name__}: {error}"
