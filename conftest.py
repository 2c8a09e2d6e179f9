"""What the tests of several packages need."""

import gc
import importlib.metadata
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

# Before what follows is imported: tests start some thousand Pythons, and each would compile every module that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Until all tests are collected: what modules make is there to stay, and looking through it takes a sixth of the time.
gc.disable()

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402
from tests.servers.s3 import Gateway  # noqa: E402
from tests.servers.tools import Missing  # noqa: E402

# How long an example takes, Hypothesis's own limit being 0.2 s, depends on what else the machine is doing.
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("whole", UNTIMED)
settings.register_profile("quick", UNTIMED, max_examples=25)
settings.load_profile("whole")


WORKERS = 3  # of which some wait at any time; each that trains takes 1 GB
SLOW_WORKERS = 2  # a slow test often has several processes of its own, which wait for each other
LARGE = 10  # files of tests


def remembered(name: str) -> property:
    """A property of distributions that is read once for those of this environment, which no test changes."""
    read: Callable[[importlib.metadata.Distribution], object] = getattr(importlib.metadata.Distribution, name).fget
    known: dict[Path, object] = {}

    def get(distribution: importlib.metadata.PathDistribution) -> object:
        path = distribution._path
        if path.parent != SITE_PACKAGES:
            return read(distribution)
        if path not in known:
            known[path] = read(distribution)
        return known[path]

    return property(get)


# Every new client looks for plugins among all distributions, and the environment with torch has two hundred.
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
for name in ("entry_points", "metadata"):
    setattr(importlib.metadata.PathDistribution, name, remembered(name))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share out large runs; a few files pass before other processes have started."""
    option = config.option
    if option.capture == "no":
        return 0  # `-s` wants to see what tests print
    folders = [config.invocation_params.dir / argument for argument in config.args]
    files = [file for folder in folders for file in folder.rglob("test_*.py")]
    if len(files) < LARGE:
        return 0
    return WORKERS if option.markexpr == "not slow" else SLOW_WORKERS


def pytest_configure(config: pytest.Config) -> None:
    """Leave most examples of property-based tests to the run of the slow tests, which takes `slow or hypothesis`."""
    if config.option.markexpr == "not slow" and not getattr(config.option, "hypothesis_profile", None):
        settings.load_profile("quick")


def pytest_collection_finish() -> None:
    """Spare what is imported by now from garbage collection: with torch that takes longer than a small training."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A real S3 server."""
    try:
        server = Gateway(tmp_path_factory.mktemp("gateway"))
    except Missing as missing:
        pytest.skip(str(missing))
    with server:
        server.keys()  # makes the bucket
        yield server


# Of the conformance kit: each starts several processes.
SLOW_TESTS = (
    "test_the_files_arrive",
    "test_wrong_secrets_are_refused",
    "test_what_is_missing_is_refused",
    "test_a_snapshot_keeps_its_word",
    "test_the_store_keeps_its_word",
    "test_a_result_is_uploaded",
    "test_two_ranks_train",
    "test_a_killed_training_continues",
    "test_sigterm_ends_the_ranks",
)


# Servers that are built or installed the first time, for a minute. Of the stores, S3 is in the quick tests.
SLOW_SERVERS = {"azurite", "storage"}  # fixtures of plugins/az and plugins/gs


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what plugins inherit from the kit, and cannot mark, and all that needs a slow server."""
    for item in items:
        inherited = isinstance(item, pytest.Function) and item.originalname in SLOW_TESTS and item.cls is not None
        if inherited or SLOW_SERVERS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
