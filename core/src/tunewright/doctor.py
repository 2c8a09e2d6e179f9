"""`tunewright doctor`: looks at what a job needs before there is one, and says what is missing and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import attrs

from tunewright.assemble import assemble
from tunewright.errors import FetchError, PluginError, TunewrightError
from tunewright.request import Request, Selected, TrainRequest
from tunewright.secret import SecretRef, secret_env
from tunewright.snapshots import Snapshot, SnapshotSource

if TYPE_CHECKING:
    from tunewright.client import TrainingClient
    from tunewright.providers import SourceProvider
    from tunewright.registry import Registry
    from tunewright.specs import JobPlan

Level = Literal["ok", "note", "problem"]


@attrs.frozen(kw_only=True)
class Finding:
    """What one look found.

    Attributes:
        about: what was looked at: "plugin hf", "rights", "storage".
        level: "ok"; "note" is worth knowing, or could not be looked at; with a "problem", jobs fail.
        text: what was found, as a sentence.
        remedy: what to do; "" for nothing.
    """

    about: str
    level: Level
    text: str
    remedy: str = ""


def diagnose(client: TrainingClient, make_request: Callable[[], Request] | None = None) -> Iterator[Finding]:
    """Look at the plugins, at the client's backend, and at the sources of a job if there is one. Creates nothing.

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
            if isinstance(request, TrainRequest) and client.backend.sees_client_files:
                request.check_local_inputs()
            plan = assemble(request)
            yield Finding(about="job", level="ok", text=f"Job {plan.name!r} can be planned.")
        except TunewrightError as error:
            yield problem("job", error)
    yield from client.backend.diagnose(plan)
    if isinstance(request, TrainRequest):
        for slot, selected in request.sources.items():
            yield from _source(slot, selected)


def problem(about: str, error: TunewrightError) -> Finding:
    """The finding that an error is."""
    remedy = str(getattr(error, "remedy", ""))
    return Finding(about=about, level="problem", text=str(error).removesuffix(remedy).rstrip(), remedy=remedy)


def _plugins(registry: Registry) -> Iterator[Finding]:
    whole = []
    for name in registry.names(of_any_api=True):
        try:
            registry.get(name).check()
            whole.append(name)
        except PluginError as error:
            yield problem(f"plugin {name}", error)
    yield Finding(about="plugins", level="ok", text=f"These load: {', '.join(whole)}.")


def _source(slot: str, selected: Selected[SourceProvider]) -> Iterator[Finding]:
    """Whether a source lets itself be read, with the credentials that the job would use."""
    provider = selected.provider
    if provider.existing() is not None or provider.local_path() is not None:
        return
    references = [str(name) for name, value in secret_env(provider).items() if isinstance(value, SecretRef)]
    if references:
        text = (
            f"{provider.uri} was not asked: {', '.join(references)} lies in a Secret, which only the job's pods read."
        )
        yield Finding(about=slot, level="note", text=text)
    elif not isinstance(provider, SnapshotSource):
        text = f"{provider.uri} was not asked: plugin {selected.plugin.name!r} can only fetch it as a whole."
        yield Finding(about=slot, level="note", text=text)
    else:
        yield _read(slot, selected.plugin.dist, provider)


def _read(slot: str, dist: str, provider: SnapshotSource) -> Finding:
    try:
        text = _first_file(provider.snapshot())
    except ImportError as error:
        extra = f"[{provider.extra}]" if provider.extra else ""
        text = f"{provider.uri} was not asked: this Python environment lacks the module {error.name}."
        return Finding(about=slot, level="note", text=text, remedy=f"Install it: pip install '{dist}{extra}'")
    except FetchError as error:
        # The pods may reach what this machine does not.
        level: Level = "note" if error.code.may_pass else "problem"
        return Finding(about=slot, level=level, text=error.cause, remedy=error.remedy)
    return Finding(about=slot, level="ok", text=f"{provider.uri} lets itself be read: {text}.")


def _first_file(snapshot: Snapshot) -> str:
    """Read a byte: a service may list to everybody what it gives to few."""
    entry = next(iter(snapshot.entries()), None)
    if entry is None:
        return "it has no files"
    if entry.size:
        with snapshot.open(entry, 0, 1) as reader:
            reader.readinto(memoryview(bytearray(1)))
    return f"{entry.path}, {entry.size:,} bytes"
