"""Responses that are compressed for the way, though the request asked for the file as it is; see RFC 9110, 8.4."""

from __future__ import annotations

import http.client
import zlib

from tunewright.errors import ExitCode, FetchError
from tunewright_launcher.answers import size_of
from tunewright_launcher.connection import Response

_BLOCK = 64 << 10
# The last is no coding of what is stored: some S3 stores repeat what an upload had.
_NONE = ("", "identity", "aws-chunked")
_GZIP = ("gzip", "x-gzip", "deflate")


def coding_of(response: http.client.HTTPResponse) -> str:
    """Return how a response is compressed; "" if it is not."""
    coding = (response.getheader("Content-Encoding") or "").strip().lower()
    stored = (response.getheader("X-Goog-Stored-Content-Encoding") or "").strip().lower()
    return "" if coding in (*_NONE, stored) else coding


def is_encoded(response: http.client.HTTPResponse, size: int) -> bool:
    """Return whether a response is compressed for the way, and not a file of that size that is stored so, as one of S3 may be."""
    return bool(coding_of(response)) and size_of(response) != size


def decoded(response: Response, what: str) -> Decoded:
    """Return a response without its compression.

    Raises:
        FetchError: BAD_DATA: it is of another kind than gzip.
    """
    if (coding := coding_of(response)) not in _GZIP:
        cause = f"{what} is sent compressed with {coding}, though it was asked for as it is."
        remedy = "Have the server, or a proxy before it, send files as they are."
        raise FetchError(cause, remedy=remedy, code=ExitCode.BAD_DATA)
    return Decoded(response)


class Decoded:
    """The contents of a response that is compressed with gzip or zlib, with the methods of a response that readers use."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._rest = b""
        self._ended = False
        self._member = _member()

    def isclosed(self) -> bool:
        """Return whether the contents were read to their end."""
        return self._ended

    def readinto1(self, buffer: memoryview | bytearray, /) -> int:
        """Read into the buffer what a piece of the response holds; return 0 at the end.

        Raises:
            http.client.HTTPException: the response is cut off, or not compressed as it says.
        """
        while not self._ended:
            piece = self._rest or self._response.read1(_BLOCK)
            if data := self._inflated(piece, len(buffer)):
                buffer[: len(data)] = data
                return len(data)
        return 0

    readinto = readinto1

    def _inflated(self, piece: bytes, most: int) -> bytes:
        if self._member.eof:  # another may follow
            self._ended = not piece
            self._member = self._member if self._ended else _member()
        elif not piece:
            raise http.client.HTTPException("the compressed data ends early")
        if self._ended:
            return b""
        try:
            data = self._member.decompress(piece, most)
        except zlib.error as error:
            raise http.client.HTTPException(f"the compressed data is damaged: {error}") from error
        self._rest = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        return data


def _member() -> zlib._Decompress:
    return zlib.decompressobj(zlib.MAX_WBITS | 32)  # of gzip or of zlib, whichever it is
