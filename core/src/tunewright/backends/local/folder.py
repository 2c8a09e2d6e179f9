"""A job's folder: everything about the job, readable by any process, even after a crash.

job.json          the documents that `render` made, with secrets redacted, and when the job was submitted
secrets.json      the literal secrets, readable only by the owner; removed when the job succeeds
status.json       the state of the job and the process id of its supervisor; replaced atomically
stop              exists when the supervisor should stop
config/           the configuration files of the job
workspace/        takes the place of the volume: model/, dataset/, eval_dataset/, output/
packages/         packages installed for the job with pip
workers/N/        files private to a pod: the verdict and the termination message
report.json       the report of the job, once it has ended
logs/             CONTAINER-WORKER.log, and a log for each rank under ranks/
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tunewright import environment
from tunewright._canonical import dumps
from tunewright._convert import to_tuple
from tunewright.backends.local.spec import FILES, JOB, Spec
from tunewright.errors import Failure, JobError
from tunewright.events import Json
from tunewright.plan.changes import job_changes, listed
from tunewright.plan.manifests import Manifests
from tunewright.plan.plan import RUNNER_FILE
from tunewright.runner.files import write_atomically
from tunewright.status.state import JobState

if TYPE_CHECKING:
    from tunewright.request.update import JobUpdate

_MAY_CHANGE = re.compile(
    r"metadata\.(labels|annotations)\b.*|spec\.run_policy\..*|spec\.environment\..*|data\.(run\.py|job\.json)"
    r"|spec\..*\.env\.TUNEWRIGHT_(DEADLINE|MAX_RESTARTS)"
)
# The parts of a spec that say what may change, or that follow from the others.
_NO_REQUEST = ("run_policy", "environment", "secret_variables", "self_starting")
_MODULE = "tunewright.backends.local"
_START_TIMEOUT = 60.0
_TICK = 0.02


@attrs.frozen(kw_only=True)
class Status:
    """The state of the job, as written by its supervisor.

    Attributes:
        state: a JobState.
        detail: explanation of the state.
        failure: why the job failed; None unless it did.
        container: the init container that is running; "" if none is.
        started: when the first container started, in seconds since the epoch.
        finished: when the job ended, in seconds since the epoch.
        pid: process id of the supervisor.
        scratch: folder that takes the place of the pods' /tmp.
        history: the states that the job has been in: state, container, and start time in seconds since the epoch.
    """

    state: str = JobState.CREATED
    detail: str = ""
    failure: Failure | None = None
    container: str = ""
    started: float | None = None
    finished: float | None = None
    pid: int | None = None
    scratch: str | None = None
    history: tuple[tuple[str, str, float], ...] = attrs.field(default=(), converter=to_tuple)


class DamagedJob(JobError):  # noqa: N818 - as `tunewright.errors.PluginNotFound`
    """A file in the job's folder is damaged."""


