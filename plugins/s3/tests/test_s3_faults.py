"""A store, or what lies between, that misbehaves: the right data, or no marker and an exit code that says why."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.servers.faulty import Fault
from tests.servers.s3 import ACCESS_KEY, SECRET_KEY, Gateway, S3Proxy

from tunewright import ExitCode, FetchError
from tunewright.providers import wire
from tunewright.providers.limits import FetchLimits
from tunewright.providers.wire import WireDocument
from tunewright_launcher.fetch import fetch_into
from tunewright_s3 import S3ModelParams

MIB = 1 << 20
LARGE = random.Random(2).randbytes(17 * MIB + 5)
LIMITS = FetchLimits(connections=4, stall=1, tries=4)

Source = Callable[..., S3ModelParams]


@pytest.fixture(scope="module")
def files(gateway: Gateway) -> dict[str, bytes]:
    """One object in parts, one large and some small ones, below `faults/`."""
    contents = {f"small/{i}": random.Random(i).randbytes(30_000) for i in range(20)}
    for name, body in contents.items():
        gateway.put(f"faults/{name}", body)
    gateway.put("faults/large", LARGE)
    gateway.put_in_parts("faults/parts", LARGE, [6 * MIB] * 2, ChecksumAlgorithm="CRC32", ChecksumType="COMPOSITE")
    return {**contents, "large": LARGE, "parts": LARGE}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunewright_launcher.rate_limit._FIRST_PAUSE", 0.05)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


def fetch(source: S3ModelParams, workspace: Path) -> dict[str, bytes]:
    """Fetch it into the slot `model`, and read what is there then."""
    workspace.mkdir(exist_ok=True)
    params = wire.unstructure(source, "model")
    document = WireDocument(kind="model", provider="s3", distribution="tunewright-s3", version="0.1.0", params=params)
    fetch_into(source, document, workspace, "model", lambda _: None, limits=LIMITS)
    return contents(workspace / "model")


def contents(slot: Path) -> dict[str, bytes]:
    found = {p.relative_to(slot).as_posix(): p.read_bytes() for p in slot.rglob("*") if p.is_file()}
    assert found.pop("complete.json")
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        Fault(path="/large", cut_after=MIB, times=30),
        Fault(path="/parts", end_after=MIB, times=30),
        Fault(path="/small/7", end_after=1000),
        Fault(path="/small/7", cut_after=0),
        Fault(path="/small/7", flip=5),
        Fault(path="/large", flip=5),
        Fault(path="/parts", flip=5),
        Fault(path="/small", status=503, times=5),
        Fault(path="/large", status=500, times=2),
        pytest.param(Fault(path="/small/1", status=429, headers={"Retry-After": "1"}), marks=pytest.mark.slow),
        pytest.param(Fault(path="/small/7", stall_after=1000), marks=pytest.mark.slow),
        Fault(path="/large", stall_after=MIB),
        Fault(path="/large", delay=0.3),
    ],
    ids=lambda fault: "-".join(
        str(value) for value in (fault.path[1:], fault.status, fault.cut_after, fault.end_after, fault.stall_after) if value
    ),
)  # fmt: skip
def test_what_passes_is_outlasted(
    files: dict[str, bytes], proxy: S3Proxy, source: Source, workspace: Path, fault: Fault
) -> None:
    proxy.faults.append(fault)
    assert fetch(source("faults"), workspace) == files
    damaged = 0 if fault.flip is None else len(files[fault.path[1:]])
    if fault.cut_after is None:  # what was on its way then is sent, and lost
        assert proxy.sent < sum(map(len, files.values())) + damaged + 2 * MIB


@pytest.mark.slow
def test_the_pause_that_a_store_asks_for_is_made(
    files: dict[str, bytes], proxy: S3Proxy, source: Source, workspace: Path
) -> None:
    proxy.faults.append(Fault(path="/small/7", status=429, headers={"Retry-After": "1"}))
    began = time.monotonic()
    assert fetch(source("faults/small/7"), workspace) == {"7": files["small/7"]}
    assert time.monotonic() - began > 1


@pytest.mark.parametrize("name", ["small/7", "large", "parts"])
def test_what_stays_damaged_is_bad_data(
    files: dict[str, bytes], proxy: S3Proxy, source: Source, workspace: Path, name: str
) -> None:
    proxy.faults.append(Fault(path=f"/{name}", flip=100, times=-1))
    with pytest.raises(FetchError, match="digest") as caught:
        fetch(source("faults"), workspace)
    assert caught.value.code is ExitCode.BAD_DATA
    assert not (workspace / "model").exists()
    proxy.faults.clear()
    assert fetch(source("faults"), workspace) == files


def test_what_stays_cut_off_is_given_up_and_gone_on_with(
    files: dict[str, bytes], proxy: S3Proxy, source: Source, workspace: Path
) -> None:
    proxy.faults.append(Fault(path="/large", status=503, times=-1))
    with pytest.raises(FetchError, match="503") as caught:
        fetch(source("faults"), workspace)
    assert caught.value.code is ExitCode.UNAVAILABLE
    assert not (workspace / "model").exists()
    proxy.faults.clear()
    assert fetch(source("faults"), workspace) == files


class Changing(S3Proxy):
    """Something else is uploaded while an object is read: at the second range, or as often as `times` says."""

    times = 1
    change: Callable[[], object]

    def take_fault(self, request):
        found = super().take_fault(request)
        if self.times and request.method == "GET" and request.path.endswith("/a") and self._begun():
            self.times -= 1
            self.change()
        return found

    def _begun(self) -> bool:
        return sum(r.method == "GET" and r.path.endswith("/a") for r in self.log) > 1


@pytest.fixture
def changing(gateway: Gateway) -> Iterator[Changing]:
    with Changing(gateway) as server:
        yield server


def test_an_object_that_changes_half_way_is_fetched_in_its_new_version(
    gateway: Gateway, changing: Changing, source: Source, workspace: Path
) -> None:
    new = LARGE[::-1]
    gateway.put("changing/a", LARGE)
    changing.change = lambda: gateway.put("changing/a", new)
    assert fetch(source("changing", endpoint_url=changing.url), workspace) == {"a": new}
    assert len([request for request in changing.log if request.target.endswith("prefix=changing")]) == 2


@pytest.mark.slow
def test_an_object_that_never_stays_the_same_is_given_up(
    gateway: Gateway, changing: Changing, source: Source, workspace: Path
) -> None:
    versions = iter(range(100))
    gateway.put("changing/a", LARGE)
    changing.times = -1
    changing.change = lambda: gateway.put("changing/a", LARGE + b"%d" % next(versions))
    with pytest.raises(FetchError, match="412") as caught:
        fetch(source("changing", endpoint_url=changing.url), workspace)
    assert caught.value.code is ExitCode.TRY_AGAIN
    assert not (workspace / "model").exists()


def test_an_object_that_goes_half_way_is_not_waited_for(
    gateway: Gateway, changing: Changing, source: Source, workspace: Path
) -> None:
    gateway.put("going/a", LARGE)
    gateway.put("going/b", b"b")
    changing.change = lambda: gateway.delete("going/a")
    assert fetch(source("going", endpoint_url=changing.url), workspace) == {"b": b"b"}


def test_a_second_start_asks_nobody(files: dict[str, bytes], proxy: S3Proxy, source: Source, step) -> None:
    provider = source("faults/small")
    step.run(provider)
    asked = len(proxy.log)
    assert '"cached": true' in step.run(provider)
    assert len(proxy.log) == asked
    assert contents(step.slot) == {name.removeprefix("small/"): b for name, b in files.items() if "small/" in name}


def test_a_fetch_for_ever_sees_what_is_new(gateway: Gateway, proxy: S3Proxy, source: Source, workspace: Path) -> None:
    gateway.put("always/a", b"old")
    always = source("always", policy="Always")
    assert fetch(always, workspace) == {"a": b"old"}
    sent = proxy.sent
    assert fetch(always, workspace) == {"a": b"old"}
    assert not [request for request in proxy.log[-1:] if "list-type" not in request.target]
    gateway.put("always/a", b"new")
    assert fetch(always, workspace) == {"a": b"new"}
    assert proxy.sent > sent


@pytest.mark.parametrize(
    ("refusal", "code", "says"),
    [
        (("list-type", 403, "AccessDenied"), ExitCode.NO_PERMISSION, "s3:ListBucket"),
        pytest.param(
            ("/small/3", 400, "ExpiredToken"), ExitCode.NO_PERMISSION, "session_token", marks=pytest.mark.slow
        ),
        (("list-type", 404, "NoSuchBucket"), ExitCode.NOT_FOUND, "bucket's name"),
    ],
)
def test_no_secret_is_told_to_anybody(
    files: dict[str, bytes],
    proxy: S3Proxy,
    source: Source,
    step,
    refusal: tuple[str, int, str],
    code: ExitCode,
    says: str,
) -> None:
    proxy.refusals = [refusal]
    process = step.start(source("faults"))
    shown = [Path(f"/proc/{process.pid}/cmdline").read_text()]
    shown.append(process.communicate(timeout=60)[0])
    verdict = step.verdict()
    assert (verdict["code"], says in json.dumps(verdict)) == (code, True)  # type: ignore[index]
    assert not step.slot.exists()
    shown += [path.read_text(errors="replace") for path in step.folder.rglob("*") if path.is_file()]
    for secret in (ACCESS_KEY, SECRET_KEY, "X-Amz-Signature"):
        assert not [text for text in shown if secret in text]


@pytest.mark.slow
def test_a_fetch_that_is_killed_again_and_again_goes_on(gateway: Gateway, proxy: S3Proxy, source: Source, step) -> None:
    rng = random.Random(3)
    # What a kill costs is what was on its way, whatever the size of the rest: on a busy machine 0.1 MB.
    body = rng.randbytes(80 * MIB)
    small = {f"small/{i}": rng.randbytes(20_000) for i in range(100)}
    gateway.put_in_parts("killed/large", body, [16 * MIB] * 4)
    for name, content in small.items():
        gateway.put(f"killed/{name}", content)
    proxy.faults.append(Fault(rate=1e6, times=-1))
    env = {"TUNEWRIGHT_FETCH_CONNECTIONS": "4"}
    provider = source("killed")
    kills = 0
    while kills < 20:
        process = step.start(provider, env)
        sent = proxy.sent
        while proxy.sent == sent and process.poll() is None:
            time.sleep(0.01)
        try:
            process.wait(rng.uniform(0, 0.7))
            break
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
    assert kills == 20, (step.verdict(), process.communicate())
    assert not step.slot.exists()
    proxy.faults.clear()
    step.run(provider, env)
    assert contents(step.slot) == {"large": body, **small}
    total = len(body) + sum(map(len, small.values()))
    listings = 21 * 60_000
    assert proxy.sent - listings < 1.05 * total
