"""A backend that keeps plans and statuses in memory; the tests install it as the plugin `memory`."""

from tunewright import hookimpl
from tunewright.backends.base import Backend, BackendOptions
from tunewright.errors import JobError
from tunewright.plan.manifests import Manifests
from tunewright.status.state import JobState
from tunewright.status.status import JobStatus, LogLine


class MemoryBackend(Backend):
    """Jobs go through the statuses in `script`, one for each look, and stay at the last one."""

    shares_client_filesystem = True

    def __init__(self, options=None):
        self.options = options or BackendOptions()
        self.plans, self.script, self.lines, self.told, self.calls = {}, {}, {}, {}, []

    @classmethod
    def connect(cls, options):
        return cls(options)

    def render(self, plan):
        containers = [{"name": c.name, "command": list(c.command), "env": dict(c.env)} for c in plan.containers]
        return Manifests([{"kind": "Plan", "name": plan.name, "containers": containers, "files": plan.files}])

    def submit(self, plan):
        if plan.name in self.plans:
            raise JobError(f"There is a job {plan.name!r} already. Take another name.", name=plan.name)
        self.plans[plan.name] = plan
        self.script.setdefault(plan.name, [JobStatus(name=plan.name, state=JobState.CREATED, labels=plan.labels)])

    def get(self, name):
        self.calls.append(("get", name))
        statuses = self._script(name)
        return statuses.pop(0) if len(statuses) > 1 else statuses[0]

    def list(self, labels=None):
        wanted = dict(labels or {}).items()
        return [s[0] for s in reversed(self.script.values()) if wanted <= s[0].labels.items()]

    def logs(self, name, *, follow=False, container=None, worker=None):
        self._script(name)
        lines = (LogLine(container=c, worker=w, text=text) for c, w, text in self.lines.get(name, []))
        return (line for line in lines if container in (None, line.container) and worker in (None, line.worker))

    def events(self, name):
        self._script(name)
        return self.told.get(name, [])

    def command_for(self, command, name):
        return f"tunewright {command} {name} --backend memory"

    def suspend(self, name):
        self._record("suspend", name)

    def resume(self, name):
        self._record("resume", name)

    def delete(self, name):
        self._record("delete", name)
        del self.script[name]

    def _record(self, what, name):
        self._script(name)
        self.calls.append((what, name))

    def _script(self, name):
        if name not in self.script:
            raise JobError(f"There is no job {name!r}. See them: tunewright list", name=name)
        return self.script[name]


@hookimpl
def tunewright_backend():
    return MemoryBackend
