"""A submission whose answers are lost on the way, or whose client was ended."""

import attrs
import pytest

from tunewright import SecretValue
from tunewright.backends.base import BackendOptions
from tunewright.backends.kubernetes.api import Page
from tunewright.backends.kubernetes.failures import ApiFailure, NameTaken, Unavailable
from tunewright.backends.pytorchjob import PyTorchJobBackend
from tunewright.errors import AlreadyRunning
from tunewright.plan.plan import ContainerSpec, JobPlan
from tunewright.plan.policies import RunPolicy

MAIN = ContainerSpec(name="train", image="image:1", command=("train",))
PLAN = JobPlan(name="sft", init_containers=(), main=MAIN)


class Server:
    """An API server that keeps what it is sent, and then breaks the connection after so many objects, or before."""

    namespace = "team"
    kind = PyTorchJobBackend.kind
    context = None

    def __init__(self, *, breaks_after: int | None = None, keeps: bool = True) -> None:
        self.objects: dict[tuple[str, str], dict] = {}
        self.breaks_after, self.keeps = breaks_after, keeps

    def create(self, document: dict) -> dict:
        breaks = self.breaks_after == len(self.objects)
        if breaks:
            self.breaks_after = None
        if self.keeps or not breaks:
            found = {
                "uid": "u",
                "namespace": "team",
                "creationTimestamp": "2026-11-24T12:00:00Z",
                **document["metadata"],
            }
            self.objects[document["kind"], found["name"]] = {**document, "metadata": found}
        if breaks:
            raise ApiFailure(0, "connection reset")
        return self.objects[document["kind"], document["metadata"]["name"]]

    def find(self, kind: str, name: str, *, metadata: bool = False) -> dict | None:
        return self.objects.get((kind, name))

    def list(self, *_: object, **__: object) -> Page:
        return Page([], "1")

    def delete(self, kind: str, name: str, *, uid: str) -> None:
        assert self.objects.pop((kind, name))["metadata"]["uid"] == uid

    def patch(self, kind: str, name: str, change: dict) -> None:
        self.objects[kind, name]["spec"]["runPolicy"]["suspend"] = change["spec"]["runPolicy"]["suspend"]


def backend(server: Server) -> PyTorchJobBackend:
    made = PyTorchJobBackend(BackendOptions())
    made.__dict__["api"] = server
    return made


def test_a_job_whose_answer_was_lost_is_submitted_whole() -> None:
    server = Server(breaks_after=0)
    backend(server).submit(PLAN)
    assert [kind for kind, _ in server.objects] == ["PyTorchJob", "ConfigMap"]
    assert server.objects["ConfigMap", "sft-config"]["metadata"]["ownerReferences"][0]["uid"] == "u"


@pytest.mark.parametrize(("breaks_after", "keeps"), [(0, False), (1, False), (1, True)])
def test_a_submission_that_breaks_leaves_no_job(breaks_after: int, keeps: bool) -> None:
    server = Server(breaks_after=breaks_after, keeps=keeps)
    with pytest.raises(Unavailable):
        backend(server).submit(PLAN)
    assert ("PyTorchJob", "sft") not in server.objects


def test_what_an_ended_client_left_is_called_incomplete_and_not_the_very_same_job() -> None:
    server = Server()
    backend(server).submit(PLAN)
    with pytest.raises(AlreadyRunning, match=r"An identical job 'sft' is already running\. Follow it"):
        backend(server).submit(PLAN)
    del server.objects["ConfigMap", "sft-config"]
    with pytest.raises(
        NameTaken, match=r"Incomplete: ConfigMap/sft-config is missing.*tunewright delete sft .*-n team"
    ):
        backend(server).submit(PLAN)


def with_token(value: str, *, suspend: bool) -> JobPlan:
    main = attrs.evolve(MAIN, env={"TOKEN": SecretValue(value)})
    return attrs.evolve(PLAN, main=main, run_policy=RunPolicy(suspend=suspend))


def test_a_suspended_job_is_not_resumed_with_another_secret_than_was_meant() -> None:
    server = Server()
    backend(server).submit(with_token("expired-token", suspend=True))
    sealed = server.objects["PyTorchJob", "sft"]["metadata"]["annotations"]["tunewright.dev/secrets"]
    assert "expired-token" not in sealed
    with pytest.raises(NameTaken, match=r"submitted with other secrets.*newest checkpoint: tunewright delete sft"):
        backend(server).submit(with_token("new-token", suspend=False))
    assert server.objects["PyTorchJob", "sft"]["spec"]["runPolicy"]["suspend"], "nothing has changed"
    backend(server).submit(with_token("expired-token", suspend=False))
    assert not server.objects["PyTorchJob", "sft"]["spec"]["runPolicy"]["suspend"]
