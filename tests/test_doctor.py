"""`tunewright doctor` asks real services, as the pods will: whether a token may read is known before there is a job."""

from collections.abc import Iterator

import pytest
from tests.servers.faulty import Fault
from tests.servers.hub import Hub
from tests.servers.s3 import ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Gateway, S3Proxy

from tunewright import TrainingClient
from tunewright._client.doctor import diagnose
from tunewright.backends.base import Finding

TOKEN = "hf_" + "mine" * 8


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        hub.tokens[TOKEN] = "read"
        hub.repo("acme/tiny", {"config.json": b"{}"}, private=True, members={TOKEN})
        hub.repo("acme/rows", {"rows.jsonl": b"{}"}, kind="datasets")
        yield hub


def findings(hub: Hub, token: str | None, **more: object) -> dict[str, Finding]:
    client = TrainingClient("local")
    model = {"provider": "hf", "uri": "hf://acme/tiny", "endpoint": hub.url, "access_token": token}
    dataset = {"provider": "hf", "uri": "hf://datasets/acme/rows", "endpoint": hub.url}
    found = diagnose(client, lambda: client.train_request(model=model, dataset=dataset, trainer="hf", **more))
    return {finding.about: finding for finding in found}


def test_a_token_that_may_read_is_ok(hub: Hub) -> None:
    found = findings(hub, TOKEN)
    assert (found["model"].level, found["dataset"].level) == ("ok", "ok")
    assert "config.json, 2 bytes" in found["model"].text


@pytest.mark.parametrize("token", [None, "hf_" + "other" * 6])
def test_a_token_that_may_not_is_a_problem_and_shows_nowhere(hub: Hub, token: str | None) -> None:
    found = findings(hub, token)
    assert (found["model"].level, found["dataset"].level) == ("problem", "ok")
    assert "acme/tiny" in found["model"].text
    assert "access_token=" in found["model"].remedy
    assert token is None or token not in repr(found)


def test_a_model_that_everybody_sees_and_few_may_have_is_a_problem(hub: Hub) -> None:
    hub.repo("acme/tiny", {"config.json": b"{}"}, gated=True)
    found = findings(hub, TOKEN)["model"]
    assert (found.level, "is gated" in found.text, "Accept its terms" in found.remedy) == ("problem", True, True)


def test_a_service_that_does_not_answer_here_may_answer_the_pods(hub: Hub) -> None:
    hub.faults.append(Fault(status=503, times=-1))
    assert findings(hub, TOKEN)["model"].level == "note"


@pytest.fixture
def proxy(gateway: Gateway) -> Iterator[S3Proxy]:
    with S3Proxy(gateway) as proxy:
        yield proxy


def output(proxy: S3Proxy) -> dict[str, str]:
    keys = {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY, "region": REGION}
    return {
        "provider": "s3",
        "uri": f"s3://{BUCKET}/doctors-out",
        "endpoint_url": proxy.url,
        "addressing_style": "path",
        **keys,
    }


def test_an_output_that_may_be_written_to_is_ok_and_stays_empty(hub: Hub, gateway: Gateway, proxy: S3Proxy) -> None:
    found = findings(hub, TOKEN, output=output(proxy))["output"]
    assert (found.level, found.text) == ("ok", "s3://bucket/doctors-out is writable.")
    assert gateway.keys("doctors-out/") == []


def test_an_output_that_may_not_be_written_to_is_a_problem(hub: Hub, proxy: S3Proxy) -> None:
    proxy.refusals = [("/doctors-out/", 403, "AccessDenied")]
    found = findings(hub, TOKEN, output=output(proxy))["output"]
    assert (found.level, "s3:PutObject" in found.text + found.remedy) == ("problem", True)


def test_an_output_on_the_hub_is_not_asked_because_that_would_create_it(hub: Hub) -> None:
    target = {"provider": "hf", "uri": "hf://acme/new", "endpoint": hub.url, "access_token": TOKEN}
    found = findings(hub, TOKEN, output=target)["output"]
    assert (found.level, "was not checked" in found.text) == ("note", True)
    assert not [request for request in hub.log if "new" in request.path]
