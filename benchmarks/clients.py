"""What the fetch benchmarks share: a measured process, a store that is far away, and the check of what arrived."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import NamedTuple

import attrs
from tests.servers.tools import build

_LOOK_EVERY = 0.02  # seconds between two looks at a client


class Cost(NamedTuple):
    """What one run of a client took.

    Attributes:
        seconds: of the clock.
        cpu: seconds of processor time, user and system, of the process and its children.
        memory: bytes, the peak of what the process and its children held at once; shared pages count once.
    """

    seconds: float
    cpu: float
    memory: int


@attrs.frozen(kw_only=True)
class Client:
    """One arm.

    Attributes:
        name: what it is called in the table.
        command: from the folder to fetch into to a command line.
        env: variables besides this process's own.
        folder: from the folder to fetch into to the one that then holds the files.
    """

    name: str
    command: Callable[[Path], Sequence[str]]
    env: Mapping[str, str] = attrs.field(factory=dict)
    folder: Callable[[Path], Path] = lambda target: target


def ours(
    scratch: Path,
    provider: str,
    params: Mapping[str, object],
    *,
    slot: str = "model",
    env: Mapping[str, str] | None = None,
) -> Client:
    """Our arm: an init container's step, everything included.

    Args:
        scratch: where its configuration is written.
        provider: the plugin's name.
        params: what the user says to it.
        slot: "model" or "dataset".
        env: variables of the step.
    """
    config = scratch / "config"
    config.mkdir(exist_ok=True)
    distribution = f"tunewright-{provider}"
    about = {
        "api": 1,
        "kind": slot,
        "provider": provider,
        "distribution": distribution,
        "version": version(distribution),
    }
    (config / f"{slot}.json").write_text(json.dumps({**about, "params": dict(params)}), "utf-8")
    return Client(
        name="ours",
        command=lambda _: [sys.executable, "-m", "tunewright_launcher", "fetch", slot],
        env={**(env or {}), "TUNEWRIGHT_CONFIG": str(config), "TUNEWRIGHT_WORKSPACE": "."},
        folder=lambda target: target / slot,
    )


def medians(costs: Mapping[str, Sequence[Cost]], place: str) -> dict[str, float]:
    """Seconds, by "client_place"."""
    return {f"{name}_{place}": median(c.seconds for c in runs) for name, runs in costs.items()}


def run(client: Client, target: Path, expected: Mapping[str, str], *, looked_at: bool = False) -> Cost:
    """Let a client fetch into an empty folder, and check every file afterwards.

    Args:
        client: who fetches.
        target: the folder, which is empty; its files are emptied afterwards.
        expected: relative path → SHA-256 in hexadecimal digits.
        looked_at: whether its memory is looked at, which takes a tenth of a processor; else it is given as 0.

    Raises:
        RuntimeError: it failed, or a file is missing or has other contents.
    """
    os.sync()  # what another arm left in the page cache, this one would have to wait for
    log = target.parent / f"{client.name}.log"
    with log.open("wb") as output:
        began = time.perf_counter()
        env = {**os.environ, **client.env}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # an image holds compiled modules, so all arms may
        process = subprocess.Popen(client.command(target), env=env, stdout=output, stderr=output, cwd=target)
        memory = 0
        while looked_at and not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            memory = max(memory, _memory(process.pid))
            time.sleep(_LOOK_EVERY)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{client.name} failed: {log.read_text('utf-8', errors='replace')[-2000:]}")
    _check(client.folder(target), expected, client.name)
    _empty(target)
    return Cost(seconds, usage.ru_utime + usage.ru_stime, memory)


def _memory(pid: int) -> int:
    """Bytes that a process and its children hold: proportional set sizes; see proc_pid_smaps(5)."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
        children = [c for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]
    except OSError:  # it has ended
        return 0
    own = sum(int(line.split()[1]) << 10 for line in rollup.splitlines() if line.startswith("Pss:"))
    return own + sum(_memory(int(child)) for child in children)


def _check(folder: Path, expected: Mapping[str, str], name: str) -> None:
    for path, digest in expected.items():
        with (folder / path).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise RuntimeError(f"{name} left {path} with other contents than the store has")


def _empty(folder: Path) -> None:
    """Give the space of the files back, and leave them there: see `_spread`."""
    for base, _, names in os.walk(folder):
        for path in (Path(base, name) for name in names):
            if path.is_file() and not path.is_symlink():
                path.chmod(0o600)
                os.truncate(path, 0)


def _spread(folder: Path) -> None:
    """Let ext4 look for each folder in this one for a group of inodes that is as free as can be; see chattr(1), T.

    As long as a file was removed some minutes ago, ext4 does not use its inode again, and passes it by whenever a file is made
    in that group: after some thousands, as an earlier benchmark leaves them, that takes 0.25 ms each time, in place of 0.01 ms
    on a volume that is new as a job's is.
    """
    with contextlib.suppress(OSError):
        subprocess.run(["chattr", "+T", folder], stderr=subprocess.DEVNULL, check=False)


def alternate(
    clients: Sequence[Client], target: Path, expected: Mapping[str, str], repeats: int
) -> dict[str, list[Cost]]:
    """Let all clients fetch in turn, forwards and backwards, so that a busy moment of the machine meets all of them.

    None is always the one after another: after 8 s of `curl | tee | sha256sum`, the next took half as much CPU time again.

    Each has fetched once before, when its memory was looked at.
    """
    target.mkdir(parents=True, exist_ok=True)
    _spread(target)

    def once(client: Client, *, looked_at: bool = False) -> Cost:
        folder = tempfile.mkdtemp(prefix=f"{client.name}-", dir=target)
        return run(client, Path(folder), expected, looked_at=looked_at)

    memory = {client.name: once(client, looked_at=True).memory for client in clients}
    costs: dict[str, list[Cost]] = {client.name: [] for client in clients}
    for number in range(repeats):
        for client in clients if number % 2 else reversed(clients):
            costs[client.name].append(once(client)._replace(memory=memory[client.name]))
    return costs


def table(title: str, costs: Mapping[str, Sequence[Cost]], ours: str) -> dict[str, float]:
    """Print a row for each client; returns how many times faster ours was than each, by the median."""
    print(f"\n{title:28}      s   (least to most)    CPU s   MB peak   times ours")
    ratios = {}
    fastest = median(c.seconds for c in costs[ours])
    for name, runs in costs.items():
        seconds = sorted(c.seconds for c in runs)
        cpu, memory = median(c.cpu for c in runs), max(c.memory for c in runs) / 1e6
        ratios[name] = median(seconds) / fastest
        spread = f"({seconds[0]:.2f} to {seconds[-1]:.2f})"
        print(f"{name:28} {median(seconds):6.2f}   {spread:16} {cpu:6.2f}   {memory:7.0f}   {ratios[name]:8.2f}")
    return {name: ratio for name, ratio in ratios.items() if name != ours}


@contextlib.contextmanager
def far_away(upstream: str, *, delay_ms: int = 20, megabytes_per_second: float = 90) -> Iterator[str]:
    """A proxy in front of a server that waits before each request and limits each connection; gives its URL."""
    program = build("far", Path(__file__).with_name("far.go").absolute())
    command = [str(program), "127.0.0.1:0", upstream, str(delay_ms), str(megabytes_per_second)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield f"http://{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()
