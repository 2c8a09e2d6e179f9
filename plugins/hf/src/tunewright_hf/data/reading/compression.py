"""Data files as streams of bytes and of text: compressed ones, members of zip archives, and other encodings than UTF-8.

A member of an archive has a path of its own, below that of the archive: `data.zip/train.jsonl`.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import hashlib
import importlib.util
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import IO, cast

from tunewright_hf.data.reading.bad_data import BadFileError, field_hint

_BLOCK = 1 << 20

_BYTE_ORDER_MARKS = (  # UTF-32's begins as UTF-16's does
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def _open_zstd(target: Path | IO[bytes]) -> IO[bytes]:
    import pyarrow as pa

    raw = pa.OSFile(str(target)) if isinstance(target, Path) else pa.PythonFile(target, "r")
    return cast("IO[bytes]", pa.CompressedInputStream(raw, "zstd"))


_OPENERS: dict[str, Callable[[Path | IO[bytes]], IO[bytes]]] = {
    ".gz": lambda target: cast("IO[bytes]", gzip.open(target)),  # noqa: SIM115 - the caller closes it
    ".bz2": lambda target: cast("IO[bytes]", bz2.open(target)),  # noqa: SIM115
    ".xz": lzma.open,
    ".zst": _open_zstd,
}
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
"""What reading a damaged file raises."""

ARCHIVE = ".zip"
COMPRESSED = (*_OPENERS, ARCHIVE)


def plain_name(file: PurePath) -> str:
    """Return a file's name in lower case, without the suffix of its compression: `train.jsonl` of `train.jsonl.gz`."""
    name = file.name.lower()
    return name[: -len(file.suffix)] if file.suffix.lower() in _OPENERS else name


def is_compressed(file: Path) -> bool:
    """Whether the bytes of a data file are not those on disk."""
    return file.suffix.lower() in _OPENERS or archive_of(file) is not None


def archive_of(file: Path) -> Path | None:
    """Return the archive that a path is a member of; None for a file on disk."""
    return next((p for p in file.parents if p.suffix.lower() == ARCHIVE and p.is_file()), None)


def on_disk(file: Path) -> Path:
    """Return the archive that a file is in, or the file."""
    return archive_of(file) or file


def stamp(file: Path, *more: object) -> str:
    """Return a name for what is made of a file, which is another one once the file has changed."""
    found = on_disk(file).stat()
    about = repr((str(file), found.st_size, found.st_mtime_ns, *more))
    return hashlib.sha256(about.encode()).hexdigest()[:16]


def members(archive: Path) -> list[Path]:
    """Return the files in a zip archive, as paths below it.

    Raises:
        BadFileError: it is not a zip archive, or has a password.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [e for e in opened.infolist() if not e.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise BadFileError(archive, f"is not a zip archive: {error}") from error
    if any(entry.flag_bits & 1 for entry in entries):
        raise BadFileError(archive, "has a password", remedy="Unpack it, and give the files.")
    return [archive / e.filename for e in entries if not e.filename.startswith(("__MACOSX/", "/", "../"))]


def can_open(file: Path) -> bool:
    """Whether this machine can read a file: zstd needs pyarrow."""
    return file.suffix.lower() != ".zst" or importlib.util.find_spec("pyarrow") is not None


def open_bytes(file: Path) -> IO[bytes]:
    """Open a data file, unpacked."""
    archive, opener = archive_of(file), _OPENERS.get(file.suffix.lower())
    if archive is None:
        return file.open("rb") if opener is None else opener(file)
    member = zipfile.ZipFile(archive).open(file.relative_to(archive).as_posix())  # noqa: SIM115 - it keeps the file open
    return member if opener is None else opener(member)


def encoding_of(file: Path, given: str | None = None) -> str:
    """Return the encoding of a text file: the one given, or that of its byte order mark, or UTF-8."""
    if given is not None:
        return "utf-8-sig" if codecs.lookup(given).name == "utf-8" else given
    with open_bytes(file) as raw:
        start = raw.read(4)
    return next((name for mark, name in _BYTE_ORDER_MARKS if start.startswith(mark)), "utf-8")


def open_text(file: Path, encoding: str | None = None, *, newline: str | None = "") -> io.TextIOWrapper:
    """Open a text file, unpacked and decoded, without its byte order mark."""
    return io.TextIOWrapper(open_bytes(file), encoding=encoding_of(file, encoding), newline=newline)


def undecodable(file: Path, encoding: str | None) -> BadFileError | None:
    """Return the error that names the first byte of a file that its encoding has no character for; None without one."""
    name = encoding_of(file, encoding)
    decoder = codecs.getincrementaldecoder(name)()
    done, line = 0, 1
    with open_bytes(file) as raw:
        while True:
            block = raw.read(_BLOCK)
            held = len(decoder.getstate()[0])  # bytes of a character that the last block cut
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                at = done - held + error.start
                line += error.object[: error.start].count(b"\n")
                return _undecodable(file, name, at, line, error.object[error.start : error.start + 1])
            if not block:
                return None
            done += len(block)
            line += block.count(b"\n")


def _undecodable(file: Path, encoding: str, at: int, line: int, byte: bytes) -> BadFileError:
    problem = f"byte {at} (0x{byte.hex()}) is not {encoding.removesuffix('-sig').upper()}"
    remedy = f"Name the encoding of the file, for example cp1252: {field_hint('encoding', 'cp1252')}; or save the file as UTF-8."
    return BadFileError(file, problem, remedy=remedy, line=line)
