"""The pages for people: links lead somewhere, code runs, jobs dry-run, commands, files and names exist."""

import ast
import contextlib
import importlib
import json
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import attrs
import click
import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft7Validator
from tests.servers.documents import install_plugins

from tunewright import Job, TrainingClient
from tunewright.backends.kubernetes.names import OUTPUT
from tunewright.cli import jobfile, yaml_text
from tunewright.cli.commands import cli
from tunewright.cli.schema import job_schema
from tunewright.errors import ExitCode
from tunewright.plugins.registry import Registry
from tunewright_hf import HuggingFaceModelParams

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "core/*.md", "launcher/*.md", "plugins/*/*.md", "examples/**/*.md")
    for page in ROOT.glob(pattern)
    if not page.is_relative_to(ROOT / "examples" / "quickstart")
)
LANGUAGES = ("json", "jsonl", "python", "sh", "text", "toml", "yaml")

_BLOCK = re.compile(
    r"^(?:<!-- (?P<note>[^\n]*) -->\n)?(?P<indent> *)```(?P<language>\w*)(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_MARKER = re.compile(r"<!-- generated: [\w-]+ -->")


@attrs.frozen
class Block:
    """A fenced block: where it is, in which language, what it contains, and what the comment above it says."""

    page: Path
    line: int
    language: str
    title: str
    text: str
    note: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def all_blocks() -> list[Block]:
    return [block for page in PAGES for block in _blocks(page)]


def blocks(*languages: str) -> list[Block]:
    return [block for block in all_blocks() if block.language in languages]


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for found in _BLOCK.finditer(text):
        title = re.search(r'title="([^"]+)"', found["info"])
        line = text.count("\n", 0, found.start("language")) + 1
        content = textwrap.dedent(found["text"])
        yield Block(page, line, found["language"], title[1] if title else "", content, found["note"] or "")


def _prose(page: Path) -> str:
    return _BLOCK.sub("", page.read_text("utf-8"))


def commands() -> Iterator[tuple[str, Path, list[str]]]:
    """Every call of `tunewright` in a shell block or in the text: where it is, its page, and its arguments."""
    for page in PAGES:
        for command in re.findall(r"`tunewright ([a-z-]+[^`\n…]*)`", page.read_text("utf-8")):
            yield f"{page.relative_to(ROOT)}: {command}", page, shlex.split(command)
    for block in blocks("sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for part in _between(words, {"&&", ";", "|", ">", ">>"}):
                if "tunewright" in part:
                    yield f"{block}: {line}", block.page, part[part.index("tunewright") + 1 :]


def _between(words: list[str], separators: set[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for word in [*words, ";"]:
        if word in separators:
            yield part
            part = []
        else:
            part.append(word)


def name_of(value: object) -> str:
    if isinstance(value, Path):
        return str(value.relative_to(ROOT)) if value.is_relative_to(ROOT) else value.name
    return str(value) if isinstance(value, str | Block) else ""


# Links and blocks


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    for link in (link for link in _LINK.findall(_prose(page)) if "://" not in link):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor and not _MARKER.search(target.read_text("utf-8")):
            assert anchor in {_slug(heading) for heading in _HEADING.findall(_prose(target))}, link


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def test_every_block_says_its_language() -> None:
    assert [str(block) for block in all_blocks() if block.language not in LANGUAGES] == []


def test_there_are_blocks_of_every_kind_to_look_at() -> None:
    assert {block.language for block in all_blocks()} == set(LANGUAGES)
    assert len([block for block in blocks("python") if not block.note.startswith("not run")]) > 20
    assert list(commands())


@pytest.mark.parametrize("block", blocks("json", "jsonl", "toml"), ids=name_of)
def test_data_is_valid(block: Block) -> None:
    if block.language == "toml":
        assert tomllib.loads(block.text)
        return
    for line in block.text.splitlines():
        assert isinstance(json.loads(line), dict)


# Python


@pytest.mark.parametrize("block", blocks("python"), ids=name_of)
def test_python_compiles_and_what_it_imports_of_ours_exists(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tunewright"):
            if not _is_ours(node.module):
                continue  # the reader's own plugin
            module = importlib.import_module(node.module)
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []


def _is_ours(module: str) -> bool:
    top = module.partition(".")[0]
    return any(path.is_dir() for path in ROOT.glob(f"*/src/{top}")) or any((ROOT / "plugins").glob(f"*/src/{top}"))


def test_python_uses_no_name_that_is_not_defined(tmp_path: Path) -> None:
    for page in PAGES:
        found = [block for block in _blocks(page) if block.language == "python"]
        name = "_".join(page.relative_to(ROOT).with_suffix("").parts)
        for number, text in enumerate(
            ["\n".join(b.text for b in found if not b.title), *(b.text for b in found if b.title)]
        ):
            (tmp_path / f"{name}_{number}.py").write_text(text, "utf-8")
    check = [sys.executable, "-m", "ruff", "check", "--isolated", "--quiet", "--select", "E9,F82", str(tmp_path)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder, with the files that the pages name, and an environment with secrets."""
    folder = tmp_path / "desk"
    for name in ("model", "my-model", "quickstart/model"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
        (folder / name / "model.safetensors").write_bytes(b"")
    row = json.dumps({"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]}) + "\n"
    for name in ("data", "my-data", "quickstart/data"):
        (folder / name).mkdir(parents=True)
        (folder / name / "train.jsonl").write_text(row)
    (folder / "questions.jsonl").write_text(row)
    (folder / "src").mkdir()
    for name in ("train.py", "src/train.py"):
        (folder / name).write_text("print('training')\n")
    golden = ROOT / "tests" / "golden" / "whole_job.yaml"
    (folder / "pytorchjob.yaml").write_text(golden.read_text("utf-8"))
    for variable in ("HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "ACME_TOKEN"):
        monkeypatch.setenv(variable, "a-secret-of-the-readers-own")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def dry(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Make a dry run of every job that is started; what came of them is in the list."""
    manifests: list[object] = []

    def patch(name: str) -> None:
        real = getattr(TrainingClient, name)

        def start(self: TrainingClient, *arguments: object, **options: object) -> object:
            manifests.append(real(self, *arguments, dry_run=True, **options))
            return create_autospec(Job, instance=True)

        monkeypatch.setattr(TrainingClient, name, start)

    patch("train")
    patch("create_job")
    monkeypatch.setattr(TrainingClient, "get_job", lambda self, name: create_autospec(Job, instance=True))
    return manifests


def _programs() -> list[Path]:
    return [page for page in PAGES if any(_runnable(block) for block in _blocks(page))]


def _runnable(block: Block) -> bool:
    return block.language == "python" and not block.title and not block.note.startswith("not run")


@pytest.mark.parametrize("page", _programs(), ids=name_of)
def test_python_runs(page: Path, desk: Path, dry: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    if example := list(page.parent.glob("src/tunewright_*.py")) if "examples" in page.parts else []:
        modules = {file.name: file.read_text("utf-8") for file in example}
        project = tomllib.loads((page.parent / "pyproject.toml").read_text("utf-8"))["project"]
        install_plugins(modules, desk / "site", monkeypatch, names=project["entry-points"]["tunewright.v1"])
    code = "\n".join(block.text for block in _blocks(page) if _runnable(block))
    program = desk / "page.py"  # a function is shipped by its source, which is read from a file
    program.write_text(code, "utf-8")
    runpy.run_path(str(program))
    assert len(dry) == len(re.findall(r"\.(?:train|create_job)\(", code))


# Job files


@pytest.mark.parametrize("block", blocks("yaml"), ids=name_of)
def test_job_files_and_parts_of_them_dry_run(block: Block, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = yaml_text.parse(block.text, str(block)).value
    if document.get("kind") == "NetworkPolicy":  # the API server itself is asked in tests/cluster
        pods = _quickstart_manifests()["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["metadata"]["labels"]
        assert document["spec"]["podSelector"]["matchLabels"].items() <= pods.items()
        return
    if document.get("kind") == "Kustomization":
        for place in (*document["resources"], *document["components"]):
            assert (
                ROOT / place.partition("?")[0].partition("/tunewright/tunewright/")[2] / "kustomization.yaml"
            ).exists()
        return
    if document.get("kind") == "InferenceService":
        _assert_served(document["spec"]["predictor"]["model"])
        return
    if "apiVersion" in document:
        _assert_part_of(document, _quickstart_manifests())
        return
    if plugins := [other for other in _blocks(block.page) if other.title.endswith(".py")]:
        install_plugins({other.title: other.text for other in plugins}, desk / "site", monkeypatch)
    code = {"script", "base_image", "manifest"} & set(document)
    whole = document if code else {"model": "hf://org/a", "dataset": "hf://datasets/org/b", "trainer": "hf", **document}
    assert [*Draft7Validator(job_schema(Registry())).iter_errors(whole)] == []
    for backend in {document.get("backend", "kubernetes"), "kubernetes"}:
        # A cluster does not see the reader's own folders: there they would be the image's.
        text = yaml_text.dump({**whole, "backend": backend})
        file = desk / "job.yaml"
        file.write_text(text if backend == "local" else text.replace(": ./", ": /in-the-image/"), "utf-8")
        done = CliRunner().invoke(cli, ["train", str(file), "--dry-run"])
        assert done.exception is None, done.exception
        assert yaml.safe_load_all(done.stdout)
        _, keywords = jobfile.split(jobfile.read(file).keywords)
        assert jobfile.is_code(keywords) == bool(code)


def _assert_served(model: Any) -> None:
    """What KServe reads is a place where Tunewright leaves results; the whole manifest was checked with KServe's own schema."""
    uri, colon, revision = model["storageUri"].removeprefix("hf://").partition(":")
    if model["storageUri"].startswith("hf://"):
        HuggingFaceModelParams(uri=f"hf://{uri}", revision=revision or None)
        assert colon
        assert "@" not in uri
    else:
        annotation = _quickstart_manifests()["metadata"]["annotations"][OUTPUT]
        form = re.sub("quickstart", r"[\\w-]+", f"{annotation.rstrip('/')}/model")
        assert re.fullmatch(form, model["storageUri"])


def _quickstart_manifests() -> dict[str, Any]:
    job = str(ROOT / "examples" / "quickstart.yaml")
    done = CliRunner().invoke(cli, ["train", job, "--backend", "kubernetes", "--dry-run"])
    return next(d for d in yaml.safe_load_all(done.stdout) if d["kind"] == "PyTorchJob")


def _assert_part_of(part: object, whole: object) -> None:
    if isinstance(part, dict):
        assert isinstance(whole, dict)
        for key, value in part.items():
            _assert_part_of(value, whole[key])
    elif isinstance(part, list) and part and isinstance(part[0], dict):
        assert isinstance(whole, list)
        for value in part:
            _assert_part_of(value, next(w for w in whole if w["name"] == value["name"]))
    else:
        assert part == whole


def test_the_quickstarts_job_file_is_printed_as_it_is() -> None:
    shown = [block.text for block in blocks("yaml") if block.page.name == "quickstart.md"]
    comment, _, job = (ROOT / "examples" / "quickstart.yaml").read_text("utf-8").partition("\n")
    assert comment.startswith("#")
    assert job in shown


# Commands


@pytest.mark.parametrize(("where", "page", "arguments"), list(commands()), ids=name_of)
def test_commands_and_their_options_exist(where: str, page: Path, arguments: list[str]) -> None:
    name, *rest = arguments
    if name.startswith("-"):
        assert name in {"--help", "-h", "--version"}
        return
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, f"there is no command {name!r}"
    with contextlib.suppress(click.MissingParameter):  # "`tunewright train` follows it" names no file
        parent = click.Context(cli, help_option_names=["-h", "--help"])  # click remembers the option for help
        command.make_context(name, rest, parent=parent)  # a UsageError names what does not exist


@pytest.mark.parametrize(("where", "page", "arguments"), list(commands()), ids=name_of)
def test_files_that_commands_name_exist_or_are_explained(where: str, page: Path, arguments: list[str]) -> None:
    if page.name == "CHANGELOG.md":
        return  # it names what its readers know
    explained = set(re.findall(r"`([^`\n]+)`", _prose(page)))
    for word in arguments:
        if re.fullmatch(r"[\w./-]+\.(yaml|py|html|json)", word):
            assert (ROOT / word).exists() or word in explained, f"{page} does not say what {word} is"


@pytest.mark.parametrize("block", blocks("sh"), ids=name_of)
def test_shell_blocks_are_shell_and_name_files_that_exist(block: Block) -> None:
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    ours = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in {"build", "dist", ".venv"}}
    for word in shlex.split(block.text, comments=True):
        if "/" in word and word.partition("/")[0] in ours and not set(word) & set("*$<>"):
            path = word.partition("::")[0].partition("[")[0]
            assert (ROOT / path).exists(), f"{block} names {path}"


def test_a_refusal_is_printed_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "how-to" / "your-own-data.md"
    command, refusal = next(
        (one.text, two.text)
        for one, two in zip(_blocks(page), list(_blocks(page))[1:], strict=False)
        if "learning_rat=" in one.text
    )
    done = CliRunner().invoke(cli, shlex.split(command)[1:])
    versions = re.compile(r"transformers [\d.]+")
    assert versions.sub("", f"error: {done.exception}\n") == versions.sub("", refusal)


# Names in the text


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


def test_every_exit_code_is_explained() -> None:
    page = (ROOT / "docs" / "reference" / "exit-codes.md").read_text("utf-8")
    assert [code.name for code in ExitCode if f"| {code.value} | `{code.name}` |" not in page] == []
