"""The documentation site's own code: what is generated names everything, and links lead out of docs/ in the right way.

CI builds the site with `mkdocs build --strict`, which refuses links and anchors that lead nowhere.
"""

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import attrs
import click
import pytest
import yaml

from tunewright import Storage
from tunewright._client.options import CodeOptions, TrainOptions
from tunewright.cli.commands import cli
from tunewright.events import EVENTS
from tunewright_hf import DataParams, HuggingFaceTrainParams

DOCS = Path(__file__).parent.parent / "docs"
PUBLIC = (
    "tunewright", "tunewright.providers", "tunewright.plugins", "tunewright.plan", "tunewright.events", "tunewright.errors",
    "tunewright.backends.base", "tunewright.testing", "tunewright_launcher.http", "tunewright_launcher.objects",
    "tunewright_launcher.archives",
)  # fmt: skip

pytest.importorskip("mkdocs", reason="the documentation's tools are in the group dev")


def load(name: str) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


@pytest.fixture
def hooks() -> Iterator[ModuleType]:
    yield from load("hooks")


@pytest.fixture
def generated() -> Iterator[ModuleType]:
    yield from load("generated")


def rows(table: str) -> list[str]:
    return re.findall(r"^\| `([\w-]+)`", table, re.MULTILINE)


def test_every_generated_part_is_on_a_page(generated: ModuleType) -> None:
    pages = "\n".join(page.read_text("utf-8") for page in DOCS.rglob("*.md"))
    assert sorted(re.findall(r"<!-- generated: ([\w-]+) -->", pages)) == sorted(generated.PARTS)


def test_the_tables_name_every_key(generated: ModuleType) -> None:
    shared = rows(generated.job_keys())
    assert {*shared, *rows(generated.train_keys())} == set(TrainOptions.__annotations__)
    assert {*shared, *rows(generated.code_keys())} == set(CodeOptions.__annotations__)
    for part, cls in (("storage", Storage), ("data", DataParams), ("trainer", HuggingFaceTrainParams)):
        assert rows(generated.PARTS[f"{part}-fields"]()) == [field.name for field in attrs.fields(cls)]


def test_every_key_says_what_it_means(generated: ModuleType) -> None:
    for name, part in generated.PARTS.items():
        assert [line for line in part().splitlines() if line.endswith("|  |")] == [], name


def test_every_command_and_its_options_are_listed(generated: ModuleType) -> None:
    text = generated.commands()
    commands = {name: command for name, command in cli.commands.items() if not isinstance(command, click.Group)}
    for group in (command for command in cli.commands.values() if isinstance(command, click.Group)):
        commands |= {f"{group.name} {name}": command for name, command in group.commands.items()}
    assert sorted(re.findall(r"^## `([\w -]+)`$", text, re.MULTILINE)) == sorted(commands)
    for command in commands.values():
        options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
        assert [o for option in options for o in option.opts if f"`{o}`" not in text] == []


def test_every_event_is_listed(generated: ModuleType) -> None:
    assert re.findall(r"^## `(\w+)`$", generated.events(), re.MULTILINE) == list(EVENTS)


def test_every_public_module_has_a_page() -> None:
    pages = "\n".join(page.read_text("utf-8") for page in (DOCS / "reference" / "python").glob("*.md"))
    assert [module for module in PUBLIC if f"\n::: {module}\n" not in pages] == []


def test_links_lead_to_pages_or_to_the_repository(hooks: ModuleType) -> None:
    text = "[a](../../examples/quickstart.yaml) [b](../../ARCHITECTURE.md#folders) [c](../decisions/) [d](https://e.example)"
    page = DOCS / "how-to" / "page.md"
    found = hooks.rewritten(f"{text}\n\n```sh\n{text}\n```", page, "https://host.example/repo")
    outside, inside = found.split("\n\n```sh\n")
    assert re.findall(r"\]\(([^)]+)\)", outside) == [
        "https://host.example/repo/blob/main/examples/quickstart.yaml",
        "../explanation/architecture.md#folders",
        "../decisions/README.md",
        "https://e.example",
    ]
    assert inside == f"{text}\n```"


def test_an_included_file_takes_the_place_of_its_page(hooks: ModuleType) -> None:
    page = DOCS / "reference" / "sources" / "s3.md"
    found = hooks.rewritten(page.read_text("utf-8"), page, "https://host.example/repo")
    assert found.startswith("# tunewright-s3\n")
    assert "(../../explanation/verification.md)" in found


def test_the_site_loads_nothing_from_other_hosts() -> None:
    settings = yaml.safe_load((DOCS.parent / "mkdocs.yml").read_text("utf-8"))
    assert settings["theme"]["font"] is False
    assert [name for name in ("extra_javascript", "analytics") if name in settings] == []
    assert "://" not in "".join(settings["extra_css"])


def test_the_site_has_the_schema_of_job_files(hooks: ModuleType, tmp_path: Path) -> None:
    hooks.on_post_build(config=SimpleNamespace(site_dir=tmp_path))
    schema = json.loads((tmp_path / "job.schema.json").read_text("utf-8"))
    assert {"model", "dataset", "trainer"} <= set(schema["properties"])
