"""`python -m benchmarks.fetch_stores`: the same files from four kinds of stores that are far away, each by our plugin for it.

One object of 200 MB and 500 of 100 KB on versitygw (s3), fake-gcs-server (gs), Azurite (az) and aiohttp (http), with 20 ms to each request
and 90 MB/s a connection. Azurite takes several times as long as the others for the same bytes, so `az_aiohttp` is Azure's API as far
as a download needs it, on aiohttp. Every file's SHA-256 is checked after each run. `times ours` is the time over that of s3. The servers differ:
their own time for a whole GET of the large object, near, is printed before.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs
from tests.servers.azure import ACCOUNT, CONTAINER, KEY, Azurite
from tests.servers.gcs import BUCKET as GOOGLE
from tests.servers.gcs import GoogleStorage
from tests.servers.s3 import BUCKET, REGION, Gateway
from tests.servers.tools import Missing
from tests.servers.web import Web

from benchmarks.clients import Client, alternate, far_away, medians, ours, table
from benchmarks.timing import machine

PREFIX = "model"
MB = 1_000_000

# Azure's API as far as a download needs it, over the folder that aiohttp serves: a listing, and the blobs.
_AZURE_API = """
import asyncio, base64, hashlib, pathlib, sys
from aiohttp import web
root = pathlib.Path(sys.argv[1])

def about(path):
    md5 = base64.b64encode(hashlib.md5(path.read_bytes()).digest()).decode()
    fields = f"<Content-Length>{path.stat().st_size}</Content-Length><Content-MD5>{md5}</Content-MD5>"
    return f"<Blob><Name>{path.relative_to(root)}</Name><Properties>{fields}</Properties></Blob>"

async def main():
    blobs = "".join(about(path) for path in sorted(root.rglob("*.bin")))
    listing = f"<EnumerationResults><Blobs>{blobs}</Blobs></EnumerationResults>"
    app = web.Application()
    app.router.add_get("/account/container", lambda _: web.Response(text=listing, content_type="application/xml"))
    app.router.add_static("/account/container/", root)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print("port", runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""

Put = Callable[[str, bytes], object]


@attrs.frozen(kw_only=True)
class Arm:
    """A store.

    Attributes:
        name: the plugin's, and what runs it after a "_".
        url: the store's own.
        params: what the user says, given the URL that is far away.
        env: variables of the step.
        large: the URL of the large object, for a plain GET; "" where that needs a signature.
    """

    name: str
    url: str
    params: Callable[[str], Mapping[str, object]]
    env: Mapping[str, str] = attrs.field(factory=dict)
    large: str = ""


def bodies(large: int, small: int) -> Iterator[tuple[str, bytes]]:
    """Yield the files; different contents cost nothing to make: a counter, stretched."""
    for path, size in [("large.bin", large), *((f"small/{i:06}.bin", 100_000) for i in range(small))]:
        yield path, hashlib.shake_128(path.encode()).digest(size)


@contextlib.contextmanager
def stores(scratch: Path, large: int, small: int) -> Iterator[tuple[list[Arm], dict[str, str]]]:
    """Run all stores, filled; yield them, and relative path → SHA-256."""
    for name in ("s3", "azurite", "web"):
        (scratch / name).mkdir()
    with contextlib.ExitStack() as stack:
        gateway = stack.enter_context(Gateway(scratch / "s3"))
        google = stack.enter_context(GoogleStorage())
        azurite = stack.enter_context(Azurite(scratch / "azurite"))
        web = stack.enter_context(Web(scratch / "web", "aiohttp"))

        def serve(path: str, body: bytes) -> None:
            file = scratch / "web" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body)

        expected = {}
        for path, body in bodies(large, small):
            expected[path] = hashlib.sha256(body).hexdigest()
            puts: list[Put] = [gateway.put, google.put, azurite.put, serve]
            for put in puts:
                put(f"{PREFIX}/{path}", body)
        sums = "".join(f"{digest}  {path}\n" for path, digest in expected.items())
        serve(f"{PREFIX}/SHA256SUMS", sums.encode())
        azure = stack.enter_context(Web(scratch / "web", ["-c", _AZURE_API]))
        yield [_s3(gateway), _gs(google), _az(azurite), _az_aiohttp(azure), _http(web)], expected


