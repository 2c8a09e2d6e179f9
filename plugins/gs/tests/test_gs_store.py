"""Outputs to a real server with Google's API: what arrives, what is not sent again, and what goes on after a broken upload."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.servers.faulty import Fault
from tests.servers.gcs import BUCKET, GoogleStorage, StorageProxy

from tunewright import ExitCode, FetchError
from tunewright.providers.limits import FetchLimits
from tunewright_gs import GSModelParams
from tunewright_launcher.outputs import Output

Source = Callable[..., GSModelParams]

PART = 16 << 20
LARGE = random.Random(4).randbytes(2 * PART + 3)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A finished model's folder."""
    folder = tmp_path / "output"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "sub" / "empty").write_bytes(b"")
    (folder / "model.safetensors").write_bytes(LARGE)
    return folder


def output(source: GSModelParams, *, retry_for: float = 0) -> Output:
    limits = FetchLimits(connections=4, stall=20, tries=3, retry_for=retry_for)
    return Output(store=source.store(), uri=source.uri, key="k", limits=limits, say=lambda _: None)


def sent(proxy: StorageProxy) -> int:
    """Bytes that were uploaded since."""
    count = sum(len(request.body) for request in proxy.log if "/upload/" in request.target)
    proxy.log.clear()
    return count


def test_a_model_arrives_whole_and_is_not_sent_again(
    storage: GoogleStorage, proxy: StorageProxy, model: Source, trained: Path
) -> None:
    source = model(uri=f"gs://{BUCKET}/out")
    output(source).upload_model(trained)
    assert storage.get("out/model.safetensors") == LARGE
    assert set(storage.keys("out/")) == {
        "out/config.json", "out/model.safetensors", "out/sub/empty", "out/complete.json",
    }  # fmt: skip
    proxy.log.clear()
    output(source).upload_model(trained)
    assert sent(proxy) < PART
    (trained / "config.json").unlink()
    output(source).upload_model(trained)
    assert set(storage.keys("out/")) == {"out/model.safetensors", "out/sub/empty", "out/complete.json"}


def test_whether_it_is_writable_is_checked_and_nothing_stays(
    storage: GoogleStorage, proxy: StorageProxy, model: Source
) -> None:
    output(model(uri=f"gs://{BUCKET}/checked")).check_writable()
    assert storage.keys("checked/") == []
    proxy.refusals = [("/upload/", 403, {}, b'{"error": {"message": "no"}}')]
    with pytest.raises(FetchError, match=r"storage\.objects\.create") as caught:
        output(model(uri=f"gs://{BUCKET}/checked")).check_writable()
    assert caught.value.code is ExitCode.NO_PERMISSION


def test_a_checkpoint_comes_back_and_older_ones_go(
    storage: GoogleStorage, model: Source, trained: Path, tmp_path: Path
) -> None:
    there = output(model(uri=f"gs://{BUCKET}/resumed"))
    for step in (1, 2):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "state").write_bytes(b"%d" % step)
        there.upload_checkpoint(folder)
    assert {key.split("/")[3] for key in storage.keys("resumed/")} == {"checkpoint-2"}
    back = tmp_path / "back"
    back.mkdir()
    there.fetch_checkpoint(back)
    assert (back / "checkpoint-2" / "state").read_bytes() == b"2"


@pytest.mark.slow
def test_a_broken_upload_goes_on_where_it_ended(
    storage: GoogleStorage, proxy: StorageProxy, model: Source, tmp_path: Path
) -> None:
    file = tmp_path / "large"
    file.write_bytes(LARGE)
    store = model(uri=f"gs://{BUCKET}/broken").store()
    proxy.faults.append(Fault(path="upload_id", times=1))  # the first part arrives
    proxy.faults.append(Fault(path="upload_id", status=503))
    with pytest.raises(FetchError) as caught:
        store.upload({"large": file})
    assert caught.value.code is ExitCode.UNAVAILABLE
    proxy.log.clear()
    store.upload({"large": file})
    ranges = [request.headers["content-range"] for request in proxy.log]
    size = len(LARGE)
    assert ranges == [f"bytes */{size}", f"bytes {PART}-{2 * PART - 1}/{size}", f"bytes {2 * PART}-{size - 1}/{size}"]
    assert storage.get("broken/large") == LARGE
    proxy.log.clear()
    store.upload({"large": file})  # as after somebody removed it
    assert "content-range" not in proxy.log[0].headers


@pytest.mark.slow
def test_an_upload_that_the_store_forgot_begins_again(
    storage: GoogleStorage, proxy: StorageProxy, model: Source, tmp_path: Path
) -> None:
    file = tmp_path / "large"
    file.write_bytes(LARGE)
    there = output(model(uri=f"gs://{BUCKET}/forgotten"), retry_for=30)
    proxy.faults.append(Fault(path="upload_id", status=410))
    there._send({"large": file})
    assert storage.get("forgotten/large") == LARGE


def test_damage_on_the_way_up_is_noticed(proxy: StorageProxy, model: Source, tmp_path: Path) -> None:
    file = tmp_path / "small"
    file.write_bytes(b"x" * 100_000)
    proxy.damaged = "/upload/"
    with pytest.raises(FetchError) as caught:
        model(uri=f"gs://{BUCKET}/damaged").store().upload({"small": file})
    assert caught.value.code in (ExitCode.TRY_AGAIN, ExitCode.BAD_DATA)
    proxy.damaged = ""
    model(uri=f"gs://{BUCKET}/damaged").store().upload({"small": file})
