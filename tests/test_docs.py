"""The pages for people: links lead somewhere, code compiles, jobs dry-run, commands and names exist."""

import ast
import contextlib
import importlib
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path

import attrs
import click
import pytest
import yaml

from tunewright import TrainingClient
from tunewright.cli import jobfile
from tunewright.cli.commands import cli

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "core/*.md", "launcher/*.md", "plugins/*/*.md", "examples/**/*.md")
    for page in ROOT.glob(pattern)
    if not page.is_relative_to(ROOT / "examples" / "quickstart")
)
_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@attrs.frozen
class Block:
    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    return [block for page in PAGES for block in _blocks(page, languages)]


def _blocks(page: Path, languages: tuple[str, ...]) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for found in _BLOCK.finditer(text):
        if found[2] in languages:
            line = text.count("\n", 0, found.start()) + 1
            yield Block(str(page.relative_to(ROOT)), line, textwrap.dedent(found[3]))


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every call of `tunewright` in a shell block or in the text: where it is, and its arguments."""
    for page in PAGES:
        for command in re.findall(r"`tunewright ([a-z-]+[^`\n…]*)`", page.read_text("utf-8")):
            yield f"{page.relative_to(ROOT)}: {command}", shlex.split(command)
    for block in blocks("sh", "shell", "bash"):
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for part in _between(words, {"&&", ";", "|"}):
                if "tunewright" in part:
                    yield f"{block}: {line}", part[part.index("tunewright") + 1 :]


def _between(words: list[str], separators: set[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for word in [*words, ";"]:
        if word in separators:
            yield part
            part = []
        else:
            part.append(word)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files(page: Path) -> None:
    links = [link.partition("#")[0] for link in _LINK.findall(page.read_text("utf-8")) if "://" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("block", blocks("python", "py"), ids=str)
def test_python_compiles_and_what_it_imports_of_ours_exists(block: Block) -> None:
    tree = ast.parse(block.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tunewright"):
            if not _is_ours(node.module):
                continue  # the reader's own plugin
            module = importlib.import_module(node.module)
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []


def _is_ours(module: str) -> bool:
    top = module.partition(".")[0]
    return any(path.is_dir() for path in ROOT.glob(f"*/src/{top}")) or any((ROOT / "plugins").glob(f"*/src/{top}"))


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_parses_and_jobs_dry_run(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = yaml.safe_load(block.text)
    if not {"model", "dataset", "trainer"} <= set(document):
        return
    for variable in re.findall(r"\{env: (\w+)\}", block.text):
        monkeypatch.setenv(variable, "a-secret-of-the-readers-own")
    file = tmp_path / "job.yaml"
    # A cluster does not see the reader's own folders: there they would be the image's.
    file.write_text(block.text.replace(": ./", ": /in-the-image/"), "utf-8")
    _, keywords = jobfile.split(jobfile.load(file))
    manifests = TrainingClient("kubernetes").train(dry_run=True, base_folder=tmp_path, **keywords)
    assert "PyTorchJob" in [document["kind"] for document in manifests]


@pytest.mark.parametrize(
    ("where", "arguments"), list(commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_commands_and_their_options_exist(where: str, arguments: list[str]) -> None:
    name, *rest = arguments
    if name.startswith("-"):
        assert name in {"--help", "-h", "--version"}
        return
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, f"there is no command {name!r}"
    with contextlib.suppress(click.MissingParameter):  # "`tunewright train` follows it" names no file
        command.make_context(name, rest)  # a UsageError names what does not exist


def test_options_that_the_text_mentions_exist() -> None:
    known = {option for command in cli.commands.values() for param in command.params for option in param.opts}
    for page in PAGES:
        mentioned = set(re.findall(r"`(--[a-z-]+)[ `]", page.read_text("utf-8")))
        assert mentioned <= {*known, "--help", "--version"}, page


def test_variables_that_the_text_mentions_exist() -> None:
    sources = [p for folder in ("core/src", "launcher/src", "tests/cluster") for p in (ROOT / folder).rglob("*.py")]
    code = "\n".join(source.read_text("utf-8") for source in sources)
    for page in PAGES:
        mentioned = set(re.findall(r"\bTUNEWRIGHT_[A-Z_]+\b", page.read_text("utf-8")))
        assert [name for name in sorted(mentioned) if f'"{name}"' not in code] == [], page


def test_there_are_blocks_of_every_kind_to_look_at() -> None:
    assert all((blocks("python"), blocks("yaml"), list(commands())))
