"""What mkdocs does for the site besides rendering: generated parts, included files, links out of the folder docs/.

Decision records are in the navigation without being listed there. Three things in a page's text are replaced when the site is
built, so that the pages read well in the repository, too:

- `<!-- generated: NAME -->` becomes a table that is made from the code (`docs/generated.py`);
- `<!-- include: PATH -->` makes the page that file of the repository;
- a link to a file outside of docs/ leads to the page that includes it, or else to the repository.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

DOCS = Path(__file__).parent
ROOT = DOCS.parent
SCHEMA = "job.schema.json"

_GENERATED = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)
_INCLUDE = re.compile(r"^<!-- include: (\S+) -->$", re.MULTILINE)
_FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:)([^)\s#]+)(#[^)\s]*)?(?=\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put every decision record into the section of the navigation that begins with their index."""
    records = [f"decisions/{record.name}" for record in sorted(DOCS.glob("decisions/0*.md"))]
    for page in (page for section in config.nav or [] for pages in section.values() for page in pages):
        if isinstance(page, dict) and "Decisions" in page:
            page["Decisions"] += records
    return config


def on_post_build(*, config: MkDocsConfig) -> None:
    """Write the JSON schema of job files into the site, for editors."""
    Path(config.site_dir, SCHEMA).write_text(job_schema(), "utf-8")


def job_schema() -> str:
    """Return the JSON schema of job files, with the plugins that are installed: ours, where CI builds the site."""
    from tunewright.cli.schema import job_schema as of_plugins
    from tunewright.plugins.registry import Registry

    return json.dumps(of_plugins(Registry()), indent=1, ensure_ascii=False)


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the page's text as it is rendered."""
    del files
    path = DOCS / page.file.src_uri
    return rewritten(markdown, path, str(config.repo_url))


def rewritten(markdown: str, page: Path, repository: str) -> str:
    """Return a page's text with its generated parts and included file, and links that lead somewhere on the site."""
    source = page
    if included := _INCLUDE.search(markdown):
        source = (page.parent / included[1]).resolve()
        markdown = source.read_text("utf-8")
    pieces = _FENCE.split(_GENERATED.sub(lambda found: _table(found[1]), markdown))
    pieces[::2] = [_LINK.sub(_relinked(source, page, repository), piece) for piece in pieces[::2]]
    return "".join(pieces)


def _relinked(source: Path, page: Path, repository: str) -> Callable[[re.Match[str]], str]:
    """Return a function that turns a link of the file `source` into one of the page `page`."""

    def relink(link: re.Match[str]) -> str:
        target = (source.parent / link[1]).resolve()
        target = pages_of_files().get(target, target)
        if target.is_relative_to(DOCS):
            target = target / "README.md" if target.is_dir() else target
            return Path(os.path.relpath(target, page.parent)).as_posix() + (link[2] or "")
        kind = "tree" if target.is_dir() else "blob"
        return f"{repository}/{kind}/main/{target.relative_to(ROOT).as_posix()}{link[2] or ''}"

    return relink


def pages_of_files() -> dict[Path, Path]:
    """Return file of the repository → the page that includes it."""
    found = {}
    for page in DOCS.rglob("*.md"):
        if included := _INCLUDE.search(page.read_text("utf-8")):
            found[(page.parent / included[1]).resolve()] = page
    return found


def _table(name: str) -> str:
    sys.path.insert(0, str(DOCS))
    try:
        import generated
    finally:
        sys.path.remove(str(DOCS))
    return generated.PARTS[name]()
