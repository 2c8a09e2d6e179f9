"""`python -m benchmarks.upload`: to a real S3 server, ours beside `aws s3 cp` and s5cmd.

A result of one file of 400 MB and 20 small ones. Near is the loopback interface; far adds 20 ms to each request and limits each
connection to 90 MB/s. Ours is the command that a job ends with: it looks at what lies there, uploads, verifies, and writes the
marker last. The SHA-256 of every object is checked after each run. Ratios above 1 mean that we are faster. `--aws PROGRAM` names
the AWS CLI (`pip install awscli awscrt` into an environment of its own); it is measured with its classic client and with CRT's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

import attrs
from tests.servers.s3 import Gateway
from tests.servers.tools import Missing, tool

from benchmarks.clients import Cost, table
from benchmarks.fetch import seen_from
from benchmarks.timing import machine

BUCKET = "bench"
MB = 1_000_000


@attrs.frozen(kw_only=True)
class Arm:
    """Who uploads.

    Attributes:
        name: what it is called in the table.
        command: what it runs; the folder and the object's prefix are known by then.
        env: variables besides this process's own.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str]


def write_result(folder: Path, large: int) -> dict[str, str]:
    """Write a result; returns relative path → SHA-256."""
    digests = {}
    for path, size in [("model.safetensors", large), *((f"part-{n}.json", 10_000) for n in range(20))]:
        body = hashlib.shake_128(path.encode()).digest(size)
        (folder / path).write_bytes(body)
        digests[path] = hashlib.sha256(body).hexdigest()
    return digests


def arms(endpoint: str, gateway: Gateway, result: Path, scratch: Path, aws: Path | None) -> Iterator[Arm]:
    """Yield ours first; each uploads below its own name."""
    config = scratch / "config"
    config.mkdir(exist_ok=True)
    params = {"uri": f"s3://{BUCKET}/ours", "endpoint_url": endpoint, "addressing_style": "path"}
    about = {
        "api": 1,
        "kind": "model",
        "provider": "s3",
        "distribution": "tunewright-s3",
        "version": version("tunewright-s3"),
    }
    (config / "output.json").write_text(json.dumps({**about, "params": params}), "utf-8")
    env = {"TUNEWRIGHT_CONFIG": str(config), "TUNEWRIGHT_WORKSPACE": str(scratch)}
    ours = [sys.executable, "-m", "tunewright_launcher", "upload", str(result)]
    yield Arm(name="ours", command=ours, env={**gateway.env, **env})
    copy = ["-c", "32", f"{result}/*", f"s3://{BUCKET}/s5cmd/"]
    yield Arm(name="s5cmd", command=[str(tool("s5cmd")), "--endpoint-url", endpoint, "cp", *copy], env=gateway.env)
    for client in ("classic", "crt") if aws else ():
        settings = scratch / f"aws-{client}"
        settings.write_text(
            f"[default]\ns3 =\n  addressing_style = path\n  preferred_transfer_client = {client}\n", "utf-8"
        )
        words = ["s3", "cp", "--recursive", "--only-show-errors", str(result), f"s3://{BUCKET}/aws_{client}/"]
        command = [str(aws), "--endpoint-url", endpoint, *words]
        yield Arm(name=f"aws_{client}", command=command, env={**gateway.env, "AWS_CONFIG_FILE": str(settings)})


def timed(arm: Arm) -> Cost:
    """Let an arm upload.

    Raises:
        RuntimeError: it failed.
    """
    env = {**os.environ, **arm.env}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.perf_counter()
    process = subprocess.Popen(arm.command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{arm.name} failed: {said[-2000:]}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10)


def run(arm: Arm, store: Path, expected: Mapping[str, str]) -> Cost:
    """Let an arm upload to where nothing is, and check every object afterwards.

    Raises:
        RuntimeError: it failed, or an object is missing or has other contents.
    """
    folder = store / BUCKET / arm.name
    shutil.rmtree(folder, ignore_errors=True)
    cost = timed(arm)
    for path, digest in expected.items():
        with (folder / path).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise RuntimeError(f"{arm.name} left {path} with other contents than the result has")
    return cost


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--aws", type=Path, help="the AWS CLI")
    parser.add_argument("--large", type=int, default=400, help="MB of the large file")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        scratch = Path(folder)
        result = scratch / "result"
        result.mkdir()
        # In a process of its own: a child's peak memory is never counted below its parent's.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            expected = pool.submit(write_result, result, options.large * MB).result()
        try:
            with Gateway(scratch / "store") as gateway:
                gateway.client().create_bucket(Bucket=BUCKET)
                for place in ("near", "far"):
                    with seen_from(place, gateway) as endpoint:
                        costs: dict[str, list[Cost]] = {}
                        for _ in range(options.repeats):
                            for arm in arms(endpoint, gateway, result, scratch, options.aws):
                                costs.setdefault(arm.name, []).append(run(arm, scratch / "store" / "data", expected))
                    ratios |= {f"{n}_{place}": r for n, r in table(f"uploads to s3, {place}", costs, "ours").items()}
        except Missing as missing:
            sys.exit(f"It cannot be measured here: {missing}.")
    if options.json:
        print(json.dumps({"settings": {**machine(), "large_mb": options.large}, "ratios": ratios}))


if __name__ == "__main__":
    main()
