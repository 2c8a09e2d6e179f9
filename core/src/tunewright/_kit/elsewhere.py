"""`python -m tunewright._kit.elsewhere`: another process, on another machine, on another day.

It reads a call from standard input, as JSON, and prints the answer as JSON: what must be the same there as here.
"""

from __future__ import annotations

import base64
import datetime as dt
import functools
import json
import pickle
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tunewright.errors import FetchError, RangeRefused, SourceChanged, TunewrightError

if TYPE_CHECKING:
    from tunewright.providers.snapshots import Entry, Snapshot

_T = TypeVar("_T")

ANSWER = "tunewright-kit: "
"""Begins the line with the answer."""

DAYS = 40
_PAUSES = (0.2, 0.5, 1.0)  # seconds, after errors that may pass
_OPENS = 20  # how often a range may end early


def main() -> None:
    """Answer one call."""
    call = json.load(sys.stdin)
    if call.pop("another_day", True):
        another_day()
    answer = _CALLS[call.pop("call")](**call)
    sys.stdout.write(f"\n{ANSWER}{json.dumps(answer)}\n")


def another_day() -> None:
    """Let the clock and the name of the machine be others, for whatever is imported from now on."""
    import cattrs.preconf.json  # noqa: F401 - it looks at the real classes

    for name in ("time", "time_ns"):
        setattr(time, name, _shifted(getattr(time, name), DAYS * 86400 * (10**9 if name == "time_ns" else 1)))
    for name in ("localtime", "gmtime"):
        setattr(time, name, _with_time(getattr(time, name)))
    strftime = time.strftime
    time.strftime = lambda text, when=None: strftime(text, time.localtime() if when is None else when)
    dt.date, dt.datetime = _Date, _Moment  # type: ignore[misc]
    socket.gethostname = lambda: "another-machine"


def _shifted(clock: Callable[[], Any], by: int) -> Callable[[], Any]:
    return lambda: clock() + by


def _with_time(convert: Callable[[float | None], Any]) -> Callable[..., Any]:
    return lambda seconds=None: convert(time.time() if seconds is None else seconds)


class _Date(dt.date):
    @classmethod
    def today(cls) -> dt.date:  # type: ignore[override]
        """Return the day after some weeks."""
        return super().today() + dt.timedelta(days=DAYS)


class _Moment(dt.datetime):
    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
        """Return the time after some weeks."""
        return super().now(tz) + dt.timedelta(days=DAYS)

    @classmethod
    def today(cls) -> dt.datetime:  # type: ignore[override]
        """Return the time after some weeks."""
        return cls.now()

    @classmethod
    def utcnow(cls) -> dt.datetime:  # type: ignore[override]
        """Return the time after some weeks."""
        return cls.now(dt.UTC).replace(tzinfo=None)


def _imports(name: str, kind: str | None, heavy: list[str]) -> list[str]:
    """Return those of the modules that loading a plugin, and its class of a kind, imports."""
    from tunewright.plugins.registry import Registry

    plugin = Registry().get(name)
    if kind is not None:
        plugin.provider(kind)  # type: ignore[call-overload]
    return [module for module in heavy if module in sys.modules]


def _values(name: str, kind: str, params: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, Any]:
    """Return every field of a provider that was sent here."""
    from tunewright.plugins.registry import Registry
    from tunewright.providers import wire

    cls = Registry().get(name).provider(kind)  # type: ignore[call-overload]
    return wire.field_values(cls.load_config(params, secrets), kind)


def _snapshot(name: str, kind: str, params: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, Any]:
    """Return what a provider's snapshot lists, twice, and some ranges of its files."""
    from tunewright.plugins.registry import Registry
    from tunewright.providers.limits import FetchLimits

    provider = Registry().get(name).provider(kind).load_config(params, secrets)  # type: ignore[call-overload]
    snapshots = [provider.snapshot() for _ in range(2)]
    for snapshot in snapshots:
        snapshot.use_limits(FetchLimits(connections=2, tries=2))
    entries = [_retried(functools.partial(_entries, snapshot)) for snapshot in snapshots]
    listed = [_listed(snapshot.revision, found) for snapshot, found in zip(snapshots, entries, strict=True)]
    ranges = [
        (entry.path, start, stop, _read(snapshots[0], entry, start, stop))
        for entry in entries[0][:5]
        for start, stop in _some_ranges(entry.size)
    ]
    unversioned = [entry.path for entry in entries[0][:5] if not _has_version(snapshots[0], entry)]
    described = [repr(found) for entry in entries[0][:5] if not _is_same(entry, found := snapshots[0].describe(entry))]
    return {
        "entries": listed[0],
        "again": listed[1],
        "ranges": ranges,
        "unversioned": unversioned,
        "described": described,
    }


def _is_same(entry: Entry, described: object) -> bool:
    return isinstance(described, type(entry)) and (described.path, described.size) == (entry.path, entry.size)


def _entries(snapshot: Snapshot) -> list[Entry]:
    return list(snapshot.entries())


def _retried(call: Callable[[], _T]) -> _T:
    """Return what a call returns; try again after errors that may pass, as the engine does."""
    for pause in _PAUSES:
        try:
            return call()
        except (RangeRefused, SourceChanged):
            raise
        except FetchError as error:
            if not error.code.may_pass:
                raise
            time.sleep(pause)
    return call()


def _has_version(snapshot: Snapshot, entry: Entry) -> bool:
    """Return whether anything would show that a file has changed while it is read."""
    if entry.digests or entry.validator or snapshot.revision is not None:
        return True
    with snapshot.open(entry, 0, entry.size) as reader:
        return bool(getattr(reader, "digests", ()))


