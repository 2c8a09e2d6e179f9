"""The kind of a job is chosen by what the cluster runs and the user may create, and jobs of every kind are found again."""

from collections.abc import Sequence

import pytest

from tunewright import JobError, RequestError
from tunewright.backends.any_kind import AnyKindBackend
from tunewright.backends.any_kind.backend import IN_ORDER
from tunewright.backends.base import BackendOptions
from tunewright.backends.kubernetes.api import Page
from tunewright.backends.kubernetes.failures import ApiFailure, Forbidden, Unavailable
from tunewright.backends.kubernetes.kind import JobKind
from tunewright.plan.plan import ContainerSpec, JobPlan

PLAN = JobPlan(name="sft", init_containers=(), main=ContainerSpec(name="train", image="i:1", command=("train",)))
KINDS = {backend.kind.kind: backend.kind for backend in IN_ORDER}


class Server:
    """An API server that serves some kinds, some of which the user may use, and keeps what it is sent."""

    def __init__(self, served: set[str], allowed: set[str], *, reachable: bool = True) -> None:
        self.served, self.allowed, self.reachable = served, allowed, reachable
        self.objects: dict[tuple[str, str], dict] = {}

    def check(self, kind: str) -> None:
        if not self.reachable:
            raise ApiFailure(0, "connection refused")
        if kind in KINDS and kind not in self.allowed:
            raise ApiFailure(403, "is forbidden")  # before the API server looks whether it knows the path
        if kind in KINDS and kind not in self.served:
            raise ApiFailure(404, "404 page not found")


class Api:
    namespace, context = "team", None

    def __init__(self, server: Server, kind: JobKind) -> None:
        self.server, self.kind = server, kind

    def ask(self, path: str) -> dict:
        if not self.server.reachable:
            raise ApiFailure(0, "connection refused")
        served = [kind for kind in self.server.served if path == f"/apis/{KINDS[kind].api_version}"]
        if not served and path not in {f"/apis/{need}" for kind in self.server.served for need in KINDS[kind].needs}:
            raise ApiFailure(404, "404 page not found")
        return {"resources": [{"kind": kind} for kind in served]}

    def may(self, verb: str, resource: str) -> bool:
        return self.kind.kind in self.server.allowed

    def first(self, kind: str) -> None:
        self.server.check(kind)

    def find(self, kind: str, name: str, *, metadata: bool = False) -> dict | None:
        self.server.check(kind)
        return self.server.objects.get((kind, name))

    def list(self, kind: str, *_: object, **__: object) -> Page:
        self.server.check(kind)
        return Page([d for (k, _), d in self.server.objects.items() if k == kind], "1")

    def cached(self, kind: str, selector: dict, **_: object) -> Sequence[dict]:
        return self.list(kind).items

    def get(self, kind: str, name: str) -> dict:
        if (found := self.find(kind, name)) is None:
            raise ApiFailure(404, f'"{name}" not found')
        return found

    def create(self, document: dict) -> dict:
        self.server.check(document["kind"])
        number = len(self.server.objects)
        made = {"uid": f"u{number}", "namespace": "team", "creationTimestamp": f"2026-11-29T12:00:{number:02}Z"}
        found = {**document, "metadata": {**made, **document["metadata"]}}
        self.server.objects[document["kind"], document["metadata"]["name"]] = found
        return found

    def patch(self, kind: str, name: str, change: dict) -> None:
        self.server.objects[kind, name]["metadata"].update(change["metadata"])

    def delete(self, kind: str, name: str, **_: object) -> None:
        self.server.objects.pop((kind, name))


def backend(server: Server, options: BackendOptions = BackendOptions()) -> AnyKindBackend:  # noqa: B008 - frozen
    made = AnyKindBackend(options)
    for one in made.kinds:
        one.__dict__["api"] = Api(server, one.kind)
    return made


ALL = set(KINDS)


