"""What a store must do: called in a process of its own, with the author's service."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tunewright.errors import described
from tunewright.providers.outputs import Store
from tunewright.providers.snapshots import Entry

_FOLDER, _BESIDE = "kit", "kit-other"
_FILES = {
    f"{_FOLDER}/a.txt": b"one\n" * 1000,
    f"{_FOLDER}/sub/with space.bin": bytes(range(256)) * 500,
    f"{_FOLDER}/empty": b"",
    f"{_BESIDE}/x": b"beside",
}


BESIDE = "somebody-elses"
"""The file in the output beside."""


def files_beside(store: Store, *, write: bool) -> list[str]:
    """Return the files of an output; before that, write one, if that is asked for."""
    if write:
        with tempfile.NamedTemporaryFile() as file:
            store.upload({BESIDE: Path(file.name)})
    return sorted(entry.path for entry in store.entries(""))


def store_problems(store: Store, own_files: Collection[str] = ()) -> list[str]:
    """Return what is wrong with a store. It is left as it was, if it does what it should.

    Args:
        store: the store.
        own_files: paths of files that the service itself adds.
    """
    found: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for problem in _Check(store, Path(folder), frozenset(own_files)).problems():
                found.append(problem)  # noqa: PERF402 - those before an error count
        except Exception as error:
            found.append(f"then it raises {described(error)}")
    return found


class _Check:
    def __init__(self, store: Store, scratch: Path, own_files: frozenset[str]) -> None:
        self._store, self._scratch, self._own_files = store, scratch, own_files
        self._versions: dict[str, str | None] = {}

    def problems(self) -> Iterator[str]:
        before = self._paths("")
        self._store.check_writable()
        if not self._store.check_leaves_traces and self._paths("") != before:
            yield f"check_writable() leaves {sorted(self._paths('') - before)}; remove it, or set check_leaves_traces"
        self._upload()
        yield from self._listing_problems(before)
        yield from self._download_problems()
        yield from self._replacing_problems()
        yield from self._atomicity_problems()
        yield from self._removal_problems(before)

    def _paths(self, folder: str) -> set[str]:
        return {entry.path for entry in self._store.entries(folder)} - self._own_files

    def _upload(self) -> None:
        """Upload from two threads, as the launcher does."""
        files = {path: self._file(path, data) for path, data in _FILES.items()}
        with ThreadPoolExecutor(2) as pool:
            for versions in pool.map(lambda item: self._store.upload(dict([item])), files.items()):
                self._versions.update(versions or {})

    def _file(self, path: str, data: bytes) -> Path:
        file = self._scratch / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return file

    def _listing_problems(self, before: set[str]) -> Iterator[str]:
        if lost := _FILES.keys() - self._paths(""):
            yield f"entries('') lacks {sorted(lost)}, which were uploaded"
        if more := self._paths("") - before - _FILES.keys():
            yield f"an upload leaves other files too: {sorted(more)}"
        expected = {path for path in _FILES if path.startswith(f"{_FOLDER}/")}
        found = self._paths(_FOLDER)
        if {f"{_FOLDER}/{path}" for path in found} == expected:
            yield f"entries({_FOLDER!r}) gives paths relative to the folder; they have to be relative to the URI"
        elif found - expected:
            yield f"entries({_FOLDER!r}) gives {sorted(found - expected)}, which is not below that folder"
        elif expected - found:
            yield f"entries({_FOLDER!r}) lacks {sorted(expected - found)}"
        if there := self._paths("kit-none"):
            yield f"entries() of a folder that does not exist gives {sorted(there)}"
        for entry in self._store.entries(_FOLDER):
            yield from _entry_problems(entry, _FILES.get(entry.path))
            said, listed = self._versions.get(entry.path), entry.validator
            if said is not None and listed is not None and said.strip('"') != listed.strip('"'):
                yield f"upload() calls the version of {entry.path} {said!r}, and entries() {listed!r}"

    def _download_problems(self) -> Iterator[str]:
        snapshot = self._store.snapshot(_FOLDER)
        found = {entry.path: entry for entry in snapshot.entries()}
        expected = {path.removeprefix(f"{_FOLDER}/"): data for path, data in _FILES.items() if path != f"{_BESIDE}/x"}
        if found.keys() != expected.keys():
            yield f"snapshot({_FOLDER!r}) has {sorted(found)}, not {sorted(expected)}: paths are relative to the folder"
            return
        for path, data in expected.items():
            if data and _contents(lambda entry: snapshot.open(entry, 0, entry.size), found[path]) != data:
                yield f"snapshot({_FOLDER!r}) gives other contents of {path} than were uploaded"

    def _replacing_problems(self) -> Iterator[str]:
        path, data = f"{_FOLDER}/a.txt", b"another"
        self._store.upload({path: self._file(path, _FILES[path])})  # the same once more
        self._store.upload({path: self._file(path, data)})
        sizes = {entry.path: entry.size for entry in self._store.entries(_FOLDER)}
        if sizes.get(path) != len(data):
            yield f"a file that is uploaded again has {sizes.get(path)} bytes, not the new {len(data)}"
        if type(self._store).remove_files is Store.remove_files:
            yield "it has no remove_files(), so that shards of an earlier result are loaded with those of a new one"
        else:
            self._store.remove_files([f"{_FOLDER}/empty"])
            if f"{_FOLDER}/empty" in self._paths(_FOLDER):
                yield "remove_files() leaves a file"
            if f"{_FOLDER}/a.txt" not in self._paths(_FOLDER):
                yield "remove_files() removes other files"

    def _atomicity_problems(self) -> Iterator[str]:
        """Upload a file with one that cannot be read: of a store that says `atomic`, neither may appear."""
        if not self._store.atomic:
            return
        path, gone = f"{_FOLDER}/half", self._scratch / "gone"
        try:
            self._store.upload({path: self._file(path, b"half"), f"{_FOLDER}/lost": gone})
        except Exception:
            if path in self._paths(_FOLDER):
                yield f"it says `atomic`, and an upload that fails halfway leaves {path}"
        else:
            yield "upload() of a file that is not there raises nothing"

    def _removal_problems(self, before: set[str]) -> Iterator[str]:
        self._store.remove(_FOLDER)
        if left := self._paths(_FOLDER) & _FILES.keys():
            yield f"remove({_FOLDER!r}) leaves {sorted(left)}"
        if f"{_BESIDE}/x" not in self._paths(""):
            yield f"remove({_FOLDER!r}) removes {_BESIDE}/x, which is not below that folder"
        self._store.remove("kit-none")
        self._store.remove(_BESIDE)
        if self._paths("") != before:
            yield f"remove() leaves, or removes, other files: {sorted(self._paths('') ^ before)}"


def _entry_problems(entry: Entry, data: bytes | None) -> Iterator[str]:
    if data is None:
        return
    if entry.size != len(data):
        yield f"{entry.path} is listed with {entry.size} bytes, and {len(data)} were uploaded"
    for digest in entry.digests:
        if digest.part_size is None and digest.algorithm in ("sha256", "sha1", "md5"):
            found = hashlib.new(digest.algorithm, data, usedforsecurity=False).hexdigest()
            if found != digest.value:
                yield f"{entry.path} is listed with a wrong {digest.algorithm} digest"


def _contents(opened: Callable[[Entry], object], entry: Entry) -> bytes:
    data, buffer = bytearray(), memoryview(bytearray(1 << 16))
    with opened(entry) as reader:  # type: ignore[attr-defined] # a context manager of a Reader
        while count := reader.readinto(buffer):
            data += buffer[:count]
    return bytes(data)
