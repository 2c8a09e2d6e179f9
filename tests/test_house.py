"""The rules of the house: who may import whom, and what `python -m benchmarks.house` counts. Each rule is broken on purpose."""

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from benchmarks import house

ROOT = Path(__file__).parent.parent
PLUGINS = [package for package in house.SOURCES if ROOT / "plugins" in package.parents]
PUBLIC = {
    "tunewright",
    "tunewright.backends.base",
    "tunewright.errors",
    "tunewright.events",
    "tunewright.plan",
    "tunewright.plugins",
    "tunewright.providers",
    "tunewright.testing",
    "tunewright_launcher.archives",
    "tunewright_launcher.http",
    "tunewright_launcher.objects",
}
IN_A_FUNCTION = "\n\ndef _late() -> None:\n    import {}\n"
FOR_TYPES = "\n\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {}\n"
# contract → where it is broken, how, and what must not be imported there
FORBIDDEN = {
    "distributions": [
        ("core/src/tunewright/environment.py", IN_A_FUNCTION, "tunewright_launcher.http"),
        ("core/src/tunewright/cli/show.py", FOR_TYPES, "tunewright_hf.errors"),
        ("launcher/src/tunewright_launcher/retry.py", IN_A_FUNCTION, "tunewright_s3.uri"),
        ("plugins/kaggle/src/tunewright_kaggle/uri.py", FOR_TYPES, "tunewright_s3.uri"),
    ],
    "core": [
        ("core/src/tunewright/plan/plan.py", FOR_TYPES, "tunewright.request.request"),
        ("core/src/tunewright/providers/base.py", IN_A_FUNCTION, "tunewright.backends.base"),
        ("core/src/tunewright/runner/files.py", IN_A_FUNCTION, "tunewright.errors"),
    ],
    "backends": [
        ("core/src/tunewright/backends/local/env.py", IN_A_FUNCTION, "tunewright.backends.kubernetes.api"),
        ("core/src/tunewright/backends/kubernetes/pod.py", FOR_TYPES, "tunewright.backends.pytorchjob.kind"),
    ],
    "hf": [
        ("plugins/hf/src/tunewright_hf/data/reading/load.py", IN_A_FUNCTION, "tunewright_hf.train.run"),
        ("plugins/hf/src/tunewright_hf/hub/client.py", FOR_TYPES, "tunewright_hf.provider"),
    ],
    "data": [
        ("plugins/hf/src/tunewright_hf/data/reading/kinds.py", IN_A_FUNCTION, "tunewright_hf.data.rows.formats"),
        ("plugins/hf/src/tunewright_hf/data/templates/probes.py", FOR_TYPES, "tunewright_hf.data.prepare"),
    ],
}
CIRCLES = [
    ("plugins/s3/src/tunewright_s3/uri.py", FOR_TYPES, "tunewright_s3.sources"),
    ("core/src/tunewright/plan/secrets.py", IN_A_FUNCTION, "tunewright.plan.plan"),
]


