"""`python -m benchmarks.fetch_kaggle`: an archive from a server that stands for Kaggle, ours beside curl and unpacking.

Near is the loopback interface; far, the store adds 20 ms to each request and limits each connection to 90 MB/s. A dataset comes as a zip, a model as a tar.gz, each of about 200 MB: half of it images, which do not become smaller, half
of it tables, which do. curl asks for it as Kaggle's own client does; `unzip`, `tar` and Python's own modules unpack it.
Every file's SHA-256 is checked after each run; ours has also computed them, compared the archive with its MD5 and its
contents with the listing, and flushed it all to the disk, which the others have not. Ratios above 1 mean that we are
faster.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from tests.servers.kaggle import TOKEN, Archive, FakeKaggle, Thing

from benchmarks.clients import Client, alternate, far_away, medians, ours, table
from benchmarks.timing import machine

MB = 1_000_000
DATASET, MODEL = "kaggle://datasets/owner/name/versions/1", "kaggle://models/owner/model/pyTorch/2b/1"
_KINDS = {
    "zip": ("dataset", DATASET, "datasets.DatasetApiService/DownloadDataset"),
    "tar": ("model", MODEL, "models.ModelApiService/DownloadModelInstanceVersion"),
}
_ASKED = {
    "zip": {"ownerSlug": "owner", "datasetSlug": "name", "datasetVersionNumber": 1},
    "tar": {
        "ownerSlug": "owner",
        "modelSlug": "model",
        "framework": "MODEL_FRAMEWORK_PY_TORCH",
        "instanceSlug": "2b",
        "versionNumber": 1,
    },
}
_FORMATS = {"zip": "zip", "tar": "gztar"}
_TOOLS = {"zip": "unzip -q archive", "tar": "tar xzf archive"}


def clients(kind: str, kaggle: Mapping[str, str], scratch: Path) -> list[Client]:
    """Ours, and curl with a program, or with Python, that unpacks; `kaggle` is what leads them to it."""
    slot, uri, method = _KINDS[kind]
    asked = f"-H 'Authorization: Bearer {TOKEN}' -H 'Content-Type: application/json' -d '{json.dumps(_ASKED[kind])}'"
    curl = f"curl -sSfL {asked} http://localhost/api/v1/{method} -o archive"
    python = f'{sys.executable} -c \'import shutil; shutil.unpack_archive("archive", ".", "{_FORMATS[kind]}")\''
    env = {**kaggle, "KAGGLE_API_TOKEN": TOKEN}
    return [
        ours(scratch, "kaggle", {"uri": uri}, slot=slot, env=env),
        Client(
            name=f"curl_{_TOOLS[kind].split()[0]}",
            command=lambda _: ["sh", "-c", f"{curl} && {_TOOLS[kind]}"],
            env=env,
        ),
        Client(name=f"curl_python_{kind}", command=lambda _: ["sh", "-c", f"{curl} && {python}"], env=env),
    ]


def contents(size: int) -> dict[str, bytes]:
    """Files of which an archive has about so many bytes."""
    numbers = random.Random(0)
    rows = [f"{i},{numbers.random():.6f},{numbers.choice('abcdefgh')},2026-01-{i % 28 + 1:02}\n" for i in range(20_000)]
    files = {f"images/{i:03}.jpg": hashlib.shake_128(bytes([i])).digest(size // 100) for i in range(50)}
    table_size = size * 5 // 4 // 10  # a table becomes 2.5 times smaller
    for number in range(10):
        numbers.shuffle(rows)
        whole = "".join(rows).encode()
        files[f"tables/{number}.csv"] = (whole * (table_size // len(whole) + 1))[:table_size]
    return files


def serve(size: int, connection: Connection) -> None:
    """Be Kaggle, in a process of its own: what measures should not wait for what serves."""
    files = contents(size)
    with FakeKaggle() as kaggle:
        kaggle.things["datasets/owner/name"] = Thing(archives={1: Archive.zipped(files)})
        kaggle.things["models/owner/model/pytorch/2b"] = Thing(archives={1: Archive.tarred(files)})
        digests = {path: hashlib.sha256(body).hexdigest() for path, body in files.items()}
        connection.send((kaggle.environment, kaggle.store.url, digests))
        with contextlib.suppress(EOFError):
            while True:
                kaggle.store.public_url = connection.recv()


def measure(*, size: int, repeats: int) -> dict[str, object]:
    """All arms, near and far; prints the tables."""
    seconds: dict[str, float] = {}
    ratios: dict[str, float] = {}
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(size, there), daemon=True)
    server.start()
    try:
        kaggle, store, expected = here.recv()
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, far_away(store) as far:
            for where, address in (("near", None), ("far", far)):
                here.send(address)
                for kind in _KINDS:
                    arms = clients(kind, kaggle, Path(folder))
                    costs = alternate(arms, Path(folder, "targets"), expected, repeats)
                    found = table(f"kaggle, {where}, {kind}", costs, "ours")
                    ratios |= {f"{name}_{where}": ratio for name, ratio in found.items()}
                    seconds |= medians(costs, f"{kind}_{where}")
    finally:
        server.kill()
    return {"medians": seconds, "ratios": ratios}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--size", type=int, default=200, help="MB of an archive")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    settings: Mapping[str, object] = {**machine(), "size_mb": options.size, "repeats": options.repeats}
    found = measure(size=options.size * MB, repeats=options.repeats)
    if options.json:
        print(json.dumps({"settings": settings, **found}))


if __name__ == "__main__":
    main()
