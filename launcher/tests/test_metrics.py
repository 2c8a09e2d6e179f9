"""The numbers of a training as Prometheus reads them."""

import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tunewright.events import Checkpoint, Eval, Event, Phase, Step
from tunewright_launcher.metrics import served

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def scrape(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_newest_numbers_are_served_while_it_trains_and_events_go_on() -> None:
    port, seen = free_port(), []
    sources = {"chat": {"loss": 2.0, "tokens": 7.0}}
    with served({"TUNEWRIGHT_METRICS_PORT": str(port)}, seen.append, "train") as tell:
        events: list[Event] = [
            Phase(name="train", text="training"),
            Step(step=1, total_steps=9, loss=3.0),
            Step(step=2, total_steps=9, loss=2.5, tokens_per_second=80.0, sources=sources, extra={"grad.norm": 1.5}),
            Eval(step=2, eval_loss=2.25, sources={"chat": {"loss": 2.125}}),
            Checkpoint(step=2, path="/workspace/output/checkpoints/checkpoint-2"),
        ]
        for event in events:
            tell(event)
        found = scrape(port)
    assert found == {
        "tunewright_step": 2,
        "tunewright_total_steps": 9,
        "tunewright_loss": 2.5,
        "tunewright_tokens_per_second": 80,
        "tunewright_grad_norm": 1.5,
        "tunewright_source_loss[chat]": 2,
        "tunewright_source_tokens[chat]": 7,
        "tunewright_eval_loss": 2.25,
        "tunewright_eval_source_loss[chat]": 2.125,
        "tunewright_checkpoint_step": 2,
    }
    assert seen == events
    with pytest.raises(urllib.error.URLError):
        scrape(port)


@pytest.mark.parametrize("port", ["taken", "no port", "70000"])
def test_a_training_goes_on_where_they_cannot_be_served(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Event] = []
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = str(other.getsockname()[1]) if port == "taken" else port
        with served({"TUNEWRIGHT_METRICS_PORT": port}, seen.append, "train") as tell:
            tell(Step(step=1))
    assert seen == [Step(step=1)]
    assert f"No metrics are served: TUNEWRIGHT_METRICS_PORT={port}" in capsys.readouterr().err


def test_nothing_is_imported_or_opened_without_a_port(tmp_path: Path) -> None:
    seen: list[Event] = []
    with served({}, seen.append, "train") as tell:
        assert tell == seen.append
