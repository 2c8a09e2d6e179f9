"""`tunewright doctor`: looks at what a job needs before there is one, and says what is missing and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from tunewright._planning.assemble import assemble
from tunewright.backends.base import Finding, Level, problem
from tunewright.environment import OUTPUT_SLOT
from tunewright.errors import FetchError, PluginError, TunewrightError
from tunewright.plan.secrets import SecretRef
from tunewright.providers.base import SourceProvider
from tunewright.providers.fields import secret_env
from tunewright.providers.outputs import OutputTarget
from tunewright.providers.snapshots import Snapshot, SnapshotSource
from tunewright.request.request import Request, ResolvedProvider, TrainRequest

if TYPE_CHECKING:
    from tunewright._client.client import TrainingClient
    from tunewright.plan.plan import JobPlan
    from tunewright.plugins.registry import Registry

_Source = TypeVar("_Source", bound=SourceProvider)


def diagnose(client: TrainingClient, make_request: Callable[[], Request] | None = None) -> Iterator[Finding]:
    """Look at the plugins, at the client's backend, and at the sources and the output of a job if there is one.

    Nothing is created; an output gets an empty file, which is removed.

    Args:
        client: whose plugins and backend are looked at.
        make_request: makes the job's request; what it raises becomes a finding.

    Yields:
        Findings, as they are found.
    """
    yield from _plugins(client.registry)
    request: Request | None = None
    plan: JobPlan | None = None
    if make_request is not None:
        try:
            request = make_request()
            if isinstance(request, TrainRequest) and client.backend.shares_client_filesystem:
                request.check_local_inputs()
            plan = assemble(request)
            yield Finding(about="job", level="ok", text=f"Job {plan.name!r} can be planned.")
        except TunewrightError as error:
            yield problem("job", error)
    yield from client.backend.diagnose(plan)
    if isinstance(request, TrainRequest):
        for slot, selected in request.sources.items():
            yield from _asked(slot, selected, _reads)
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
    yield Finding(about="plugins", level="ok", text=f"These load: {', '.join(whole)}.")


def _asked(
    about: str, selected: ResolvedProvider[_Source], look: Callable[[_Source], tuple[Level, str]]
) -> Iterator[Finding]:
    """What a service answers to the credentials that the job would use."""
    provider = selected.provider
    if provider.mounted_claim() is not None or provider.local_path() is not None:
        return
    references = [str(name) for name, value in secret_env(provider).items() if isinstance(value, SecretRef)]
    if references:
        text = (
            f"{provider.uri} was not asked: {', '.join(references)} lies in a Secret, which only the job's pods read."
        )
        yield Finding(about=about, level="note", text=text)
    else:
        yield _answer(about, selected.plugin.dist, provider, look)


def _answer(about: str, dist: str, provider: _Source, look: Callable[[_Source], tuple[Level, str]]) -> Finding:
    try:
        level, text = look(provider)
    except ImportError as error:
        extra = f"[{provider.extra}]" if provider.extra else ""
        text = f"{provider.uri} was not asked: this Python environment lacks the module {error.name}."
        return Finding(about=about, level="note", text=text, remedy=f"Install it: pip install '{dist}{extra}'")
    except FetchError as error:
        # The pods may reach what this machine does not.
        level = "note" if error.code.may_pass else "problem"
        return Finding(about=about, level=level, text=error.cause, remedy=error.remedy)
    return Finding(about=about, level=level, text=f"{provider.uri} {text}.")


def _reads(provider: SourceProvider) -> tuple[Level, str]:
    if not isinstance(provider, SnapshotSource):
        return "note", "was not asked: its plugin can only fetch it as a whole"
    return "ok", f"lets itself be read: {_first_file(provider.snapshot())}"


def _writes(provider: SourceProvider) -> tuple[Level, str]:
    assert isinstance(provider, OutputTarget)  # noqa: S101 - for the type checker: nothing else is taken as output=
    store = provider.store()
    if store.check_leaves_traces:
        return "note", "was not asked: to find out whether it may be written to would create it"
    store.check_writable()
    return "ok", "lets itself be written to"


def _first_file(snapshot: Snapshot) -> str:
    """Read a byte: a service may list to everybody what it gives to few."""
    entry = next(iter(snapshot.entries()), None)
    if entry is None:
        return "it has no files"
    if entry.size:
        with snapshot.open(entry, 0, 1) as reader:
            reader.readinto(memoryview(bytearray(1)))
    return f"{entry.path}, {entry.size:,} bytes"
