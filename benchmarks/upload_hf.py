"""`python -m benchmarks.upload_hf`: to a Hub, near and far, ours beside `hf upload`.

A result of one file of 400 MB in LFS and 20 small ones, into a repository without a result. Near is the loopback interface; far adds 20 ms
to each request and limits each connection to 90 MB/s, to the Hub and to its store. Ours is the command that a job ends with: it looks at
what lies there, uploads, and compares the commit with the files. The digests that the Hub then has are checked after each run. The Hub is a
process of its own, in Python, without Xet. Ratios above 1 mean that we are faster.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

import attrs
from tests.servers.hub import Hub

from benchmarks.clients import Cost, far_away, table
from benchmarks.timing import machine
from benchmarks.upload import MB, Arm, timed, write_result

NAME, TOKEN = "org/result", "hf_benchmark"


@attrs.frozen
class Running:
    """A Hub in another process, which answers lines with lines.

    Attributes:
        hub: its URL.
        store: the URL of its store.
    """

    hub: str
    store: str
    _process: subprocess.Popen[str]

    def empty(self, store: str) -> None:
        """Begin with a repository without files, and show clients the store at that URL."""
        self._say({"store": store})

    def digests(self) -> Mapping[str, str]:
        """Path → SHA-256 of what the repository has."""
        return self._say({})

    def _say(self, line: Mapping[str, str]) -> Mapping[str, str]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{json.dumps(line)}\n")
        self._process.stdin.flush()
        found: Mapping[str, str] = json.loads(self._process.stdout.readline())
        return found


def serve() -> None:
    """Be the Hub: print its URLs, and then do as the lines of standard input say."""
    with Hub() as hub:
        hub.tokens[TOKEN] = "write"
        print(json.dumps({"hub": hub.url, "store": hub.store.url}), flush=True)
        for line in sys.stdin:
            if store := json.loads(line).get("store"):
                hub.store.seen_at = store
                hub.store.objects.clear()
                hub.models.pop(NAME, None)
                hub.repo(NAME, {".gitattributes": b"*.safetensors filter=lfs\n"}, members={TOKEN})
            contents = hub.models[NAME].contents.items()
            print(json.dumps({path: hashlib.sha256(body).hexdigest() for path, body in contents}), flush=True)


@contextlib.contextmanager
def running() -> Iterator[Running]:
    """Run a Hub."""
    command = [sys.executable, "-m", "benchmarks.upload_hf", "--serve"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        said = json.loads(process.stdout.readline())
        yield Running(said["hub"], said["store"], process)
    finally:
        process.stdin.close()
        process.wait()


def arms(endpoint: str, result: Path, scratch: Path) -> list[Arm]:
    """Return ours first."""
    config = scratch / "config"
    config.mkdir(exist_ok=True)
    params = {"uri": f"hf://{NAME}", "endpoint": endpoint}
    about = {
        "api": 1,
        "kind": "model",
        "provider": "hf",
        "distribution": "tunewright-hf",
        "version": version("tunewright-hf"),
    }
    (config / "output.json").write_text(json.dumps({**about, "params": params}), "utf-8")
    env = {
        "HF_HOME": str(scratch / "hf"),
        "HF_TOKEN": TOKEN,
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    step = {"TUNEWRIGHT_CONFIG": str(config), "TUNEWRIGHT_WORKSPACE": str(scratch)}
    ours = [sys.executable, "-m", "tunewright_launcher", "upload", str(result)]
    theirs = [str(Path(sys.executable).with_name("hf")), "upload", NAME, str(result), "."]
    return [Arm(name="ours", command=ours, env={**env, **step}), Arm(name="hf_upload", command=theirs, env=env)]


def run(arm: Arm, server: Running, store: str, expected: Mapping[str, str]) -> Cost:
    """Let an arm upload into an empty repository, and check it afterwards.

    Raises:
        RuntimeError: it failed, or a file is missing or has other contents.
    """
    server.empty(store)
    cost = timed(arm)
    if not expected.items() <= server.digests().items():
        raise RuntimeError(f"{arm.name} left other contents than the result has")
    return cost


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--large", type=int, default=400, help="MB of the large file")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, running() as server, contextlib.ExitStack() as far:
        scratch = Path(folder)
        result = scratch / "result"
        result.mkdir()
        # In a process of its own: a child's peak memory is never counted below its parent's.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            expected = pool.submit(write_result, result, options.large * MB).result()
        away = far.enter_context(far_away(server.hub)), far.enter_context(far_away(server.store))
        for place, (hub, store) in {"near": (server.hub, server.store), "far": away}.items():
            costs: dict[str, list[Cost]] = {}
            for _ in range(options.repeats):
                for arm in arms(hub, result, scratch):
                    costs.setdefault(arm.name, []).append(run(arm, server, store, expected))
            ratios |= {f"{name}_{place}": r for name, r in table(f"uploads to a Hub, {place}", costs, "ours").items()}
    if options.json:
        print(json.dumps({"settings": {**machine(), "large_mb": options.large}, "ratios": ratios}))


if __name__ == "__main__":
    main()
