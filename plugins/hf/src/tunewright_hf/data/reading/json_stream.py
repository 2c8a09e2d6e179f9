"""JSON values, read one by one from a stream, and the place where one is broken."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tunewright_hf.data.reading.bad_data import BadFileError

_BLOCK = 1 << 16
_SPACE = re.compile(r"\s*")
# A text may be cut off by the end of what has been read so far; anything else that ends so far before it is broken.
_MARGIN = 64
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class _DoubledKeyError(Exception):
    """An object has a key twice."""


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DoubledKeyError(next(name for name in names if names.count(name) > 1))
    return row


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


class JsonStream:
    """Values that follow each other in a stream, and the line in which each begins."""

    def __init__(self, file: Path, stream: TextIO) -> None:
        self.file = file
        self.stream = stream
        self.text = ""
        self.at = 0
        self.passed = 0  # lines before `text`
        self.ended = False

    def more(self) -> bool:
        """Read on, and forget what has been passed; False at the end, where positions stay as they are."""
        block = self.stream.read(max(_BLOCK, len(self.text) - self.at))
        self.ended = not block
        if block:
            self.passed += self.text.count("\n", 0, self.at)
            self.text, self.at = self.text[self.at :] + block, 0
        return bool(block)

    def skip(self, pattern: re.Pattern[str]) -> str:
        """Pass over what a pattern matches, and return the character behind it; "" at the end."""
        while True:
            found = pattern.match(self.text, self.at)
            end = found.end() if found else self.at
            if end < len(self.text):
                self.at = end
                return self.text[end]
            if not self.more():
                self.at = len(self.text)
                return ""

    def value(self) -> tuple[int, object]:
        """Return the next value, and its line.

        Raises:
            BadFileError: it is not JSON.
        """
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos > len(self.text) - _MARGIN
                if cut and self.more():
                    continue
                raise self.broken(error) from None
            except _DoubledKeyError as error:
                raise BadFileError(self.file, f"has the key {error.args[0]!r} twice", line=self.line(self.at)) from None
            if end == len(self.text) and self.more():  # a number may go on
                continue
            line, source, self.at = self.line(self.at), self.text[self.at : end], end
            if _SURROGATE.search(source):
                self._check_surrogates(value, line)
            return line, value

    def next(self) -> str:
        """Pass over white space, and return the character behind it; "" at the end."""
        return self.skip(_SPACE)

    def elements(self) -> Iterator[tuple[int, object]]:
        """Read the elements of a list that begins here.

        Yields:
            The line in which an element begins, from 1, and the element.

        Raises:
            BadFileError: the list is not JSON.
        """
        self.at += 1
        while (character := self.next()) and character != "]":
            yield self.value()
            if self._at_separator() == "]":
                break
        if not self.next():
            problem = "the file ends in the middle of its list"
            raise BadFileError(self.file, problem, line=self.line(len(self.text)))
        self.at += 1

    def _at_separator(self) -> str:
        """Pass over the comma between two elements of a list, and return the character behind it."""
        character = self.next()
        if character != ",":
            if character not in ("", "]"):
                raise BadFileError(self.file, f"expected ',' before {character!r}", line=self.line(self.at))
            return character
        self.at += 1
        if (character := self.next()) == "]":
            raise BadFileError(self.file, "has a comma before ']'", line=self.line(self.at))
        return character

    def line(self, position: int) -> int:
        """Return the line of a position, from 1."""
        return self.passed + self.text.count("\n", 0, position) + 1

    def broken(self, error: json.JSONDecodeError) -> BadFileError:
        """Return the error for a value that ends, or goes on, otherwise than JSON."""
        first, line = self.line(self.at), self.line(error.pos)
        rest = self.text[error.pos :].strip()
        if self.ended and (not rest or error.msg.startswith("Unterminated string")):
            return BadFileError(self.file, "the file ends in the middle of a row", line=first)
        if line > first and (cut := _cut_line(self.text[self.at : error.pos + 1])) is not None:
            return BadFileError(self.file, "ends in the middle of a row", line=first + cut)
        reason = f"{error.msg[0].lower()}{error.msg[1:]}, column {error.colno}"
        if error.msg.startswith("Invalid control character") and rest[:1] != self.text[error.pos : error.pos + 1]:
            reason = "a text does not end in its line"
        if self.text[: error.pos].rstrip().endswith(",") and rest[:1] in ("}", "]"):
            reason = f"has a comma before {rest[:1]!r}"
        return BadFileError(self.file, reason, line=line)

    def _check_surrogates(self, value: object, line: int) -> None:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            found = f"\\u{ord(error.object[error.start]):04x}"
            problem = f"{found} is one half of a character, and the other half is missing"
            raise BadFileError(self.file, problem, line=line) from None


def _cut_line(text: str) -> int | None:
    """Return the line, from 0, behind which another row begins, though the one before has not ended."""
    starts = [i for i, line in enumerate(text.split("\n")) if line.startswith('{"')]
    return starts[1] - 1 if len(starts) > 1 else None
