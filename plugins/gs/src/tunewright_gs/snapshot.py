"""The objects below a `gs://` URI, as a snapshot for the fetch engine."""

from __future__ import annotations

from collections.abc import Callable

from tunewright.providers import Entry
from tunewright_gs.bucket import Bucket
from tunewright_launcher.http import Headers, HttpRequest
from tunewright_launcher.objects import ObjectSnapshot


class GSSnapshot(ObjectSnapshot):
    """The object with a name, or the objects below it as a folder, each in the generation that was listed.

    Args:
        bucket: the bucket.
        prefix: the name; "" for the whole bucket.
        selects: returns whether to fetch a relative path.
    """

    def __init__(self, bucket: Bucket, prefix: str, selects: Callable[[str], bool] = lambda _: True) -> None:
        super().__init__(bucket, prefix, selects)
        self._bucket = bucket

    def request(self, entry: Entry) -> HttpRequest:
        """Return a GET for the generation that was listed."""
        return self._bucket.get(entry.source, entry.validator)

    def is_other(self, entry: Entry, headers: Headers) -> bool:
        """See `HttpSnapshot.is_other`."""
        found = headers.get("x-goog-generation")
        return None not in (found, entry.validator) and found != entry.validator
