"""An API server of Kubernetes on the loopback interface: objects by path, lists in pages, selectors, logs and reviews.

It has no controllers and checks nothing: what is asked of a client is how it reads and what it asks, not what a cluster does.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
from tests.servers.faulty import Answer, FaultyServer, Request

Object = dict[str, Any]

_COLLECTION = re.compile(r"(?P<group>/api/v1|/apis/[^/]+/[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[^/]+)")
_REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_SERVED = {
    "/apis/kubeflow.org/v1": {"pytorchjobs": "PyTorchJob"},
    "/apis/trainer.kubeflow.org/v1alpha1": {"trainjobs": "TrainJob", "trainingruntimes": "TrainingRuntime"},
    "/apis/jobset.x-k8s.io/v1alpha2": {"jobsets": "JobSet"},
    "/apis/batch/v1": {"jobs": "Job"},
    "/api/v1": {
        "pods": "Pod",
        "events": "Event",
        "secrets": "Secret",
        "configmaps": "ConfigMap",
        "persistentvolumeclaims": "PersistentVolumeClaim",
        "services": "Service",
    },
}


class KubernetesServer(FaultyServer):
    """An API server.

    Attributes:
        objects: (path of the collection without its namespace, namespace, name) → object.
        logs: (pod, container) → its log.
        served: path of a group → plural → kind.
        token: the bearer token that is asked for; None for no one.
    """

    def __init__(self, *, groups: Sequence[str] = tuple(_SERVED), token: str | None = None) -> None:
        super().__init__()
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.logs: dict[tuple[str, str], bytes] = {}
        self.served = {group: kinds for group, kinds in _SERVED.items() if group in groups}
        self.token = token
        self._numbers = itertools.count(1)

    def kubeconfig(self, folder: Path, user: Mapping[str, object] | None = None, **cluster: object) -> Path:
        """Write a kubeconfig for this server, with the namespace `team`."""
        file = folder / "kubeconfig"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": self.url, **cluster}}],
            "users": [{"name": "me", "user": dict(user or {})}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "team"}}],
        }
        file.write_text(json.dumps(document), "utf-8")
        return file

    def add(self, document: Object, namespace: str = "team") -> Object:
        """Keep an object as if a client had created it."""
        group = next(
            f"{path}/{plural}"
            for path, kinds in _SERVED.items()
            for plural, kind in kinds.items()
            if kind == document["kind"] and path.endswith(document["apiVersion"])
        )
        number = next(self._numbers)
        made = {"namespace": namespace, "uid": f"uid-{number}", "resourceVersion": str(number)}
        made["creationTimestamp"] = f"2026-11-29T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}Z"
        found = {**document, "metadata": {**made, **document["metadata"]}}
        self.objects[group, found["metadata"]["namespace"], found["metadata"]["name"]] = found
        return found

    def asked(self, method: str = "GET") -> list[str]:
        """The paths that were asked for, oldest first."""
        return [request.path for request in self.log if request.method == method]

    def answer(self, request: Request) -> Answer:
        """As an API server."""
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            return _failed(401, "Unauthorized")
        if request.path == "/version":
            return _said({"gitVersion": "v1.34.4"})
        if request.path == _REVIEW:
            return _said({"status": {"allowed": True}})
        if request.path in self.served:
            return _said({"resources": [{"name": p, "kind": k} for p, k in self.served[request.path].items()]})
        match = _COLLECTION.match(request.path)
        if match is None or match["plural"] not in self.served.get(match["group"], {}):
            return _failed(404, "404 page not found")
        kind = self.served[match["group"]][match["plural"]]
        place = _Place(f"{match['group']}/{match['plural']}", match["namespace"], kind, match["group"])
        rest = request.path[match.end() :].strip("/").split("/")
        return self._collection(request, place) if rest == [""] else self._object(request, place, rest)

    def _collection(self, request: Request, place: _Place) -> Answer:
        if request.method == "POST":
            return _said(self.add(json.loads(request.body), place.namespace or ""), 201)
        query = {k: v[0] for k, v in parse_qs(urlsplit(request.target).query).items()}
        found = [o for (group, _, _), o in self.objects.items() if group == place.group and place.holds(o)]
        found = [o for o in found if _selected(o, query)]
        first, limit = int(query.get("continue", 0)), int(query.get("limit", 0))
        if query.get("resourceVersion") == "0" and not query.get("continue"):
            limit = 0  # from its cache the server answers whole
        page = found[first : first + limit] if limit else found[first:]
        metadata: Object = {"resourceVersion": "1000000"}
        if limit and first + limit < len(found):
            metadata["continue"] = str(first + limit)
        if "PartialObjectMetadata" in request.headers.get("accept", ""):
            page = [{"metadata": o["metadata"]} for o in page]
        return _said({"apiVersion": place.version, "kind": f"{place.kind}List", "metadata": metadata, "items": page})

    def _object(self, request: Request, place: _Place, rest: Sequence[str]) -> Answer:
        name, *part = rest
        key = (place.group, place.namespace or "", name)
        if key not in self.objects:
            plural = place.group.rpartition("/")[2]
            return _failed(404, f'{plural} "{name}" not found')
        if part == ["log"]:
            container = parse_qs(urlsplit(request.target).query)["container"][0]
            return Answer(body=self.logs.get((name, container), b""))
        if request.method == "DELETE":
            return _said(self.objects.pop(key))
        if request.method == "PATCH":
            self.objects[key] = _merged(self.objects[key], json.loads(request.body))
        return _said(self.objects[key])


@attrs.frozen
class _Place:
    group: str
    namespace: str | None
    kind: str
    path: str

    @property
    def version(self) -> str:
        return self.path.removeprefix("/apis/").removeprefix("/api/")

    def holds(self, document: Object) -> bool:
        return self.namespace is None or document["metadata"]["namespace"] == self.namespace


def _selected(document: Object, query: Mapping[str, str]) -> bool:
    labels = document["metadata"].get("labels") or {}
    return all(_agrees(labels.get, term) for term in _terms(query.get("labelSelector"))) and all(
        _agrees(lambda path: _field(document, path), term) for term in _terms(query.get("fieldSelector"))
    )


def _terms(selector: str | None) -> Iterator[str]:
    return (term for term in re.split(r",(?![^(]*\))", selector or "") if term)


def _agrees(value: Any, term: str) -> bool:
    if among := re.fullmatch(r"(\S+) in \((.*)\)", term):
        return value(among[1]) in among[2].split(",")
    if "!=" in term:
        name, _, wanted = term.partition("!=")
        return bool(value(name) != wanted)
    name, equals, wanted = term.partition("=")
    return bool(value(name) == wanted if equals else value(name) is not None)


def _field(document: Object, path: str) -> object:
    value: Any = document
    for name in path.split("."):
        value = (value or {}).get(name)
    return value


def _merged(document: Any, change: Any) -> Any:
    if not isinstance(change, dict) or not isinstance(document, dict):
        return change
    merged = {**document, **{k: _merged(document.get(k), v) for k, v in change.items()}}
    return {k: v for k, v in merged.items() if v is not None}


def _said(document: Object, status: int = 200) -> Answer:
    return Answer(status=status, headers={"Content-Type": "application/json"}, body=json.dumps(document).encode())


def _failed(status: int, message: str) -> Answer:
    return _said({"kind": "Status", "status": "Failure", "code": status, "message": message}, status)
