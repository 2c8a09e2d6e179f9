"""`tunewright new-plugin NAME`: create a starter plugin, which installs and passes its own tests."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

from tunewright.errors import RequestError

_NAME = re.compile(r"[a-z][a-z0-9]*")

_FILES = {
    "pyproject.toml": """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "tunewright-$name"
version = "0.1.0"
description = "$name:// datasets for Tunewright"
requires-python = ">=3.11"
dependencies = ["tunewright>=0.1,<0.2"]

[project.optional-dependencies]
# The libraries that download_dataset() imports. Submitting a job does not need them.
fetch = []
test = ["pytest"]

[project.entry-points."tunewright.v1"]
$name = "tunewright_$name"

[tool.hatch.build.targets.wheel]
only-include = ["src/tunewright_$name.py"]
sources = ["src"]
""",
    "README.md": """\
# tunewright-$name

`pip install tunewright-$name`, then `dataset="$name://…"` in `train()` or in a job file.
""",
    "src/tunewright_$name.py": '''\
"""$name:// datasets for Tunewright."""

from pathlib import Path

import attrs
from tunewright import DatasetProvider, ExitCode, FetchError, SecretRef, hookimpl, secret


@attrs.frozen(kw_only=True)
class ${title}Dataset(DatasetProvider):
    """Datasets from $name.

    Attributes:
        token: access token for private datasets.
    """

    extra = "fetch"

    token: str | SecretRef | None = secret(env="${upper}_TOKEN")

    def download_dataset(self, target: Path) -> None:
        """Write the dataset's files into `target`."""
        raise FetchError(
            f"{self.uri} cannot be fetched: download_dataset() is not implemented yet.",
            remedy="Implement ${title}Dataset.download_dataset().",
            code=ExitCode.USAGE,
        )


@hookimpl
def tunewright_dataset_provider() -> type[DatasetProvider]:
    """Return the provider class for $name:// datasets."""
    return ${title}Dataset
''',
    "tests/test_$name.py": """\
from tunewright.testing import DatasetProviderTests
from tunewright_$name import ${title}Dataset


class Test${title}Dataset(DatasetProviderTests):
    name = "$name"

    def provider(self) -> ${title}Dataset:
        return ${title}Dataset(uri="$name://example", token="a-token-that-must-not-show")
""",
}


def new_plugin(name: str, parent: Path) -> Path:
    """Create the folder `tunewright-<name>` with a starter plugin.

    Args:
        name: name of the plugin, which becomes its URI scheme.
        parent: where to create the folder.

    Returns:
        The new folder.

    Raises:
        RequestError: the name is not a valid URI scheme, or the folder exists.
    """
    if not _NAME.fullmatch(name):
        remedy = "Use lowercase letters and digits, starting with a letter: the name becomes the URI scheme."
        raise RequestError("is not a valid plugin name", field="NAME", value=name, remedy=remedy)
    folder = parent / f"tunewright-{name}"
    if folder.exists():
        raise RequestError(
            "already exists", field="folder", value=str(folder), remedy="Choose another name, or remove the folder."
        )
    words = {"name": name, "title": name.title(), "upper": name.upper()}
    for path, text in _FILES.items():
        file = folder / Template(path).substitute(words)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(Template(text).substitute(words), "utf-8")
    return folder
