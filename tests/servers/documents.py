"""The example plugins of the documents, installed for a test as pip leaves a distribution."""

import importlib
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType

import pytest


def install_plugins(
    modules: Mapping[str, str], site: Path, monkeypatch: pytest.MonkeyPatch, *, names: Collection[str] = ()
) -> None:
    """Install modules into a folder on sys.path; each `tunewright_<name>.py` is the plugin `<name>`.

    Args:
        modules: file name → text.
        site: the folder, which is made if there is none.
        names: the plugin's names, where they are others.
        monkeypatch: takes the folder off sys.path, and forgets the modules, at the test's end.
    """
    for file, text in modules.items():
        site.mkdir(parents=True, exist_ok=True)
        (site / file).write_text(text, "utf-8")
        name = file.removesuffix(".py").removeprefix("tunewright_")
        if file.startswith("tunewright_"):
            info = site / f"tunewright_{name}-0.1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tunewright-{name}\nVersion: 0.1.0\n")
            lines = "".join(f"{point} = tunewright_{name}\n" for point in names or [name])
            (info / "entry_points.txt").write_text(f"[tunewright.v1]\n{lines}")
        module = file.removesuffix(".py")
        monkeypatch.setitem(sys.modules, module, ModuleType(module))  # so that what is imported is taken out at the end
        del sys.modules[module]
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