def _s3(gateway: Gateway) -> Arm:
    about = {"uri": f"s3://{BUCKET}/{PREFIX}", "region": REGION, "addressing_style": "path"}
    return Arm(name="s3", url=gateway.url, params=lambda url: {**about, "endpoint_url": url}, env=gateway.env)


def _gs(google: GoogleStorage) -> Arm:
    about = {"uri": f"gs://{GOOGLE}/{PREFIX}", "anonymous": True}
    large = f"{google.url}/storage/v1/b/{GOOGLE}/o/{PREFIX}%2Flarge.bin?alt=media"
    return Arm(name="gs", url=google.url, params=lambda url: {**about, "endpoint": url}, large=large)


def _az(azurite: Azurite) -> Arm:
    about = {"uri": f"az://{CONTAINER}/{PREFIX}", "account": ACCOUNT}
    large = f"{azurite.endpoint}/{CONTAINER}/{PREFIX}/large.bin?{azurite.signature()}"
    root = azurite.endpoint.removesuffix(f"/{ACCOUNT}")
    params = lambda url: {**about, "endpoint": f"{url}/{ACCOUNT}"}  # noqa: E731 - as the others
    return Arm(name="az", url=root, params=params, env={"AZURE_STORAGE_KEY": KEY}, large=large)


def _az_aiohttp(azure: Web) -> Arm:
    about = {"uri": f"az://container/{PREFIX}", "account": "account", "anonymous": True}
    params = lambda url: {**about, "endpoint": f"{url}/account"}  # noqa: E731 - as the others
    large = f"{azure.url}/account/container/{PREFIX}/large.bin"
    return Arm(name="az_aiohttp", url=azure.url, params=params, large=large)


def _http(web: Web) -> Arm:
    large = f"{web.url}/{PREFIX}/large.bin"
    return Arm(name="http", url=web.url, params=lambda url: {"uri": f"{url}/{PREFIX}/"}, large=large)


def plain_get(url: str) -> float:
    """Return the seconds of a whole GET."""
    began = time.perf_counter()
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=60) as answer:
        while answer.read(1 << 20):
            pass
    return time.perf_counter() - began


def measure(*, large: int, small: int, repeats: int) -> dict[str, object]:
    """All arms, far; prints the table.

    Raises:
        Missing: a program that it needs is not here.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, contextlib.ExitStack() as stack:
        scratch = Path(folder)
        arms, expected = stack.enter_context(stores(scratch, large, small))
        gets = {arm.name: min(plain_get(arm.large) for _ in range(3)) for arm in arms if arm.large}
        print("a plain GET, near:", ", ".join(f"{name} {seconds:.2f} s" for name, seconds in gets.items()))
        clients: list[Client] = []
        for arm in arms:
            url = stack.enter_context(far_away(arm.url))
            (own := scratch / f"step-{arm.name}").mkdir()
            clients.append(
                attrs.evolve(ours(own, arm.name.partition("_")[0], arm.params(url), env=arm.env), name=arm.name)
            )
        costs = alternate(clients, scratch / "targets", expected, repeats)
        found = table("four stores, far", costs, "s3")
    return {"medians": medians(costs, "far"), "ratios": {f"{name}_far": ratio for name, ratio in found.items()}}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--large", type=int, default=200, help="MB of the large object")
    parser.add_argument("--small", type=int, default=500, help="number of small objects")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    settings = {**machine(), "large_mb": options.large, "small": options.small, "repeats": options.repeats}
    try:
        found = measure(large=options.large * MB, small=options.small, repeats=options.repeats)
    except Missing as missing:
        sys.exit(f"It cannot be measured here: {missing}.")
    if options.json:
        print(json.dumps({"settings": settings, **found}))


if __name__ == "__main__":
    main()
