"""Tests of `tunewright_modify_plan`."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from tunewright._client.client import TrainingClient
from tunewright._kit.elsewhere import packed, unpacked
from tunewright._kit.plans import plan_before
from tunewright.errors import PluginLoadError
from tunewright.plan.plan import JobPlan
from tunewright.plan.policies import Scheduling
from tunewright.plugins.registry import Plugin
from tunewright.request.request import Request
from tunewright.testing._pod import ask_elsewhere
from tunewright.testing._providers import PluginTests

_CODE: Mapping[str, Any] = {
    "name": "kit-code",
    "base_image": "docker.io/library/python:3.12-slim",
    "command": ["python3", "train.py"],
    "labels": {"kit": "label"},
    "annotations": {"kit": "annotation"},
    "env": {"KIT": "variable"},
    "node_selector": {"kit": "node"},
    "tolerations": [{"key": "kit", "operator": "Exists"}],
    "priority_class": "kit",
    "pod_overrides": {"spec": {"dnsPolicy": "Default"}},
}


class ModifyPlanTests(PluginTests):
    """Tests for a plugin with `tunewright_modify_plan`. Test what your hook is for beside them.

    `jobs()` returns keywords of jobs for which the hook is called: those of `train()`, or of `create_job()`. The kit has one
    of `create_job()`, which is enough for a company-wide plugin.
    """

    def jobs(self) -> Sequence[Mapping[str, Any]]:
        """Return the keywords of jobs that the hook changes, as in a job file; the kit adds labels and variables."""
        return [_CODE]

    @pytest.fixture(autouse=True)
    def _is_called(self, plugin: Plugin) -> None:
        """The hook is called for every one of the jobs."""
        for job in self.jobs():
            names = [origin.name for origin in plan_before(job)[0].plugins]
            hint = "Is the line `always = True` missing in the module of the entry point?"
            assert plugin.name in names, f"The job {job} does not call the hook of {plugin.name!r}. {hint}"

    def test_import_is_light(self) -> None:
        """The plugin can be loaded without heavy libraries: a company-wide one is loaded for every job."""
        self.check_import(None)

    def test_the_plan_is_valid(self, plugin: Plugin, tmp_path: Path) -> None:
        """The hook returns a valid plan, which the Kubernetes backend renders."""
        for job in self.jobs():  # elsewhere first: a hook that ends its process would end the tests with it
            ask_elsewhere("modify", limit=self.time_limit, name=plugin.name, job=dict(job), folder=str(tmp_path))
        for request, before in self._plans():
            TrainingClient("kubernetes").backend.render(_modified(plugin, before, request))

    def test_nothing_is_lost(self, plugin: Plugin) -> None:
        """What the user and Tunewright put into the plan is still there."""
        for request, before in self._plans():
            lost = list(_lost(before, _modified(plugin, before, request)))
            assert not lost, f"The hook drops {'; '.join(lost)}. Add to what is there: labels={{**plan.labels, …}}."

    def test_the_hook_is_pure(self, plugin: Plugin, tmp_path: Path) -> None:
        """The same plan and request give the same plan, here and on another day elsewhere, without files and network."""
        for job in self.jobs():
            request, before = plan_before(job)
            copy = packed(before)
            changed = _modified(plugin, before, request)
            assert unpacked(copy) == before, "The hook changes the plan that it is given; use attrs.evolve."
            assert _modified(plugin, before, request) == changed, "The hook gives another plan when it is called again."
            there = ask_elsewhere(
                "modify", limit=self.time_limit, name=plugin.name, job=dict(job), folder=str(tmp_path)
            )
            assert unpacked(there["plan"]) == changed, "The hook depends on the process, the machine or the day."
            assert not there["told"], (
                f"The hook must not write files, start processes or use the network: {there['told']}."
            )

    def _plans(self) -> Iterator[tuple[Request, JobPlan]]:
        return map(plan_before, self.jobs())


def _modified(plugin: Plugin, plan: JobPlan, request: Request) -> JobPlan:
    try:
        return plugin.modify_plan(plan, request)
    except PluginLoadError as error:
        pytest.fail(str(error))


def _lost_scheduling(before: Scheduling, after: Scheduling) -> Iterator[str]:
    """Yield what the user asked for, and the plan no longer does: other values are the hook's to choose."""
    for field in attrs.fields(Scheduling):
        was, now, default = (getattr(one, field.name) for one in (before, after, Scheduling()))
        if was != default and (now == default or (isinstance(was, tuple) and any(item not in now for item in was))):
            yield f"scheduling.{field.name}"


def _has_words(command: Sequence[str], words: Sequence[str]) -> bool:
    """Return whether a command still has these words, one after another, wrapped or not."""
    starts = range(len(command) - len(words) + 1)
    return any(tuple(command[start : start + len(words)]) == tuple(words) for start in starts)


def _lost_keys(before: Mapping[str, Any], after: Mapping[str, Any], path: str) -> Iterator[str]:
    for key, value in before.items():
        if key not in after:
            yield f"{path}.{key}"
        elif isinstance(value, Mapping) and isinstance(after[key], Mapping):
            yield from _lost_keys(value, after[key], f"{path}.{key}")


def _lost(before: JobPlan, after: JobPlan) -> Iterator[str]:
    if before.name != after.name:
        yield f"the job's name {before.name!r}"
    for field in ("labels", "annotations", "files"):
        lost: Collection[str] = getattr(before, field).keys() - getattr(after, field).keys()
        if lost:
            yield f"{field} {sorted(lost)}"
    if selector := before.scheduling.node_selector.keys() - after.scheduling.node_selector.keys():
        yield f"the node selector's {sorted(selector)}"
    yield from _lost_scheduling(before.scheduling, after.scheduling)
    yield from _lost_keys(before.pod_overrides, after.pod_overrides, "pod_overrides")
    if volumes := {v.name for v in before.volumes} - {v.name for v in after.volumes}:
        yield f"volumes {sorted(volumes)}"
    yield from _lost_of_containers(before, after)


def _lost_of_containers(before: JobPlan, after: JobPlan) -> Iterator[str]:
    containers = {container.name: container for container in after.containers}
    for container in before.containers:
        if container.name not in containers:
            yield f"the container {container.name!r}"
        elif env := container.env.keys() - containers[container.name].env.keys():
            yield f"variables {sorted(env)} of container {container.name!r}"
        elif not _has_words(containers[container.name].command, container.command):
            yield f"the command of container {container.name!r}"
        elif {*container.mounts} - {*containers[container.name].mounts}:
            yield f"mounts of container {container.name!r}"
