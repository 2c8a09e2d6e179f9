"""The project's own files: licence, metadata, wheels, changelog, workflows, and the guides for contributors."""

import email
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from tests.servers.tools import Missing, tool

ROOT = Path(__file__).parent.parent
OURS = [ROOT / "core", ROOT / "launcher", *sorted(p.parent for p in (ROOT / "plugins").glob("*/pyproject.toml"))]
PACKAGES = [*OURS, ROOT / "examples" / "tunewright-web"]
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
SOURCES = ["core/src/tunewright", "launcher/src/tunewright_launcher", "plugins/hf/src/tunewright_hf"]
RECORDS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


def run(*words: str, folder: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def project_of(folder: Path) -> dict[str, object]:
    return tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]


def name_of(folder: Path) -> str:
    return str(folder.relative_to(ROOT))


@pytest.mark.parametrize("folder", PACKAGES, ids=name_of)
def test_each_package_has_the_licence(folder: Path) -> None:
    # Copies, because a build backend takes no file from outside the package.
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("folder", [ROOT, *PACKAGES], ids=name_of)
def test_metadata_is_complete(folder: Path) -> None:
    project = project_of(folder)
    assert project["license"] == "Apache-2.0"
    assert project["license-files"] == ["LICENSE"]
    assert project["authors"] == [{"name": "The Tunewright authors"}]
    assert project["requires-python"] == ">=3.11"
    assert project["readme"] == "README.md"
    assert project["description"]
    assert project["keywords"] == sorted(project["keywords"])
    assert set(project["urls"]) == {"Homepage", "Documentation", "Source", "Issues", "Changelog"}
    assert all(url.startswith("https://github.com/tunewright/tunewright") for url in project["urls"].values())
    if folder != ROOT:
        versions = [c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r"Python :: 3\.\d", c)]
        assert versions == PYTHONS
    else:
        assert project["classifiers"] == ["Private :: Do Not Upload"]


def test_our_packages_have_one_version_and_take_each_other_within_its_minor() -> None:
    (version,) = {project_of(folder)["version"] for folder in OURS}
    major, minor, _ = map(int, version.split("."))
    needed = []
    for folder in PACKAGES:
        project = project_of(folder)
        extras = project.get("optional-dependencies", {}).values()
        needed += [need for needs in (project["dependencies"], *extras) for need in needs]
    ours = {need for need in needed if need.startswith("tunewright")}
    assert {re.split(r"[\[>]", need)[0] for need in ours} == {project_of(folder)["name"] for folder in OURS}
    assert {need[need.index(">") :] for need in ours} == {f">={major}.{minor},<{major}.{minor + 1}"}


@pytest.mark.parametrize("folder", PACKAGES, ids=name_of)
def test_the_wheel_has_the_licence_and_the_readme_and_no_tests(folder: Path, tmp_path: Path) -> None:
    run("hatchling", "build", "--target", "wheel", "--directory", str(tmp_path), folder=folder)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = next(name.partition("/")[0] for name in names if name.endswith("/METADATA"))
        licence = archive.read(f"{info}/licenses/LICENSE")
        headers, _, body = archive.read(f"{info}/METADATA").decode("utf-8").partition("\n\n")
    metadata = email.message_from_string(headers)
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert body.strip() == (folder / "README.md").read_text("utf-8").strip()
    assert [name for name in names if "tests/" in name] == []


def test_the_changelogs_draft_has_the_headings_of_keep_a_changelog() -> None:
    draft = run("towncrier", "build", "--draft", "--version", "9.8.7", "--date", "2030-01-02")
    assert re.search(r"^## \[9\.8\.7\]\(https://\S+/v9\.8\.7\) - 2030-01-02$", draft, re.MULTILINE)
    headings = re.findall(r"^### (.+)$", draft, re.MULTILINE)
    order = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    assert headings == [heading for heading in order if heading in headings]


