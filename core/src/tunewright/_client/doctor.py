"""`tunewright doctor`: check what a job needs before it runs, and report what is missing and how to fix it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from tunewright._client.planning import plan_for
from tunewright.backends.base import Finding, Level, problem
from tunewright.environment import OUTPUT_SLOT
from tunewright.errors import FetchError, PluginError, TunewrightError, described
from tunewright.plan.secrets import SecretRef
from tunewright.providers.base import SourceProvider
from tunewright.providers.fields import secret_env
from tunewright.providers.outputs import OutputTarget
from tunewright.providers.snapshots import Snapshot, SnapshotSource
from tunewright.request.libraries import Missing, command, missing
from tunewright.request.request import Request, ResolvedProvider, TrainRequest

if TYPE_CHECKING:
    from tunewright._client.client import TrainingClient
    from tunewright.plan.plan import JobPlan
    from tunewright.plugins.registry import Registry

_Source = TypeVar("_Source", bound=SourceProvider)


def diagnose(client: TrainingClient, make_request: Callable[[], Request] | None = None) -> Iterator[Finding]:
    """Check the plugins, the client's backend and, given a job, its sources and output.

    Nothing is created, except for an empty file in the output, which is removed again.

    Args:
        client: the client whose plugins and backend to check.
        make_request: makes the job's request; an error that it raises becomes a finding. None checks no job.

    Yields:
        Findings, as soon as each is known.
    """
    yield from _plugins(client.registry)
    request: Request | None = None
    plan: JobPlan | None = None
    if make_request is not None:
        try:
            request = make_request()
            if isinstance(request, TrainRequest) and client.backend.shares_client_filesystem:
                request.check_local_inputs()
            plan = plan_for(client.backend, request)
            yield Finding(about="job", level="ok", text=f"The request for job {plan.name!r} is valid.")
        except TunewrightError as error:
            yield problem("job", error)
    if client.backend.shares_client_filesystem:
        yield from _libraries(client.registry, request)
    yield from client.backend.diagnose(plan)
    if isinstance(request, TrainRequest):
        for slot, selected in request.sources.items():
            yield from _asked(request.written(slot), selected, _reads)
        if request.output_target:
            yield from _asked(OUTPUT_SLOT, request.output_target, _writes)


def _plugins(registry: Registry) -> Iterator[Finding]:
    whole = []
    for name in registry.names(of_any_api=True):
        try:
            registry.get(name).check()
            whole.append(name)
        except PluginError as error:
            yield problem(f"plugin {name}", error)
    yield Finding(about="plugins", level="ok", text=f"Loaded without errors: {', '.join(whole)}.")


def _libraries(registry: Registry, request: Request | None) -> Iterator[Finding]:
    """Ask the job's providers, or else all trainers, what they need on this machine, and name one command for all of it."""
    found = request.missing_libraries() if isinstance(request, TrainRequest) else [*_of_trainers(registry)]
    level: Level = "problem" if isinstance(request, TrainRequest) else "note"
    for item in found:
        yield Finding(about=item.about, level=level, text=f"It {item.text}.", remedy=f"Install it: {command(found)}")


def _of_trainers(registry: Registry) -> Iterator[Missing]:
    for name in registry.names():
        with contextlib.suppress(PluginError):
            plugin = registry.get(name)
            if "trainer" in plugin.kinds() and (
                item := missing(f"trainer {name}", plugin.dist, plugin.provider("trainer").extra)
            ):
                yield item


def _asked(
    about: str, selected: ResolvedProvider[_Source], look: Callable[[_Source], tuple[Level, str]]
) -> Iterator[Finding]:
    """Ask the service, with the credentials that the job would use."""
    provider = selected.provider
    if provider.mounted_claim() is not None or provider.local_path() is not None:
        return
    references = [str(name) for name, value in secret_env(provider).items() if isinstance(value, SecretRef)]
    if references:
        text = f"{provider.uri} was not checked: {', '.join(references)} is in a Secret, which only the job's pods can read."
        yield Finding(about=about, level="note", text=text)
    else:
        yield _answer(about, selected.plugin.dist, provider, look)


def _answer(about: str, dist: str, provider: _Source, look: Callable[[_Source], tuple[Level, str]]) -> Finding:
    try:
        level, text = look(provider)
    except ImportError as error:
        extra = f"[{provider.extra}]" if provider.extra else ""
        text = f"{provider.uri} was not checked: the module {error.name} is not installed in this Python environment."
        return Finding(about=about, level="note", text=text, remedy=f"Install it: pip install '{dist}{extra}'")
    except FetchError as error:
        # The pods may be able to reach a service that this machine cannot.
        level = "note" if error.code.may_pass else "problem"
        return Finding(about=about, level=level, text=error.cause, remedy=error.remedy)
    except TunewrightError as error:
        return problem(about, error)
    except Exception as error:
        text = f"{provider.uri} was not checked: its plugin raised {described(error)}."
        return Finding(about=about, level="problem", text=text, remedy=f"Report this to the author of {dist}.")
    return Finding(about=about, level=level, text=f"{provider.uri} {text}.")


def _reads(provider: SourceProvider) -> tuple[Level, str]:
    if not isinstance(provider, SnapshotSource):
        return "note", "was not checked: its plugin can only fetch it as a whole"
    return "ok", f"is readable ({_first_file(provider.snapshot())})"


def _writes(provider: SourceProvider) -> tuple[Level, str]:
    assert isinstance(provider, OutputTarget)  # noqa: S101 - for the type checker: output= accepts nothing else
    store = provider.store()
    if store.check_leaves_traces:
        return "note", "was not checked: testing whether it is writable would create it"
    store.check_writable()
    return "ok", "is writable"


def _first_file(snapshot: Snapshot) -> str:
    """Read one byte and describe the file: a service may list files to users who are not allowed to read them."""
    entry = next(iter(snapshot.entries()), None)
    if entry is None:
        return "no files"
    if entry.size:
        with snapshot.open(entry, 0, 1) as reader:
            reader.readinto(memoryview(bytearray(1)))
    return f"{entry.path}, {entry.size:,} bytes"
