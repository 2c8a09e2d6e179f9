"""The step that installs packages, on this machine: its failure is the job's, with its cause, and nothing starts after it."""

import sys

import attrs
import pytest

from tunewright.errors import RequestError
from tunewright.plan.plan import ContainerSpec
from tunewright.status.state import JobState

INSTALL = ("python3", "$(TUNEWRIGHT_CONFIG)/run.py", "--install", "install-packages", "--")


def with_step(plan, *command):
    step = ContainerSpec(name="install-packages", image="none", command=(*INSTALL, *command))
    return attrs.evolve(plan, init_containers=[step])


@pytest.mark.slow
def test_what_pip_says_is_the_cause(machine):
    code = "import sys; sys.exit('ERROR: No matching distribution found for nope')"
    plan = with_step(machine.plan("(out / 'trained').touch()"), "python", "-c", code, "--", "nope")
    status = machine.run(plan)
    assert status.state is JobState.FAILED
    assert status.detail.startswith(
        "Step install-packages ended with exit code 1: ERROR: No matching distribution found for nope"
    )
    assert "has nope for the image's Python" in status.detail
    assert not (machine.output() / "trained").exists()


@pytest.mark.slow
def test_what_is_installed_is_there_for_the_job(machine):
    code = "import os, pathlib; pathlib.Path(os.environ['TUNEWRIGHT_PACKAGES'], 'demo.py').write_text('ANSWER = 42')"
    plan = with_step(machine.plan("import demo; assert demo.ANSWER == 42"), "python", "-c", code)
    assert machine.run(plan).state is JobState.SUCCEEDED


def test_an_environment_without_pip_is_refused_before_anything_is_created(machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "pip", None)
    plan = with_step(machine.plan(), "python3", "-m", "pip", "install", "--", "einops")
    with pytest.raises(RequestError, match=r"requires the module pip.*python -m ensurepip"):
        machine.backend.submit(plan)
    assert not machine.home.exists()
