"""`file:///folder`: a folder, or a single file, on the machine or in the container that runs the step."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes
from urllib.request import url2pathname

import attrs

from tunewright._canonical import digest
from tunewright._markers import hookimpl
from tunewright.errors import ExitCode, FetchError
from tunewright.providers.base import DatasetProvider, ModelProvider, SourceProvider, uris_of
from tunewright.providers.fields import FilePatterns
from tunewright.providers.outputs import OutputTarget, Store
from tunewright.providers.uris import bad_uri, split_uri

FORM = "file:///absolute/path, with '%', '#', '?' and unprintable characters percent-encoded (Path.as_uri() does this)"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_FOUND = (errno.ENOENT, errno.ENOTDIR)
_NO_PERMISSION = (errno.EACCES, errno.EPERM)


def parse_uri(uri: str, field: str = "uri") -> Path:
    """Return the absolute path that a file URI names. See RFC 8089.

    Raises:
        RequestError: the URI names another host, or is not an absolute path.
    """
    parts = split_uri(uri, scheme="file", form=FORM, field=field)
    if parts.authority.lower() not in ("", "localhost"):
        raise bad_uri("names a host, but only files of this machine can be read", uri, field=field, form=FORM)
    if "?" in uri or "#" in uri:
        raise bad_uri("has a query or a fragment", uri, field=field, form=FORM)
    path = _to_path(f"/{parts.path}")
    if not path.is_absolute() or path == Path(path.anchor) or "\0" in str(path):
        raise bad_uri("is not the absolute path of a folder or file", uri, field=field, form=FORM)
    return path


def _to_path(encoded: str) -> Path:
    # url2pathname handles drive letters, but would garble names that are not UTF-8 on other systems.
    return Path(url2pathname(encoded) if os.name == "nt" else os.fsdecode(unquote_to_bytes(encoded)))


@attrs.frozen(kw_only=True, slots=False)  # two base classes with slots cannot be combined, and providers have them
class FileSource(FilePatterns, SourceProvider):
    """Base class of the model and dataset providers for `file://`."""

    def __attrs_post_init__(self) -> None:
        """Refuse malformed URIs."""
        for field, uri in uris_of(self):
            parse_uri(uri, field)

    def current_version(self) -> str:
        """Return a digest of the names, sizes and times of the files."""
        return version_of(self.local_path(), self)

    def local_path(self) -> Path:
        """Return the path of the folder or file, which may not exist."""
        return parse_uri(self.uri)


@attrs.frozen(kw_only=True)
class FileModel(FileSource, OutputTarget, ModelProvider):
    """A model in a local folder."""

    def store(self) -> Store:
        """Return the folder as a store for outputs."""
        from tunewright.providers.builtin.file_store import FileStore

        return FileStore(self.local_path())

    def download_model(self, target: Path) -> None:
        """Copy the files; see `copy_files`."""
        copy_files(self.local_path(), target, self)


@attrs.frozen(kw_only=True)
class FileDataset(FileSource, DatasetProvider):
    """A dataset in a local file or folder."""

    def download_dataset(self, target: Path) -> None:
        """Copy the files; see `copy_files`."""
        copy_files(self.local_path(), target, self)


def copy_files(source: Path, target: Path, patterns: FilePatterns) -> None:
    """Copy the contents of a folder, or a single file, into an existing folder.

    Names and contents are copied; owners, times and modes are not. Symbolic links are followed if they stay inside the
    source folder. Links that lead out of it, and special files, are refused unless `patterns` ignore them.

    Args:
        source: the folder or file to copy.
        target: an existing folder outside the source.
        patterns: select the files to copy.

    Raises:
        FetchError: the files cannot be copied. Its code is NOT_FOUND, NO_PERMISSION, NO_SPACE, BAD_DATA for contents that
            cannot be copied or a source without files, TRY_AGAIN for a failing disk, or USAGE for a target within the
            source.
    """
    with _os_errors(source):
        root = source.resolve(strict=True)
        if target.resolve().is_relative_to(root):
            cause = f"The target {target} is inside the source {_shown(source)}."
            raise FetchError(cause, remedy="Choose a folder outside the source.", code=ExitCode.USAGE)
        files = list(_files(source, root, patterns))
    if not files:
        cause = f"{_shown(source)} has no files{' that match the patterns' if _has_patterns(patterns) else ''}."
        raise FetchError(cause, remedy="Use the folder that contains the files.", code=ExitCode.BAD_DATA)
    for relative, path in files:
        destination = target / relative
        with _os_errors(path):
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, destination)


def version_of(source: Path, patterns: FilePatterns) -> str:
    """Return a digest of the names, sizes and times of the files that `copy_files` copies.

    Raises:
        FetchError: as `copy_files`.
    """
    with _os_errors(source):
        found = [(relative, path.stat()) for relative, path in _files(source, source.resolve(strict=True), patterns)]
    return digest([[os.fsencode(relative).hex(), s.st_size, s.st_mtime_ns, s.st_ino] for relative, s in sorted(found)])


def _files(source: Path, root: Path, patterns: FilePatterns) -> Iterator[tuple[str, Path]]:
    """Yield the files to copy: the path relative to the source, and the path with links resolved."""
    if stat.S_ISDIR(root.stat().st_mode):
        yield from _walk(root, patterns)
    elif patterns.selects(source.name):
        yield source.name, _regular(root)


def _walk(root: Path, patterns: FilePatterns) -> Iterator[tuple[str, Path]]:
    # Each folder is kept with its resolved parents, as following a link to one of them would never end.
    todo: list[tuple[str, Path, frozenset[Path]]] = [("", root, frozenset({root}))]
    while todo:
        prefix, folder, above = todo.pop()
        for entry in sorted(folder.iterdir()):
            relative = prefix + entry.name
            if patterns.ignores(relative) or patterns.ignores(f"{relative}/"):
                continue
            real = _inside(entry, root) if entry.is_symlink() else entry
            if not stat.S_ISDIR(real.stat().st_mode):
                if patterns.selects(relative):
                    yield relative, _regular(real)
            elif real in above:
                raise _bad(f"{_shown(entry)} is a link to a folder that contains it.")
            else:
                todo.append((f"{relative}/", real, above | {real}))


def _inside(link: Path, root: Path) -> Path:
    try:
        real = link.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        raise _bad(f"{_shown(link)} is a link to something that does not exist.") from None
    except (RuntimeError, OSError) as error:  # Python 3.11 and 3.12 raise RuntimeError for circular links
        if isinstance(error, RuntimeError) or error.errno == errno.ELOOP:
            raise _bad(f"{_shown(link)} is a circular link.") from None
        raise
    if not real.is_relative_to(root):
        raise _bad(f"{_shown(link)} is a link that leads out of the source folder.")
    return real


def _regular(path: Path) -> Path:
    if not stat.S_ISREG(path.stat().st_mode):
        raise _bad(f"{_shown(path)} is neither a file nor a folder.")
    return path


def _bad(cause: str) -> FetchError:
    remedy = "Copy the folder and follow its links (cp -rL), or exclude this path with ignore_patterns."
    return FetchError(cause, remedy=remedy, code=ExitCode.BAD_DATA)


@contextlib.contextmanager
def _os_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        code, remedy = _verdict(error)
        found = Path(error.filename or path)  # with Python 3.14 it may be a parent of what was asked for
        where = _shown(path if path.is_relative_to(found) else found)
        raise FetchError(f"{where}: {error.strerror or error}.", remedy=remedy, code=code) from error
    except RuntimeError as error:  # as in _inside
        raise _bad(f"{_shown(path)} is a circular link.") from error


def _verdict(error: OSError) -> tuple[ExitCode, str]:
    if error.errno in _NOT_FOUND:
        return ExitCode.NOT_FOUND, (
            "A file:// URI refers to the machine or container that runs the step. On a cluster, use "
            "pvc://claim/folder for files on a volume, or s3://bucket/prefix."
        )
    if error.errno in _NO_PERMISSION:
        return ExitCode.NO_PERMISSION, f"Make it readable for user {_user()}, which runs the step."
    if error.errno in _NO_SPACE:
        return ExitCode.NO_SPACE, "Free some space, or request a larger volume: storage={'size': …}."
    if error.errno == errno.ELOOP:
        return ExitCode.BAD_DATA, "Replace the circular links with their intended targets."
    return ExitCode.TRY_AGAIN, "If this persists, check the disk or the network file system."


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "?")


def _has_patterns(patterns: FilePatterns) -> bool:
    return bool(patterns.allow_patterns or patterns.ignore_patterns)


def _shown(path: object) -> str:
    # A name that is not valid UTF-8 would break the log that receives the message.
    return os.fspath(path).encode(errors="backslashreplace").decode() if isinstance(path, str | Path) else repr(path)


@hookimpl
def tunewright_model_provider() -> type[ModelProvider]:  # noqa: D103 - the hookspec documents it
    return FileModel


@hookimpl
def tunewright_dataset_provider() -> type[DatasetProvider]:  # noqa: D103 - the hookspec documents it
    return FileDataset