def _listed(revision: str | None, entries: Iterable[Entry]) -> dict[str, Any]:
    files = [
        {"path": e.path, "size": e.size, "digests": [(d.algorithm, d.value) for d in e.digests if d.part_size is None]}
        for e in sorted(entries, key=lambda entry: entry.path)
    ]
    return {"revision": revision, "files": files}


def _some_ranges(size: int) -> list[tuple[int, int]]:
    """Return the whole of a file, and pieces at its start, in its middle and at its end."""
    middle = size // 2
    found = {(0, size), (0, min(1, size)), (middle, min(middle + 3, size)), (max(size - 1, 0), size)}
    return sorted((start, stop) for start, stop in found if start < stop)


def _read(snapshot: Snapshot, entry: Entry, start: int, stop: int) -> str:
    """Return a range as Base64, read as the engine does: a range that ends early is opened again where it ended."""
    try:
        data = bytearray()
        for _ in range(_OPENS):
            count = _retried(lambda: _read_once(snapshot, entry, start + len(data), stop, data))
            if len(data) >= stop - start or not count:
                break
    except RangeRefused:
        data = bytearray()
        _read_once(snapshot, entry, 0, entry.size, data)
        data = data[start:stop]
    return base64.b64encode(data).decode()


def _read_once(snapshot: Snapshot, entry: Entry, start: int, stop: int, data: bytearray) -> int:
    before, buffer = len(data), memoryview(bytearray(1 << 16))
    with snapshot.open(entry, start, stop) as reader:
        if getattr(reader, "whole", False):
            whole = bytearray()
            while (count := reader.readinto(buffer)) and len(whole) < stop:
                whole += buffer[:count]
            data += whole[start:stop]
        else:
            while len(data) - before < stop - start and (count := reader.readinto(buffer)):
                data += buffer[:count]
    return len(data) - before


def _store(name: str, params: Mapping[str, Any], secrets: Mapping[str, str], own_files: Collection[str]) -> list[str]:
    """Return what is wrong with the store of an output."""
    from tunewright._kit.store import store_problems
    from tunewright.plugins.registry import Registry

    provider = Registry().get(name).provider("model").load_config(params, secrets)
    return store_problems(provider.store(), own_files)  # type: ignore[attr-defined] # it is an OutputTarget


def _beside(about: Mapping[str, Any]) -> list[str]:
    """Return the files of the output beside, after one was written to it if that is asked for."""
    from tunewright._kit.store import files_beside
    from tunewright.plugins.registry import Registry

    provider = Registry().get(about["name"]).provider("model").load_config(about["params"], about["secrets"])
    return files_beside(provider.store(), write=about["write"])  # type: ignore[attr-defined] # it is an OutputTarget


def _refused(name: str, params: Mapping[str, Any], secrets: Mapping[str, str]) -> bool:
    """Return whether the store of an output refuses a file."""
    from tunewright.plugins.registry import Registry

    provider = Registry().get(name).provider("model").load_config(params, secrets)
    with tempfile.NamedTemporaryFile() as file:
        try:
            provider.store().upload({"kit/refused": Path(file.name)})  # type: ignore[attr-defined] # it is an OutputTarget
        except TunewrightError:
            return True
    return False


def _stored(name: str, params: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, str]:
    """Return the files of an output as they are downloaded again, as Base64."""
    from tunewright.plugins.registry import Registry

    provider = Registry().get(name).provider("model").load_config(params, secrets)
    snapshot: Snapshot = provider.store().snapshot("")  # type: ignore[attr-defined] # it is an OutputTarget
    return {entry.path: _read(snapshot, entry, 0, entry.size) for entry in list(snapshot.entries())}


def _render(name: str, options: Mapping[str, Any], plan: str, folder: str) -> dict[str, Any]:
    """Return how a backend renders a plan, and what it does meanwhile that it should not."""
    from tunewright.backends.base import BackendOptions
    from tunewright.plugins.registry import Registry

    cls = Registry().get(name).provider("backend")
    told = _watched(folder)
    rendered = cls.connect(BackendOptions(**options)).render(unpacked(plan)).to_yaml()
    return {"rendered": rendered, "told": told()}


def _modify(name: str, job: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Return the plan of a job as a plugin's hook leaves it, and what the hook does that it should not."""
    from tunewright._kit.plans import plan_before
    from tunewright.plugins.registry import Registry

    request, plan = plan_before(job)
    plugin = Registry().get(name)
    told = _watched(folder)
    return {"plan": packed(plugin.modify_plan(plan, request)), "told": told()}


def _watched(folder: str) -> Callable[[], list[str]]:
    """Watch what this process writes outside of a folder, and whom it calls; return how to ask for it."""
    from tunewright._kit.child import watch

    report = Path(folder, "report")
    watch(Path(folder), report, network=False)
    return lambda: report.read_text("utf-8").splitlines()


def packed(value: object) -> str:
    """Return a value as text, for another process."""
    return base64.b64encode(pickle.dumps(value)).decode()


def unpacked(text: str) -> Any:  # whatever was packed
    """Return the value of `packed`."""
    return pickle.loads(base64.b64decode(text))  # noqa: S301 - from our own process


_CALLS: Mapping[str, Callable[..., Any]] = {
    "imports": _imports,
    "values": _values,
    "snapshot": _snapshot,
    "store": _store,
    "beside": _beside,
    "refused": _refused,
    "stored": _stored,
    "render": _render,
    "modify": _modify,
}


if __name__ == "__main__":
    main()
