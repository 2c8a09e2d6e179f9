"""Fixtures: distributions that are really installed for the length of a test, and a client without a cluster."""

import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from tunewright import TrainingClient

PROVIDERS = """
import attrs
from tunewright import DatasetProvider, ModelProvider, SecretRef, TrainerProvider, hookimpl, secret


@attrs.frozen(kw_only=True)
class Model(ModelProvider):
    token: str | SecretRef | None = secret(env="{upper}_TOKEN")
    revision: str | None = None

    def download_model(self, target): ...


@attrs.frozen(kw_only=True)
class Data(DatasetProvider):
    extra = "fetch"
    token: str | SecretRef | None = secret(env="{upper}_TOKEN")

    def download_dataset(self, target): ...


@attrs.frozen(kw_only=True)
class Trainer(TrainerProvider):
    extra = "train"
    rate: float = 0.1
    options: dict[str, object] = attrs.field(factory=dict)
    key: str | SecretRef | None = secret(env="{upper}_KEY")

    def train(self, run): ...


@hookimpl
def tunewright_model_provider():
    return Model


@hookimpl
def tunewright_dataset_provider():
    return Data


@hookimpl
def tunewright_trainer_provider():
    return Trainer
"""


class Site:
    """A folder on sys.path that distributions are installed into, as pip leaves them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modules: dict[str, ModuleType] = {}

    def install(
        self,
        dist: str,
        points: Mapping[str, str],
        *,
        version: str = "1.0",
        group: str = "tunewright.v1",
        **modules: str,
    ) -> None:
        """`points`: entry point's name → module; `modules`: name → text."""
        info = self.folder / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
        lines = "".join(f"{name} = {value}\n" for name, value in points.items())
        (info / "entry_points.txt").write_text(f"[{group}]\n{lines}")
        for module, text in modules.items():
            (self.folder / f"{module}.py").write_text(text)
        importlib.invalidate_caches()

    def providers(self, name: str, extra: str = "", **settings: str) -> None:
        """Install a whole plugin of that name; `extra` is added to its module."""
        module = f"tw_{name}"
        text = PROVIDERS.replace("{upper}", name.upper()) + extra
        self.install(f"tunewright-{name}", {name: module}, **settings, **{module: text})  # type: ignore[arg-type]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty site folder; what was imported from it is forgotten at the end."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield Site(folder)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The plugins of `client`, installed once for hundreds of tests: the backend `memory`, and `acme`."""
    site = Site(tmp_path_factory.mktemp("plugins"))
    text = Path(__file__).with_name("memory_backend.py").read_text("utf-8")
    site.install("tunewright-memory", {"memory": "memory_backend"}, memory_backend=text)
    site.providers("acme")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site.folder))
        site.modules = {name: importlib.import_module(name) for name in ("memory_backend", "tw_acme")}
    for name in site.modules:
        del sys.modules[name]
    return site


@pytest.fixture
def client(site: Site, plugins: Site, monkeypatch: pytest.MonkeyPatch) -> TrainingClient:
    """A client on the backend `memory`, with the plugin `acme`: `acme://` models and datasets, and a trainer."""
    monkeypatch.syspath_prepend(str(plugins.folder))
    for name, module in plugins.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return TrainingClient("memory")
