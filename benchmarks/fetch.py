"""`python -m benchmarks.fetch`: from a real S3 server, ours beside s5cmd and the loop of kubeflow-training 1.9.

One object of 400 MB and 1,000 of 100 KB. Near is the loopback interface; far adds 20 ms to each request and limits each
connection to 90 MB/s. s5cmd also runs as one would tune it for such a link: parts of 8 MiB, 32 at once. Every file's SHA-256
is checked after each run. Ratios above 1 mean that we are faster.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.servers.s3 import ACCESS_KEY, REGION, SECRET_KEY, Gateway
from tests.servers.tools import Missing, tool

from benchmarks.clients import Client, alternate, far_away, medians, ours, table
from benchmarks.timing import machine

BUCKET, PREFIX = "bench", "model"
MB = 1_000_000

# What kubeflow-training 1.9's storage initialiser does, for a prefix: one object after another.
_SDK_1_9 = """
import os, sys
import boto3
endpoint, bucket, prefix, folder = sys.argv[1:]
found = boto3.Session().resource("s3", endpoint_url=endpoint).Bucket(bucket)
for item in found.objects.filter(Prefix=prefix):
    target = os.path.join(folder, os.path.relpath(item.key, prefix))
    os.makedirs(os.path.dirname(target), exist_ok=True)
    found.download_file(item.key, target)
"""


def clients(endpoint: str, gateway: Gateway, scratch: Path) -> list[Client]:
    """Ours, and those that it is measured against."""
    params = {"uri": f"s3://{BUCKET}/{PREFIX}", "endpoint_url": endpoint, "addressing_style": "path"}
    source = f"s3://{BUCKET}/{PREFIX}/*"

    def s5cmd(name: str, *options: str) -> Client:
        command = [str(tool("s5cmd")), "--endpoint-url", endpoint, "cp", *options, source]
        return Client(name=name, command=lambda target: [*command, f"{target}/"], env=gateway.env)

    return [
        ours(scratch, "s3", params, env=gateway.env),
        s5cmd("s5cmd"),
        s5cmd("s5cmd_tuned", "-c", "32", "-p", "8"),
        Client(
            name="sdk_1_9",
            command=lambda target: [sys.executable, "-c", _SDK_1_9, endpoint, BUCKET, PREFIX, str(target)],
            env=gateway.env,
        ),
    ]


def fill(endpoint: str, *, large: int, small: int, size: int) -> dict[str, str]:
    """Put the objects into the bucket; returns relative path → SHA-256."""
    import boto3
    from botocore.config import Config

    digests = {}
    session = boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)
    store = session.client("s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"}))
    store.create_bucket(Bucket=BUCKET)
    for path, length in [("large.bin", large), *((f"small/{i:06}.bin", size) for i in range(small))]:
        # Different contents cost nothing to make: a counter, stretched.
        body = hashlib.shake_128(path.encode()).digest(length)
        digests[path] = hashlib.sha256(body).hexdigest()
        with tempfile.SpooledTemporaryFile(max_size=2 * large) as file:
            file.write(body)
            file.seek(0)
            store.upload_fileobj(file, BUCKET, f"{PREFIX}/{path}")
    return digests


@contextlib.contextmanager
def seen_from(where: str, gateway: Gateway) -> Iterator[str]:
    """The server's URL, near or far."""
    if where == "near":
        yield gateway.url
    else:
        with far_away(gateway.url) as url:
            yield url


def measure(
    places: Sequence[str], *, large: int, small: int, size: int, repeats: int, skip: Sequence[str]
) -> dict[str, object]:
    """All arms at all places; prints the tables.

    Raises:
        Missing: a program that it needs is not here.
    """
    ratios: dict[str, float] = {}
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        scratch = Path(folder)
        with Gateway(scratch / "store") as gateway:
            expected = fill(gateway.url, large=large, small=small, size=size)
            for place in places:
                with seen_from(place, gateway) as endpoint:
                    arms = [c for c in clients(endpoint, gateway, scratch) if c.name not in skip]
                    costs = alternate(arms, scratch / "targets", expected, repeats)
                found = table(f"s3, {place}", costs, "ours")
                ratios |= {f"{name}_{place}": ratio for name, ratio in found.items()}
                seconds |= medians(costs, place)
    return {"medians": seconds, "ratios": ratios}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--near", action="store_true", help="only near")
    parser.add_argument("--far", action="store_true", help="only far")
    parser.add_argument("--large", type=int, default=400, help="MB of the large object")
    parser.add_argument("--small", type=int, default=1000, help="number of small objects")
    parser.add_argument("--size", type=int, default=100_000, help="bytes of each small object")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--skip", nargs="*", default=(), help="arms to leave out")
    options = parser.parse_args(arguments)
    places = [p for p in ("near", "far") if getattr(options, p)] or ["near", "far"]
    settings: Mapping[str, object] = {
        **machine(),
        "large_mb": options.large,
        "small": options.small,
        "size": options.size,
        "repeats": options.repeats,
    }
    try:
        found = measure(
            places,
            large=options.large * MB,
            small=options.small,
            size=options.size,
            repeats=options.repeats,
            skip=options.skip,
        )
    except Missing as missing:
        sys.exit(f"It cannot be measured here: {missing}.")
    if options.json:
        print(json.dumps({"settings": settings, **found}))


if __name__ == "__main__":
    main()
