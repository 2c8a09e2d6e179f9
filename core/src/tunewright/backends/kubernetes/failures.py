"""What the cluster answers when it refuses, as errors that say what happened, to what, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.kind import JobKind
from tunewright.errors import JobError

_NO_SUCH_PATH = ("page not found", "could not find the requested resource")


class ClusterError(JobError):
    """The cluster refused something about a job, or could not be asked."""


class NameTaken(ClusterError):  # noqa: N818 - as `tunewright.errors.PluginNotFound`
    """There is an object of that name already."""


class Forbidden(ClusterError):  # noqa: N818 - as above
    """The user may not do that in that namespace."""


class NotLoggedIn(ClusterError):  # noqa: N818 - as above
    """The cluster does not accept the user's credentials."""


class QuotaExceeded(ClusterError):  # noqa: N818 - as above
    """A ResourceQuota of the namespace does not allow it."""


class Refused(ClusterError):  # noqa: N818 - as above
    """The API server, or an admission webhook, does not accept what it was sent."""


class NotInstalled(ClusterError):  # noqa: N818 - as above
    """The cluster does not know this kind of job, or has no such namespace."""


class OperatorDown(ClusterError):  # noqa: N818 - as above
    """An admission webhook, usually that of the job's controller, does not answer."""


class Unavailable(ClusterError):  # noqa: N818 - as above
    """The API server could not be reached, or has too much to do."""


class ApiFailure(Exception):  # noqa: N818 - never seen by users: `explained` makes one of the above of it
    """An unsuccessful response of the API server.

    Attributes:
        status: HTTP status; 0 if there was no answer.
        message: what the server said.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message

    @property
    def no_such_path(self) -> bool:
        """Whether nobody serves the path: the kind is not known."""
        return self.status == HTTPStatus.NOT_FOUND and any(text in self.message for text in _NO_SUCH_PATH)

    @property
    def no_such_object(self) -> bool:
        """Whether the kind is known, and there is no object of that name."""
        return self.status == HTTPStatus.NOT_FOUND and not self.no_such_path

    @property
    def conflict(self) -> bool:
        """Whether there is such an object already, or it is another than was meant."""
        return self.status == HTTPStatus.CONFLICT

    @property
    def may_pass(self) -> bool:
        """Whether the same question may have another answer soon."""
        return self.status in (0, 408, 410, 429) or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR


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
        "The cluster does not accept your credentials: {said}.",
        "Log in again, or choose another context of the kubeconfig with context=.",
    ),
    (
        QuotaExceeded,
        lambda failure: "exceeded quota" in failure.message,
        "Job {name!r} does not fit into the quota of namespace {namespace!r}: {said}.",
        "Delete jobs that are not needed any more, or ask for a larger quota: kubectl describe quota -n {namespace}",
    ),
    (
        OperatorDown,
        lambda failure: "failed calling webhook" in failure.message,
        "Job {name!r} was not accepted, because an admission webhook does not answer: {said}.",
        "If it belongs to {controller}, wait until its pod runs, or tell your cluster admin: "
        "kubectl get pods -A -l {selector}",
    ),
    (
        Refused,
        lambda failure: "admission webhook" in failure.message,
        "The cluster's rules do not allow job {name!r}: {said}.",
        "Change the job as it says, or ask your cluster admin.",
    ),
    (
        Forbidden,
        lambda failure: failure.status == HTTPStatus.FORBIDDEN,
        "You may not do that in namespace {namespace!r}: {said}.",
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
        "The cluster has no namespace {namespace!r}.",
        "Choose another with namespace=, or create it: kubectl create namespace {namespace}",
    ),
    (
        ClusterError,
        lambda failure: failure.status == HTTPStatus.NOT_FOUND,
        "There is no job {name!r} in namespace {namespace!r}.",
        "See: tunewright list --backend kubernetes -n {namespace}",
    ),
    (
        NameTaken,
        lambda failure: failure.status == HTTPStatus.CONFLICT,
        "The name of job {name!r} is taken: {said}.",
        "Choose another name, or delete it: {delete}",
    ),
    (
        Refused,
        lambda failure: failure.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY),
        "The API server does not accept job {name!r}: {said}.",
        "Check pod_overrides= and the other arguments that are Kubernetes' own.",
    ),
)
"""The kind of error, whether the failure is of it, what happened, and what to do; the first that fits counts."""


def explained(failure: ApiFailure, job_kind: JobKind, *, name: str, namespace: str) -> ClusterError:
    """The error for a failure that concerns the job `name`."""
    error, cause, remedy = explanation(failure, job_kind, name, namespace)
    return error(f"{cause} {remedy}", name=name)


def explanation(
    failure: ApiFailure, job_kind: JobKind, name: str, namespace: str
) -> tuple[type[ClusterError], str, str]:
    """The kind of error, what happened, and what to do about it."""
    said = failure.message.strip().rstrip(".")
    words = {
        "name": name,
        "namespace": namespace,
        "said": said,
        "delete": names.command_for("delete", name, namespace),
        "kind": job_kind.kind,
        "api_version": job_kind.api_version,
        "controller": job_kind.controller,
        "installation": job_kind.installation,
        "selector": job_kind.selector,
    }
    for kind, fits, cause, remedy in _REFUSALS:
        if fits(failure):
            return kind, cause.format(**words), remedy.format(**words)
    cause = f"The Kubernetes API server answered with status {failure.status}: {said}."
    return Unavailable, cause, "Try again; if it goes on, tell your cluster admin."