def lint(*contracts: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    sources = os.pathsep.join(str(folder / package.parent.relative_to(ROOT)) for package in house.SOURCES)
    return subprocess.run(
        ["lint-imports", "--no-logo", "--no-cache", *(word for name in contracts for word in ("--contract", name))],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": sources,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, to break rules in."""
    folder = tmp_path_factory.mktemp("tree")
    shutil.copy(ROOT / ".importlinter", folder)
    for package in house.SOURCES:
        shutil.copytree(package, folder / package.relative_to(ROOT), ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_the_contracts_are_kept() -> None:
    done = lint()
    assert done.returncode == 0, done.stdout


@pytest.fixture
def add(tree: Path) -> Iterator[Callable[[str, str], None]]:
    """Adds code to a module of the copy, until the end of the test."""
    before: dict[Path, str | None] = {}

    def append(file: str, code: str) -> None:
        path = tree / file
        before[path] = path.read_text("utf-8") if path.exists() else None
        path.write_text((before[path] or "") + code, "utf-8")

    yield append
    for path, text in before.items():
        path.unlink() if text is None else path.write_text(text, "utf-8")


@pytest.mark.parametrize("contract", FORBIDDEN)
def test_an_import_that_a_contract_forbids_is_found(contract: str, tree: Path, add: Callable[[str, str], None]) -> None:
    for file, code, imported in FORBIDDEN[contract]:
        add(file, code.format(imported))
    done = lint(contract, folder=tree)
    assert done.returncode == 1, done.stderr
    for file, _, imported in FORBIDDEN[contract]:
        importer = ".".join(Path(file.partition("/src/")[2]).with_suffix("").parts)
        assert f"{importer} -> {imported}" in done.stdout


def test_circles_are_found(tree: Path, add: Callable[[str, str], None]) -> None:
    for file, code, imported in CIRCLES:
        add(file, code.format(imported))
    done = lint("circles", folder=tree)
    assert done.returncode == 1, done.stderr
    assert "No cycles are allowed in tunewright_s3." in done.stdout
    assert "No cycles are allowed in tunewright.plan." in done.stdout


def test_a_new_room_has_to_be_placed(tree: Path, add: Callable[[str, str], None]) -> None:
    add("core/src/tunewright/drawer.py", "import os\n")
    done = lint("core", folder=tree)
    assert done.returncode == 1, done.stderr
    assert "tunewright.drawer" in done.stdout


def private_imports(source: str) -> Iterator[str]:
    """What a plugin's module imports of core and launcher that is not public."""
    for node in ast.walk(ast.parse(source)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            modules = [node.module]
        for module in modules:
            if module.partition(".")[0] not in {"tunewright", "tunewright_launcher"}:
                continue
            if module not in PUBLIC:
                yield module
            elif isinstance(node, ast.ImportFrom):
                yield from (f"{module}.{alias.name}" for alias in node.names if not is_public(module, alias.name))


def is_public(module: str, name: str) -> bool:
    home = importlib.import_module(module)
    return name in getattr(home, "__all__", dir(home)) and not name.startswith("_")


@pytest.mark.parametrize("package", PLUGINS, ids=lambda package: package.name)
def test_our_plugins_import_what_a_strangers_may(package: Path) -> None:
    found = {str(m.relative_to(ROOT)): list(private_imports(m.read_text("utf-8"))) for m in package.rglob("*.py")}
    assert not {module: names for module, names in found.items() if names}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from tunewright.providers import secret\nfrom tunewright_launcher.http import Http", []),
        ("from tunewright._canonical import dumps", ["tunewright._canonical"]),
        ("def late():\n    import tunewright.providers.base", ["tunewright.providers.base"]),
        ("from tunewright.providers import base", ["tunewright.providers.base"]),
        ("from tunewright.errors import _private", ["tunewright.errors._private"]),
        ("if TYPE_CHECKING:\n    from tunewright_launcher.engine import Engine", ["tunewright_launcher.engine"]),
        ("from tunewright import backends", ["tunewright.backends"]),
    ],
)
def test_a_private_import_is_found(source: str, found: list[str]) -> None:
    assert list(private_imports(source)) == found


def test_no_remedy_promises_what_has_been_done_in_vain() -> None:
    promise = re.compile(r'"[^"#\n]*\b(?:is|will be) (?:retried|restarted)\b[^"\n]*"')
    sources = [
        *(ROOT / "core/src").rglob("*.py"),
        *(ROOT / "core/src").rglob("*.txt"),
        *(ROOT / "launcher/src").rglob("*.py"),
        *(ROOT / "plugins").rglob("*/src/**/*.py"),
    ]
    found = {path.relative_to(ROOT).as_posix(): promise.findall(path.read_text("utf-8")) for path in sources}
    assert not {path: texts for path, texts in found.items() if texts}, "it is read once nothing is retried any more"


@pytest.mark.slow
def test_the_figures_are_within_their_limits() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.house", "--json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(house.LIMITS) <= set(figures["figures"])
    assert figures["folders"]["core/src/tunewright/plan"] > 5
    assert figures["chains"]["tunewright"][-1] in {"tunewright.errors", "tunewright._convert"}


CIRCLE = {
    "a": "def late():\n    import house_x.b",
    "b": "from house_x import c",
    "c": "from house_x import a",
    "d": "import house_x.a",
}
BAD_CODE = (
    '''"""A module."""
def public(x): pass
class Private_: pass
class _Hidden:
    def method(self) -> None: pass
@hookimpl
def tunewright_backend() -> None: pass
def long() -> None:
    """Say nothing."""
'''
    + "    x = 1\n" * 400
)


def test_a_circle_is_found_and_a_chain_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "house_x"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, code in CIRCLE.items():
        (package / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    graph = house.grimp.build_graph("house_x", cache_dir=None)
    assert house.circles_of(graph) == [["house_x.a", "house_x.b", "house_x.c"]]
    assert house.longest_chain(graph, "house_x") == ["house_x.d", "house_x.a"]


def test_code_over_its_limits_is_counted(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(BAD_CODE)
    figures = house.code_figures([module])
    assert figures["functions without types"] == 1
    assert figures["public names without documentation"] == 2
    assert figures["function lines, longest"] == 402
    assert figures["modules over 400 lines"] == 1


def test_the_files_of_an_option_are_those_of_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> None:
        names = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(tmp_path), *names, *words], check=True, capture_output=True)

    git("init")
    for subject, files in {
        "Speak of host_network in the documents": ["docs/a.md"],
        "Add host_network": ["core/src/a.py", "core/src/b.py", "core/tests/test_a.py"],
        "Move host_network": ["core/src/c.py"],
    }.items():
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        git("add", ".")
        git("commit", "-m", subject)
    monkeypatch.setattr(house, "ROOT", tmp_path)
    assert house.files_to_add("host_network") == 2
    assert house.files_to_add("another_option") is None
