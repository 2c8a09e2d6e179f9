"""`python -m benchmarks.fetch_no_ranges`: one large file from a web server that ignores ranges, ours beside a plain GET.

The server is Python's own, near. The plain GET writes the file and computes its SHA-256, in one loop of Python, and, where there is
curl, by `curl | tee | sha256sum`, in three processes. Nothing is asked of either but the file: no digests, no flush, no marker. Ratios
above 1 mean that we are faster.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.servers.web import Web

from benchmarks.clients import Client, alternate, medians, ours, table
from benchmarks.timing import machine

MB = 1_000_000
NAME = "model.safetensors"

_GET = """
import hashlib, sys, urllib.request
digest, buffer = hashlib.sha256(), memoryview(bytearray(1 << 20))
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
with opener.open(sys.argv[1]) as answer, open(sys.argv[2], "wb") as file:
    while count := answer.readinto(buffer):
        digest.update(buffer[:count])
        file.write(buffer[:count])
print(digest.hexdigest())
"""
_CURL = 'set -o pipefail; curl --silent --show-error --noproxy "*" "$0" | tee "$1" | sha256sum'


def clients(url: str, digest: str, scratch: Path) -> Iterator[Client]:
    """Yield ours, and plain ones."""
    yield ours(scratch, "http", {"uri": url, "sha256": digest})
    yield Client(name="get", command=lambda target: [sys.executable, "-c", _GET, url, str(target / NAME)])
    if shutil.which("curl"):
        yield Client(name="curl", command=lambda target: ["bash", "-c", _CURL, url, str(target / NAME)])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--large", type=int, default=1000, help="MB of the file")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        scratch = Path(folder)
        served = scratch / "served"
        served.mkdir()
        with (served / NAME).open("wb") as file:
            for part in range(options.large):
                file.write(hashlib.shake_128(b"%d" % part).digest(MB))
        with (served / NAME).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with Web(served, "http.server") as server:
            arms = list(clients(f"{server.url}/{NAME}", digest, scratch))
            costs = alternate(arms, scratch / "targets", {NAME: digest}, options.repeats)
    ratios = table("a server without ranges, near", costs, "ours")
    if options.json:
        settings = {**machine(), "large_mb": options.large, "repeats": options.repeats}
        print(json.dumps({"settings": settings, "medians": medians(costs, "near"), "ratios": ratios}))


if __name__ == "__main__":
    main()
