"""Unpacking what a stranger has packed: no name leaves the folder, no link is made, and nothing is larger than listed."""

from __future__ import annotations

import contextlib
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

import attrs

from tunewright import ExitCode, FetchError
from tunewright_launcher.files import Files, check_path, hostile, write

_BLOCK = 1 << 20


@attrs.frozen
class Member:
    """A file of an archive.

    Attributes:
        path: as it is named there.
        open: gives its contents.
    """

    path: str
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path, listed: Mapping[str, int], selects: Callable[[str], bool]) -> None:
    """Unpack the selected files of a zip or a tar into a folder, and compare them with what was listed.

    Args:
        archive: the archive.
        folder: where to.
        listed: path → bytes, of every file that the source lists.
        selects: whether a path is wanted.

    Raises:
        FetchError: BAD_DATA: it is no archive, is damaged, has a hostile name, a link, a file that was not listed or is
            larger than listed, or lacks one. NO_SPACE: it does not fit.
    """
    wanted = {path for path in listed if selects(path)}
    with Files(folder) as files:
        files.reserve(sum(listed[path] for path in wanted))
        with _damaged(archive), _members(archive) as members:
            for member in members:
                _check_member(member.path, listed)
                if member.path in wanted:
                    _extract(member, files, listed[member.path])
                    wanted.discard(member.path)
    if wanted:
        raise _bad(f"The archive lacks {len(wanted)} of the listed files, for example {min(wanted)!r}.")


def _check_member(path: str, listed: Mapping[str, int]) -> None:
    check_path(path)
    if path not in listed:
        raise hostile(path, "is in the archive, and is not listed")


def _extract(member: Member, files: Files, size: int) -> None:
    position = 0
    with member.open() as source, files.create(member.path) as handle:
        while data := source.read(_BLOCK):
            if position + len(data) > size:
                raise hostile(member.path, f"is larger than the {size} bytes that are listed")
            write(handle, memoryview(data), position)
            position += len(data)
    if position != size:
        raise _bad(f"{member.path} has {position} bytes in the archive, and {size} are listed.")


@contextlib.contextmanager
def _members(archive: Path) -> Iterator[Iterator[Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield _of_zip(opened)
    else:
        with tarfile.open(archive) as tar:  # also compressed
            yield _of_tar(tar)


def _of_zip(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.is_dir():
            continue
        if kind not in (0, stat.S_IFREG):
            raise hostile(info.filename, "is a link, or something else that is no file")
        # zipfile cuts a name at a NUL; what it was before counts.
        yield Member(info.orig_filename, lambda info=info: archive.open(info))  # type: ignore[misc]


def _of_tar(archive: tarfile.TarFile) -> Iterator[Member]:
    for info in archive:
        path = info.name.removeprefix("./")
        if info.isdir():
            continue
        if not info.isreg():
            raise hostile(path, "is a link, or something else that is no file")
        yield Member(path, lambda info=info: archive.extractfile(info))  # type: ignore[misc,arg-type]


@contextlib.contextmanager
def _damaged(archive: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise _bad(f"The archive {archive.name} is damaged, or of an unknown kind: {error}.") from error


def _bad(cause: str) -> FetchError:
    return FetchError(cause, remedy="Fetch it again; if it stays so, tell its author.", code=ExitCode.BAD_DATA)