@pytest.mark.parametrize(
    ("served", "allowed", "chosen"),
    [
        (ALL, ALL, "PyTorchJob"),
        ({"TrainJob", "Job"}, ALL, "TrainJob"),
        ({"Job"}, ALL, "Job"),
        (ALL, {"TrainJob"}, "TrainJob"),
        (ALL, {"Job"}, "Job"),
    ],
    ids=["all", "Trainer 2", "no operator", "a role for TrainJobs", "a role for Jobs"],
)
def test_a_job_is_of_the_first_kind_that_is_there_and_allowed(served: set[str], allowed: set[str], chosen: str) -> None:
    server = Server(served, allowed)
    backend(server).submit(PLAN)
    assert {kind for kind, _ in server.objects} & ALL == {chosen}
    another = backend(server)  # another process
    assert another.get("sft").name == "sft"
    assert [job.name for job in another.list()] == ["sft"]


def test_a_kind_that_needs_what_is_not_installed_is_not_chosen() -> None:
    server = Server({"TrainJob", "Job"}, ALL)
    made = backend(server)
    made.kinds[1].__dict__["api"].ask = _only_its_own
    made.submit(PLAN)
    assert {kind for kind, _ in server.objects} & ALL == {"Job"}


def _only_its_own(path: str) -> dict:
    if "jobset" in path:
        raise ApiFailure(404, "404 page not found")
    return {"resources": [{"kind": "TrainJob"}]}


def test_a_job_stays_of_its_kind_when_a_better_one_is_installed_later() -> None:
    server = Server({"Job"}, ALL)
    backend(server).submit(PLAN)
    server.served = ALL
    with pytest.raises(JobError, match="identical job 'sft'"):
        backend(server).submit(PLAN)
    assert {kind for kind, _ in server.objects} & ALL == {"Job"}
    backend(server).submit(JobPlan(name="new", init_containers=(), main=PLAN.main))
    assert [job.name for job in backend(server).list()] == ["new", "sft"], "of all kinds, newest first"


def test_a_plan_is_rendered_without_a_cluster_as_a_pytorchjob() -> None:
    rendered = AnyKindBackend(BackendOptions(namespace="team")).render(PLAN).reveal()
    assert rendered[0]["kind"] == "PyTorchJob"


@pytest.mark.parametrize(("chosen", "kind"), [("job", "Job"), ("TrainJob", "TrainJob"), ("pytorchjob", "PyTorchJob")])
def test_the_kind_that_the_user_chose_counts(chosen: str, kind: str) -> None:
    server, options = Server(ALL, ALL), BackendOptions(kind=chosen)
    made = backend(server, options)
    assert kind in {document["kind"] for document in made.render(PLAN).reveal()}
    assert made.render(PLAN).note == ""
    made.submit(PLAN)
    assert {kind for kind, _ in server.objects} & ALL == {kind}
    findings = [finding for finding in made.diagnose(None) if finding.about == "kind" and finding.level == "ok"]
    assert [finding.text for finding in findings] == [f"Jobs are submitted as {kind}s."]


def test_a_kind_that_there_is_not_is_refused() -> None:
    with pytest.raises(RequestError, match=r"kind='trainjobs': is not a kind of job. Did you mean 'trainjob'"):
        AnyKindBackend(BackendOptions(kind="trainjobs")).render(PLAN)


def test_no_cluster_and_no_job_are_told_apart() -> None:
    with pytest.raises(Unavailable):
        backend(Server(ALL, ALL, reachable=False)).get("sft")
    with pytest.raises(JobError, match="There is no job 'sft' in namespace 'team'"):
        backend(Server(ALL, ALL)).delete("sft")


def test_who_may_list_nothing_is_told_so() -> None:
    with pytest.raises(Forbidden, match="You lack a right in namespace 'team'"):
        backend(Server(ALL, set())).list()


def test_a_runtime_that_a_dead_client_left_is_deleted_under_the_jobs_name() -> None:
    server = Server(ALL, ALL)
    made = backend(server)
    runtime = made.kinds[1].render(PLAN).reveal()[0]
    made.kinds[1].api.create(runtime)
    made.delete("sft")
    assert server.objects == {}
