"""Refusals of the cluster, as errors that say what happened, to what, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.kind import JobKind
from tunewright.errors import JobError

_NO_SUCH_PATH = ("page not found", "could not find the requested resource")


class ClusterError(JobError):
    """The cluster refused a request about a job, or could not be reached."""


class NameTaken(ClusterError):  # noqa: N818 - as `tunewright.errors.PluginNotFound`
    """An object of that name already exists."""


class Forbidden(ClusterError):  # noqa: N818 - as above
    """The user lacks a right in the namespace."""


class NotLoggedIn(ClusterError):  # noqa: N818 - as above
    """The cluster does not accept the user's credentials."""


class QuotaExceeded(ClusterError):  # noqa: N818 - as above
    """The job exceeds a ResourceQuota of the namespace."""


class Refused(ClusterError):  # noqa: N818 - as above
    """The API server or an admission webhook rejected the job."""


class NotInstalled(ClusterError):  # noqa: N818 - as above
    """The cluster does not know this kind of job, or the namespace does not exist."""


class OperatorDown(ClusterError):  # noqa: N818 - as above
    """An admission webhook, usually the controller's, does not respond."""


class Unavailable(ClusterError):  # noqa: N818 - as above
    """The API server could not be reached, or is overloaded."""


class ApiFailure(Exception):  # noqa: N818 - never seen by users: `explained` turns it into one of the above
    """An unsuccessful response of the API server.

    Attributes:
        status: HTTP status; 0 if there was no response.
        message: what the server said.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message

    @property
    def no_such_path(self) -> bool:
        """Whether the path is not served: the cluster does not know the kind."""
        return self.status == HTTPStatus.NOT_FOUND and any(text in self.message for text in _NO_SUCH_PATH)

    @property
    def no_such_object(self) -> bool:
        """Whether the cluster knows the kind, and no object has that name."""
        return self.status == HTTPStatus.NOT_FOUND and not self.no_such_path

    @property
    def conflict(self) -> bool:
        """Whether such an object already exists, or is not the one that was meant."""
        return self.status == HTTPStatus.CONFLICT

    @property
    def may_pass(self) -> bool:
        """Whether repeating the request may help."""
        return self.status in (0, 408, 410, 429) or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR


ALL_NAMESPACES = "*"
"""In place of a namespace: the request was about all of them."""

_REFUSALS: tuple[tuple[type[ClusterError], Callable[[ApiFailure], bool], str, str], ...] = (
    (
        Unavailable,
        lambda failure: failure.status == 0,
        "The Kubernetes API server cannot be reached: {said}.",
        "Check the network and the kubeconfig: kubectl cluster-info",
    ),
    (
        NotLoggedIn,
        lambda failure: failure.status == HTTPStatus.UNAUTHORIZED,
        "The cluster rejected your credentials: {said}.",
        "Log in again, or choose another context of the kubeconfig with context=.",
    ),
    (
        QuotaExceeded,
        lambda failure: "exceeded quota" in failure.message,
        "Job {name!r} exceeds the quota of namespace {namespace!r}: {said}.",
        "Delete jobs that you no longer need, or ask for a larger quota: kubectl describe quota -n {namespace}",
    ),
    (
        OperatorDown,
        lambda failure: "failed calling webhook" in failure.message,
        "Job {name!r} was not accepted, because an admission webhook does not respond: {said}.",
        "If it belongs to {controller}, wait until its pod runs, or tell your cluster admin: "
        "kubectl get pods -A -l {selector}",
    ),
    (
        Refused,
        lambda failure: "admission webhook" in failure.message,
        "An admission webhook of the cluster rejected job {name!r}: {said}.",
        "Change the job accordingly, or ask your cluster admin.",
    ),
    (
        Forbidden,
        lambda failure: failure.status == HTTPStatus.FORBIDDEN,
        "You lack a right in namespace {namespace!r}: {said}.",
        "Choose a namespace of your own with namespace=, or ask your cluster admin for that right, and "
        "whether {controller} is installed.",
    ),
    (
        NotInstalled,
        lambda failure: failure.no_such_path,
        "The cluster does not know {kind}s ({api_version}): {controller} is not installed.",
        "{installation}",
    ),
    (
        NotInstalled,
        lambda failure: failure.status == HTTPStatus.NOT_FOUND and "namespaces" in failure.message,
        "Namespace {namespace!r} does not exist.",
        "Choose another with namespace=, or create it: kubectl create namespace {namespace}",
    ),
    (
        ClusterError,
        lambda failure: failure.status == HTTPStatus.NOT_FOUND,
        "There is no job {name!r} in namespace {namespace!r}.",
        "List the jobs: tunewright list --backend {backend} -n {namespace}",
    ),
    (
        NameTaken,
        lambda failure: failure.status == HTTPStatus.CONFLICT,
        "The name {name!r} is already taken: {said}.",
        "Choose another name, or delete it: {delete}",
    ),
    (
        Refused,
        lambda failure: failure.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY),
        "The API server rejected job {name!r}: {said}.",
        "Check pod_overrides= and the other arguments that hold Kubernetes objects.",
    ),
)
"""Error class, whether a failure belongs to it, what happened, and what to do. The first match counts."""


_ONE_NAMESPACE = (
    "List those of a namespace with namespace= (-n), or ask your cluster admin for the role in deploy/rbac/viewer.yaml."
)


def explained(failure: ApiFailure, job_kind: JobKind, *, name: str, namespace: str) -> ClusterError:
    """Return the error for a failure of a request about the job `name`."""
    error, cause, remedy = explanation(failure, job_kind, name, namespace)
    return error(f"{cause} {remedy}", name=name)


def explanation(
    failure: ApiFailure, job_kind: JobKind, name: str, namespace: str
) -> tuple[type[ClusterError], str, str]:
    """Return the error class, what happened, and what to do."""
    said = failure.message.strip().rstrip(".")
    words = {
        "name": name,
        "namespace": namespace,
        "said": said,
        "delete": names.command_for("delete", name, namespace, backend=job_kind.backend),
        "backend": job_kind.backend,
        "kind": job_kind.kind,
        "api_version": job_kind.api_version,
        "controller": job_kind.controller,
        "installation": job_kind.installation,
        "selector": job_kind.selector,
    }
    for kind, fits, cause, remedy in _REFUSALS:
        if kind is Forbidden and namespace == ALL_NAMESPACES and fits(failure):
            return kind, f"You may not see the jobs of all namespaces: {said}.", _ONE_NAMESPACE
        if fits(failure):
            return kind, cause.format(**words), remedy.format(**words)
    cause = f"The Kubernetes API server responded with status {failure.status}: {said}."
    return Unavailable, cause, "Try again; if it persists, tell your cluster admin."
