"""What a finished job says to type next: commands that exist, for a result of this trainer, on this backend."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from tunewright._client.next_commands import Finished
from tunewright._planning.assemble import document_of
from tunewright._planning.selection import select_model, select_output, select_trainer
from tunewright.backends.kubernetes import names
from tunewright.cli.commands import cli
from tunewright.errors import RequestError
from tunewright.plugins.registry import Registry
from tunewright.providers import TrainerProvider
from tunewright.status.state import JobState
from tunewright.status.status import JobRecord, JobStatus

HUB = "hf://org/base"
CLASSIFIER = {"transformer_type": "AutoModelForSequenceClassification"}


def in_cluster(command: str) -> str:
    return names.command_for(command, "sft", "team", backend="kubernetes", context="prod")


def here(command: str) -> str:
    return f"tunewright {command} sft"


def commands(
    trainer: dict[str, object],
    *,
    output: object = None,
    model: object = HUB,
    folder: Path | None = Path("result"),
    command_for: Callable[[str], str] = here,
) -> list[str]:
    registry, base = Registry(), Path("/")
    selected = {
        "trainer": select_trainer(registry, {"provider": "hf", **trainer}),
        "model": select_model(registry, model, base),
        "output": select_output(registry, output, base),
    }
    documents = {
        f"{slot}.json": attrs.asdict(document_of(slot, s.plugin, s.provider), recurse=False)
        for slot, s in selected.items()
        if s is not None
    }
    finished = Finished(
        status=JobStatus(name="sft", state=JobState.SUCCEEDED),
        record=JobRecord(documents=documents),
        folder=folder,
        command_for=command_for,
    )
    found = finished.commands(registry)
    for command in found:
        _, name, *words = shlex.split(command)
        with cli.make_context("tunewright", [], resilient_parsing=True) as parent:
            cli.commands[name].make_context(name, words, parent=parent)
    return found


def test_a_result_on_this_machine_is_used_by_the_jobs_name() -> None:
    chat, merge, push = (
        "tunewright chat sft",
        "tunewright merge sft ./sft-merged",
        "tunewright push sft hf://YOUR-NAME/sft",
    )
    assert commands({}) == [chat, push]
    assert commands({"lora_config": {"r": 4}}) == [chat, merge, push]
    assert commands({"lora_config": {"r": 4}, "merge": True}) == [chat, push]
    assert commands({}, output="hf://org/out") == [chat], "it has been uploaded"
    assert commands(CLASSIFIER) == [push], "it answers nothing"
    assert commands({**CLASSIFIER, "lora_config": {}}) == [push]
    assert commands({"training_parameters": {"learning_rate": 1e-4}, "hub_token": "secret"}) == [chat, push]


def test_commands_name_the_backend_and_the_namespace() -> None:
    end = "--backend kubernetes -n team --context prod"
    found = commands({"lora_config": {}}, command_for=in_cluster)
    assert found[:2] == [f"tunewright chat sft {end}", f"tunewright merge sft {end} ./sft-merged"]


def test_a_result_elsewhere_is_fetched_first_and_an_adapters_model_too() -> None:
    fetch = "tunewright fetch s3://bucket/out ./sft"
    elsewhere = {"folder": None, "command_for": in_cluster, "output": "s3://bucket/out"}
    assert commands({}, **elsewhere) == [fetch, "tunewright chat ./sft/model"]
    of_base = "./sft/model --model ./sft-base/model"
    assert commands({"lora_config": {}}, **elsewhere) == [
        fetch,
        f"tunewright fetch {HUB} ./sft-base",
        f"tunewright chat {of_base}",
        f"tunewright merge {of_base} ./sft-merged",
    ]


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"output": None},  # on a volume
        {"output": "pvc://claim/out"},
        {"output": {"uri": "s3://bucket/out", "endpoint_url": "https://s3.example"}},  # fetch has no option for it
    ],
)
def test_nothing_is_named_that_could_not_be_fetched(elsewhere: dict[str, object]) -> None:
    assert commands({}, folder=None, **elsewhere) == []
    assert commands({"lora_config": {}}, folder=None, output="s3://bucket/out", model="pvc://claim/base") == []


def test_a_trainer_that_loads_no_results_and_one_that_is_not_installed_name_nothing() -> None:
    status = JobStatus(name="sft", state=JobState.SUCCEEDED)
    for documents in (
        {},
        {"trainer.json": {"provider": "gone", "params": {}}},
        {"trainer.json": {"provider": "hf", "params": {"of": "later"}}},
    ):
        record = JobRecord(documents=documents)
        found = Finished(status=status, record=record, folder=Path("result"), command_for=here)
        assert found.commands(Registry()) == []

    @attrs.frozen(kw_only=True)
    class Plain(TrainerProvider):
        def train(self, run): ...

    assert Plain().result_commands() == ()
    with pytest.raises(RequestError, match="does not load what it trained"):
        Plain().load_result(Path("result"), None)


def test_a_stranger_that_loads_its_results_offers_to_chat() -> None:
    @attrs.frozen(kw_only=True)
    class Loads(TrainerProvider):
        def train(self, run): ...

        def load_result(self, folder, model): ...

    assert Loads().result_commands() == ("chat",)