def test_a_release_stands_above_the_former_ones_in_the_changelog(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "CHANGELOG.md", "changelog.d/template.md.jinja"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text("utf-8"), "utf-8")
    (tmp_path / "changelog.d" / "123.fixed.md").write_text("A fetch that is interrupted resumes.\n", "utf-8")
    run("towncrier", "build", "--keep", "--version", "9.8.7", "--date", "2030-01-02", "--dir", str(tmp_path))
    text = (tmp_path / "CHANGELOG.md").read_text("utf-8")
    assert text.startswith("# Changelog\n")
    assert re.findall(r"^## \[?([\d.]+)", text, re.MULTILINE)[:2] == ["9.8.7", "0.1.0"]
    item = "- A fetch that is interrupted resumes. ([#123](https://github.com/tunewright/tunewright/issues/123))"
    assert f"### Fixed\n\n{item}\n" in text


def test_fragments_have_names_that_towncrier_collects() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["towncrier"]
    kinds = "|".join(kind["directory"] for kind in settings["type"])
    pattern = re.compile(rf"(\d+|\+[a-z0-9-]+)\.({kinds})(\.\d+)?\.md")
    names = {path.name for path in (ROOT / "changelog.d").iterdir()} - {"README.md", "template.md.jinja"}
    assert [name for name in sorted(names) if not pattern.fullmatch(name)] == []


def test_workflows_pass_actionlint() -> None:
    try:
        actionlint = tool("actionlint")
    except Missing as missing:
        pytest.skip(str(missing))
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert [path.name for path in workflows] == ["ci.yml", "wheels.yml"]
    done = subprocess.run([actionlint, *workflows], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


def test_what_the_workflows_and_guides_run_exists() -> None:
    pages = [*(ROOT / ".github" / "workflows").glob("*.yml"), ROOT / "CONTRIBUTING.md", ROOT / "RELEASING.md"]
    for page in pages:
        for script in re.findall(r"(?<![\w/])\.ci/[a-z]+", page.read_text("utf-8")):
            assert os.access(ROOT / script, os.X_OK), f"{page.name}: {script}"


def test_pre_commit_takes_its_configuration() -> None:
    run("pre_commit", "validate-config")


def test_the_tests_that_contributors_and_ci_run_exist() -> None:
    pages = [ROOT / "CONTRIBUTING.md", ROOT / "RELEASING.md", ROOT / ".github" / "workflows" / "ci.yml"]
    text = "\n".join(re.sub(r"\n +(?=core/)", " ", page.read_text("utf-8")) for page in pages)
    commands = re.findall(r"pytest ([^`&\n]+)", text)
    paths = {word for words in commands for word in words.split() if "/" in word and "NAME" not in word}
    assert len(paths) > 10
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("source", SOURCES)
def test_the_architecture_names_what_there_is(source: str) -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    section = text.partition(f"### {source}\n")[2].partition("\n### ")[0].partition("\n## ")[0]
    named = {
        name for row in re.findall(r"^\| (`.+?) \|", section, re.MULTILINE) for name in re.findall(r"`(.+?)`", row)
    }
    assert [name for name in sorted(named) if not (ROOT / source / name).exists()] == []
    folders = {f"{path.parent.name}/" for path in (ROOT / source).glob("*/__init__.py")}
    assert folders <= {f"{name.partition('/')[0]}/" for name in named if "/" in name}


def test_the_modules_that_the_architecture_mentions_exist() -> None:
    mentioned = re.findall(r"`(?:[\w/]+ )?([\w/]+\.py)`", (ROOT / "ARCHITECTURE.md").read_text("utf-8"))
    assert len(mentioned) > 30
    sources = [path for folder in PACKAGES for path in folder.glob("src/*")]
    missing = [name for name in mentioned if not any(next(s.rglob(name), None) for s in sources if s.is_dir())]
    assert [name for name in missing if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_a_decision_has_its_four_parts_and_is_listed(record: Path) -> None:
    text = record.read_text("utf-8")
    number = int(record.name[:4])
    assert re.match(rf"# {number}\. ", text)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "Context",
        "Decision",
        "Alternatives rejected",
        "Consequences",
    ]
    assert f"| [{number}]({record.name}) |" in (record.parent / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    "page", [*RECORDS, *ROOT.glob("changelog.d/README.md"), *ROOT.glob("docs/decisions/README.md")], ids=name_of
)
def test_links_lead_to_files(page: Path) -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))]
    assert [link for link in links if link and "://" not in link and not (page.parent / link).exists()] == []
