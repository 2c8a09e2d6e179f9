"""The progress of a running training in its job's object, written by rank 0 as a ServiceAccount that the user gave for it.

https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path

import attrs

from tunewright import environment
from tunewright._views.note import ANNOTATION, ProgressNote
from tunewright.events import Event
from tunewright_launcher.step import log

Emit = Callable[[Event], None]

_LOOK_EVERY = 1.0  # seconds
_TIMEOUT = 5.0  # seconds of a request, and so of what a training may end later
_NEVER = (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.UNAUTHORIZED)


@attrs.frozen(kw_only=True)
class JobObject:
    """A job in Kubernetes' API, as the pod's ServiceAccount sees it.

    Attributes:
        path: of the job in the API, with `{namespace}` in it.
        server: URL of the API server.
        account: the folder with token, namespace and ca.crt.
    """

    path: str
    server: str
    account: Path

    def annotate(self, text: str) -> None:
        """Write the annotation of the job.

        Raises:
            OSError: it cannot be written; a `urllib.error.HTTPError` if the API server refuses it.
        """
        # Both are read each time, as tokens are replaced before they expire.
        token, namespace = ((self.account / name).read_text("utf-8").strip() for name in ("token", "namespace"))
        request = urllib.request.Request(  # noqa: S310 - the server's URL is the cluster's own
            self.server + self.path.format(namespace=namespace),
            data=json.dumps({"metadata": {"annotations": {ANNOTATION: text}}}).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/merge-patch+json"},
            method="PATCH",
        )
        trusted = self.account / "ca.crt"
        context = ssl.create_default_context(cafile=str(trusted)) if self.server.startswith("https:") else None
        with urllib.request.urlopen(request, timeout=_TIMEOUT, context=context):  # noqa: S310 - as above
            pass


def job_object(env: Mapping[str, str]) -> JobObject | None:
    """Return the job, if the environment says that its progress is to be written there."""
    path, host, port = (
        env.get(k) for k in (environment.JOB_OBJECT, "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
    )
    if not (path and host and port):
        return None
    server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    return JobObject(path=path, server=server, account=Path(environment.ACCOUNT))


@contextlib.contextmanager
def noted(job: JobObject | None, emit: Emit, name: str) -> Iterator[Emit]:
    """Write the steps that are emitted in the block into the job, in the background; the training goes on if that fails.

    Args:
        job: where; None for nowhere.
        emit: receives the events.
        name: of this process, for the log.

    Yields:
        What receives the events instead.
    """
    if job is None:
        yield emit
        return
    note, over = ProgressNote(), threading.Event()
    writer = threading.Thread(target=_write, args=(job, note, over, name), name="progress", daemon=True)
    writer.start()

    def both(event: Event) -> None:
        note.take(event)
        emit(event)

    try:
        yield both
    finally:
        over.set()
        writer.join(2 * _TIMEOUT)


def _write(job: JobObject, note: ProgressNote, over: threading.Event, name: str) -> None:
    """Write what is due until the block is over, and then the rest; give up where it is not allowed."""
    said: set[str] = set()
    while True:
        ended = over.wait(_LOOK_EVERY)
        text = note.rest() if ended else note.due()
        try:
            if text is not None:
                job.annotate(text)
        except (OSError, ValueError) as error:
            if str(error) not in said:
                said.add(str(error))
                log(name, f"The progress is not written into the job: {error}. Its role is deploy/rbac/progress.yaml.")
            if isinstance(error, urllib.error.HTTPError) and error.code in _NEVER:
                return
        if ended:
            return