class JobFolder:
    """The folder of one job. The module's docstring lists its contents."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """Name of the job."""
        return self.path.name

    @property
    def stop_file(self) -> Path:
        """Path of the file that tells the supervisor to stop, if it exists."""
        return self.path / "stop"

    @property
    def workspace(self) -> Path:
        """Folder that takes the place of the volume."""
        return self.path / "workspace"

    @property
    def logs(self) -> Path:
        """Folder of the log files."""
        return self.path / "logs"

    def log(self, container: str, worker: int) -> Path:
        """Return the path of one container's log."""
        return self.logs / f"{container}-{worker}.log"

    # The submitted job.

    @classmethod
    def create(cls, path: Path, documents: Manifests, secrets: Mapping[str, Mapping[str, str]]) -> JobFolder:
        """Create the folder atomically.

        Raises:
            OSError: the folder cannot be written.
        """
        new = cls(path.with_name(f".new-{path.name}"))
        shutil.rmtree(new.path, ignore_errors=True)
        _remove_gone(path.parent)
        new.path.mkdir(mode=0o700)
        try:
            for folder in (new.logs, new.workspace / "output", new.path / "config"):
                folder.mkdir(parents=True)
            new._keep(documents, time.time())
            new.keep_secrets(secrets)
            new.write(Status())
            new.path.rename(path)
        finally:
            shutil.rmtree(new.path, ignore_errors=True)
        return cls(path)

    def documents(self) -> list[dict[str, Json]]:
        """Return the documents that the job was made from, with secrets redacted."""
        return list(self._record()["documents"])  # type: ignore[arg-type]

    def created(self) -> datetime:
        """Return when the job was submitted."""
        return datetime.fromtimestamp(float(str(self._record()["created"])), UTC)

    def spec(self) -> Spec:
        """Return the supervisor's instructions."""
        return Spec.read(self.documents()[0])

    def configuration(self) -> dict[str, str]:
        """Return the job's configuration files: name → text."""
        return dict(self.documents()[1]["data"])  # type: ignore[arg-type]

    def labels(self) -> dict[str, str]:
        """Return the job's labels."""
        return dict(self.documents()[0]["metadata"]["labels"])  # type: ignore[call-overload,index,arg-type]

    def _record(self) -> dict[str, Json]:
        return self._read("job.json", {"created", "documents"})

    def _read(self, name: str, fields: Collection[str]) -> dict[str, Json]:
        """Read a JSON file.

        Raises:
            DamagedJob: the file is not a JSON object, or lacks one of the fields.
            FileNotFoundError: the file does not exist.
        """
        with contextlib.suppress(ValueError):
            record = json.loads((self.path / name).read_text("utf-8"))
            if isinstance(record, dict) and record.keys() >= set(fields):
                return record
        problem = f"The state of job {self.name!r} cannot be read: {self.path / name} is damaged."
        raise DamagedJob(f"{problem} Delete the job: tunewright delete {self.name}", name=self.name)

    def differences(self, documents: Manifests) -> str:
        """Return in what other documents describe a different job, for people; "" if they describe the same one.

        The time limit, the number of restarts and the labels may differ, as they may change between two starts.
        """
        ours, theirs = ({str(d["kind"]): d for d in given} for given in (self.documents(), documents))
        found = [*_differences(ours[JOB], theirs[JOB]), *_differences(ours[FILES], theirs[FILES])]
        paths = sorted(path for path in found if not _MAY_CHANGE.fullmatch(path))
        if not paths:
            return ""
        files: Any = [{k: v for k, v in d[FILES]["data"].items() if k != RUNNER_FILE} for d in (ours, theirs)]  # type: ignore[union-attr]
        specs: Any = [{k: v for k, v in d[JOB]["spec"].items() if k not in _NO_REQUEST} for d in (ours, theirs)]  # type: ignore[union-attr]
        return listed(job_changes((specs[0], files[0]), (specs[1], files[1]))) or ", ".join(paths[:3])

    def renew(self, documents: Manifests, secrets: Mapping[str, Mapping[str, str]]) -> None:
        """Take over the fields that may change between two starts, and the secrets."""
        self._keep(documents, self.created().timestamp())
        self.keep_secrets(secrets)

    def change(self, update: JobUpdate) -> None:
        """Apply an update."""
        record = self._record()
        job: Any = record["documents"][0]  # type: ignore[index]
        job["metadata"]["labels"] = _merged(job["metadata"]["labels"], update.labels)
        job["metadata"]["annotations"] = _merged(job["metadata"]["annotations"], update.annotations)
        for field in update.given("ttl", "deadline", "max_restarts"):
            job["spec"]["run_policy"][field] = getattr(update, field)
        variables = {environment.DEADLINE: update.deadline, environment.MAX_RESTARTS: update.max_restarts}
        job["spec"]["worker"]["env"] |= {k: str(v) for k, v in variables.items() if v is not None}
        write_atomically(self.path / "job.json", dumps(record))

    def _keep(self, documents: Manifests, created: float) -> None:
        for name, text in documents.of_kind(FILES)[0]["data"].items():  # type: ignore[union-attr]
            file = self.path / "config" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(str(text), "utf-8")
        write_atomically(self.path / "job.json", dumps({"created": created, "documents": list(documents)}))

    def keep_secrets(self, secrets: Mapping[str, Mapping[str, str]]) -> None:
        """Write the literal secrets to a file that only its owner can read; remove the file if there are none."""
        file = self.path / "secrets.json"
        file.unlink(missing_ok=True)
        if secrets:
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                out.write(dumps(secrets))

    def secrets(self) -> dict[str, dict[str, str]]:
        """Return the literal secrets: container → variable → value."""
        try:
            return dict(json.loads((self.path / "secrets.json").read_text("utf-8")))
        except FileNotFoundError:
            return {}

    # The job's state.

    def write(self, status: Status) -> None:
        """Replace the status, and append a new state to its history."""
        try:
            history = self.read().history
        except (FileNotFoundError, DamagedJob):
            history = ()
        if not history or tuple(history[-1][:2]) != (status.state, status.container):
            history = (*history, (status.state, status.container, time.time()))
        failure = status.failure.to_dict() if status.failure else None
        record = attrs.asdict(attrs.evolve(status, history=history)) | {"failure": failure}
        write_atomically(self.path / "status.json", dumps(record))

    def read(self) -> Status:
        """Return the status that the supervisor last wrote. The supervisor may have died since."""
        record: dict[str, Any] = self._read("status.json", {"state"})
        if record.get("failure"):
            record["failure"] = Failure.from_dict(record["failure"])
        known = attrs.fields_dict(Status)
        return Status(**{k: v for k, v in record.items() if k in known})

    def status(self) -> Status:
        """Return the current status, corrected if the supervisor died before it could write the end."""
        status = self.read()
        if JobState(status.state).at_rest or self.is_supervised():
            return status
        status = self.read()  # the supervisor may have ended between the two checks
        if JobState(status.state).at_rest:
            return status
        detail = "The job was interrupted: its processes were killed, or the machine was restarted."
        return attrs.evolve(status, state=JobState.SUSPENDED, detail=detail)

    def is_supervised(self) -> bool:
        """Return whether the job's supervisor is alive.

        Its command line distinguishes it from another process that has since reused its pid. The start time of a process
        is less reliable, as it appears to change when the system clock is set.
        """
        import psutil

        try:
            pid = self.read().pid
        except DamagedJob:
            return False
        if pid is None:
            return False
        try:
            process = psutil.Process(pid)
            return process.status() != psutil.STATUS_ZOMBIE and process.cmdline()[-1:] == [str(self.path)]
        except (psutil.Error, OSError):
            return False

    def start_supervisor(self) -> None:
        """Start the supervisor, which outlives this process, and wait until it is running.

        Raises:
            JobError: the supervisor did not start.
        """
        self.stop_file.unlink(missing_ok=True)
        command = [sys.executable, "-P", "-m", _MODULE, str(self.path)]
        with (self.logs / "supervisor.log").open("ab") as log:
            process = _start_detached(command, self.path, log.fileno())
        # Reap the supervisor if it ends before this process does.
        threading.Thread(target=process.wait, daemon=True).start()
        try:
            self._wait_for(process)
        except BaseException:  # including Ctrl-C
            process.kill()
            raise

    def _wait_for(self, supervisor: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + _START_TIMEOUT
        while self.read().pid != supervisor.pid:
            if supervisor.poll() is not None or time.monotonic() > end:
                text = (self.logs / "supervisor.log").read_text("utf-8", errors="replace")[-2000:]
                raise JobError(f"The supervisor of job {self.name!r} did not start. Its output: {text}", name=self.name)
            time.sleep(_TICK)

    def remove(self) -> None:
        """Remove the folder."""
        gone = self.path.with_name(f".gone-{self.name}-{os.urandom(4).hex()}")
        self.path.rename(gone)
        _remove_gone(self.path.parent)


def _remove_gone(jobs: Path) -> None:
    """Remove folders that were marked for removal, including those of a process that was killed before it finished."""
    for gone in jobs.glob(".gone-*"):
        shutil.rmtree(gone, ignore_errors=True)


def _start_detached(command: list[str], folder: Path, log: int) -> subprocess.Popen[bytes]:
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment.in_any_folder(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        creationflags=flags,
        start_new_session=True,
    )


def _merged(old: Mapping[str, str], new: Mapping[str, str | None]) -> dict[str, str]:
    return {k: v for k, v in {**old, **new}.items() if v is not None}


def _differences(ours: Json, theirs: Json, path: str = "") -> Iterator[str]:
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        ours, theirs = ({str(i): item for i, item in enumerate(items)} for items in (ours, theirs))
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in {*ours, *theirs}:
            yield from _differences(ours.get(key), theirs.get(key), f"{path}.{key}".removeprefix("."))
    elif ours != theirs:
        yield path
