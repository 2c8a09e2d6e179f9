"""Prints what our packages need of others, from their pyproject.toml.

The Dockerfile installs that in a layer of its own, which a change of our code does not touch.

    python requirements.py EXTRA FILE…      with the extra, or else with `fetch`
"""

import sys
import tomllib
from pathlib import Path


def main(extra: str, files: list[str]) -> None:
    """Print one requirement a line."""
    needed = set()
    for file in files:
        project = tomllib.loads(Path(file).read_text("utf-8"))["project"]
        extras = project.get("optional-dependencies", {})
        needed.update(project["dependencies"], extras.get(extra, extras.get("fetch", [])))
    sys.stdout.writelines(f"{name}\n" for name in sorted(needed) if not name.startswith("tunewright"))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
