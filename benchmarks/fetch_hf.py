"""`python -m benchmarks.fetch_hf`: from a Hub, near and far, ours beside huggingface_hub's snapshot_download.

A model of 400 MB in LFS and 1,000 plain files of 100 KB, in one commit. Near is the loopback interface; far adds 20 ms to each
request and limits each connection to 90 MB/s, to the Hub and to the store that it redirects to. Every file's SHA-256 is
checked after each run. The Hub is a process of its own, in Python: its processor time is told, too. Ratios above 1 mean that
we are faster.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
from tests.servers.git import Lfs
from tests.servers.hub import File, Hub
from tests.servers.tools import Missing

from benchmarks.clients import Client, alternate, far_away, medians, ours, table
from benchmarks.timing import machine

NAME = "org/model"
MB = 1_000_000
SMALL = 100_000

_SNAPSHOT_DOWNLOAD = """
import sys
from huggingface_hub import snapshot_download
snapshot_download(sys.argv[1], endpoint=sys.argv[2], local_dir=sys.argv[3], token=False)
"""


@attrs.frozen
class Running:
    """A Hub in another process.

    Attributes:
        hub: its URL.
        store: the URL of its store.
        process: the process, which takes a line with the URL that clients see the store at.
    """

    hub: str
    store: str
    process: subprocess.Popen[str]

    def show_store_at(self, url: str) -> None:
        """Redirect clients to this URL of the store."""
        assert self.process.stdin
        self.process.stdin.write(f"{url}\n")
        self.process.stdin.flush()

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def contents(large: int, small: int) -> Iterator[tuple[str, bytes]]:
    """The files. Different contents cost nothing to make: a counter, stretched."""
    for path, size in [("model.safetensors", large), *((f"data/{i:06}.json", SMALL) for i in range(small))]:
        yield path, hashlib.shake_128(path.encode()).digest(size)


def serve(large: int, small: int) -> None:
    """Be the Hub: print its URLs and the files' digests, and then do as the lines of standard input say."""
    files: dict[str, File] = {p: Lfs(c) if len(c) > SMALL else c for p, c in contents(large, small)}
    with Hub() as hub:
        hub.repo(NAME, files)
        digests = {p: f.oid if isinstance(f, Lfs) else hashlib.sha256(f).hexdigest() for p, f in files.items()}
        print(json.dumps({"hub": hub.url, "store": hub.store.url, "digests": digests}), flush=True)
        for line in sys.stdin:
            hub.store.seen_at = line.strip()


@contextlib.contextmanager
def running(large: int, small: int) -> Iterator[tuple[Running, Mapping[str, str]]]:
    """A Hub with the files, and their digests."""
    command = [sys.executable, "-m", "benchmarks.fetch_hf", "--serve", "--large", str(large), "--small", str(small)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        said = json.loads(process.stdout.readline())
        yield Running(said["hub"], said["store"], process), said["digests"]
    finally:
        process.stdin.close()
        process.wait()


@contextlib.contextmanager
def seen_from(place: str, server: Running) -> Iterator[str]:
    """The Hub's URL, near or far; its store is as far away."""
    if place == "near":
        server.show_store_at(server.store)
        yield server.hub
    else:
        with far_away(server.hub) as hub, far_away(server.store) as store:
            server.show_store_at(store)
            yield hub


def clients(endpoint: str, scratch: Path) -> list[Client]:
    """Ours, and huggingface_hub's as it is."""
    return [
        ours(scratch, "hf", {"uri": f"hf://{NAME}", "endpoint": endpoint}),
        Client(
            name="snapshot_download",
            command=lambda target: [sys.executable, "-c", _SNAPSHOT_DOWNLOAD, NAME, endpoint, str(target)],
            env={"HF_HOME": str(scratch / "hf")},
        ),
    ]


def measure(places: Sequence[str], *, large: int, small: int, repeats: int) -> dict[str, object]:
    """Both arms at all places; prints the tables.

    Raises:
        Missing: a program that it needs is not here.
    """
    seconds: dict[str, float] = {}
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, running(large // MB, small) as (server, expected):
        scratch = Path(folder)
        for place in places:
            before = server.cpu
            with seen_from(place, server) as endpoint:
                costs = alternate(clients(endpoint, scratch), scratch / "targets", expected, repeats)
            found = table(f"hf, {place}", costs, "ours")
            runs = sum(len(c) for c in costs.values())
            print(f"the Hub itself: {(server.cpu - before) / runs:.2f} s of processor time a run")
            seconds |= medians(costs, place)
            ratios |= {f"{name}_{place}": ratio for name, ratio in found.items()}
    return {"medians": seconds, "ratios": ratios}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--near", action="store_true", help="only near")
    parser.add_argument("--far", action="store_true", help="only far")
    parser.add_argument("--large", type=int, default=400, help="MB of the large file")
    parser.add_argument("--small", type=int, default=1000, help="number of small files")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        return serve(options.large * MB, options.small)
    places = [p for p in ("near", "far") if getattr(options, p)] or ["near", "far"]
    about = {"large_mb": options.large, "small": options.small, "repeats": options.repeats}
    settings: Mapping[str, object] = {**machine(), **about}
    try:
        found = measure(places, large=options.large * MB, small=options.small, repeats=options.repeats)
    except Missing as missing:
        sys.exit(f"It cannot be measured here: {missing}.")
    if options.json:
        print(json.dumps({"settings": settings, **found}))
    return None


if __name__ == "__main__":
    main()
