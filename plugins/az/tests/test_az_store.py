"""Outputs to a real server with Azure's API: what arrives, what is not sent again, and what goes on after a broken upload."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.servers.azure import CONTAINER, Azurite
from tests.servers.faulty import Fault
from tests.servers.passing import PassingProxy

from tunewright import ExitCode, FetchError
from tunewright.providers.limits import FetchLimits
from tunewright_az import AzureModelParams
from tunewright_az.store import BLOCK, MIB, block_size
from tunewright_launcher.outputs import Output

Source = Callable[..., AzureModelParams]

LARGE = random.Random(4).randbytes(2 * BLOCK + 3)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A finished model's folder."""
    folder = tmp_path / "output"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "sub" / "empty").write_bytes(b"")
    (folder / "model.safetensors").write_bytes(LARGE)
    return folder


def output(source: AzureModelParams, *, retry_for: float = 0) -> Output:
    limits = FetchLimits(connections=4, stall=20, tries=3, retry_for=retry_for)
    return Output(store=source.store(), uri=source.uri, key="k", limits=limits, say=lambda _: None)


def sent(proxy: PassingProxy) -> int:
    """Bytes that were uploaded since."""
    count = sum(len(request.body) for request in proxy.log if request.method == "PUT")
    proxy.log.clear()
    return count


def test_a_model_arrives_whole_and_is_not_sent_again(
    azurite: Azurite, proxy: PassingProxy, model: Source, trained: Path
) -> None:
    source = model(uri=f"az://{CONTAINER}/out")
    output(source).upload_model(trained)
    assert azurite.get("out/model.safetensors") == LARGE
    assert set(azurite.keys("out/")) == {
        "out/config.json", "out/model.safetensors", "out/sub/empty", "out/complete.json",
    }  # fmt: skip
    proxy.log.clear()
    output(source).upload_model(trained)
    assert sent(proxy) < BLOCK
    (trained / "config.json").unlink()
    output(source).upload_model(trained)
    assert set(azurite.keys("out/")) == {"out/model.safetensors", "out/sub/empty", "out/complete.json"}


def test_whether_it_is_writable_is_checked_and_nothing_stays(
    azurite: Azurite, proxy: PassingProxy, model: Source
) -> None:
    output(model(uri=f"az://{CONTAINER}/checked")).check_writable()
    assert azurite.keys("checked/") == []
    refused = {"x-ms-error-code": "AuthorizationPermissionMismatch"}
    proxy.refusals = [(".tunewright-check/", 403, refused, b"")]
    with pytest.raises(FetchError, match="Storage Blob Data Contributor") as caught:
        output(model(uri=f"az://{CONTAINER}/checked")).check_writable()
    assert caught.value.code is ExitCode.NO_PERMISSION


def test_a_checkpoint_comes_back_and_older_ones_go(azurite: Azurite, model: Source, tmp_path: Path) -> None:
    there = output(model(uri=f"az://{CONTAINER}/resumed"))
    for step in (1, 2):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "state").write_bytes(b"%d" % step)
        there.upload_checkpoint(folder)
    assert {key.split("/")[3] for key in azurite.keys("resumed/")} == {"checkpoint-2"}
    back = tmp_path / "back"
    back.mkdir()
    there.fetch_checkpoint(back)
    assert (back / "checkpoint-2" / "state").read_bytes() == b"2"


@pytest.mark.slow
def test_a_broken_upload_goes_on_where_it_ended(
    azurite: Azurite, proxy: PassingProxy, model: Source, tmp_path: Path
) -> None:
    file = tmp_path / "large"
    file.write_bytes(LARGE)
    proxy.faults.append(Fault(path="comp=blocklist$|comp=blocklist&s[^&]*sig|comp=blocklist&sv", status=503))
    with pytest.raises(FetchError) as caught:
        model(uri=f"az://{CONTAINER}/broken").store().upload({"large": file})
    assert caught.value.code is ExitCode.UNAVAILABLE
    proxy.log.clear()
    model(uri=f"az://{CONTAINER}/broken").store().upload({"large": file})
    assert sent(proxy) < MIB  # only the list: all blocks were there
    assert azurite.get("broken/large") == LARGE


@pytest.mark.slow
def test_damage_on_the_way_up_is_refused_by_the_store(proxy: PassingProxy, model: Source, tmp_path: Path) -> None:
    for name, body in {"small": b"x" * 100_000, "large": LARGE}.items():
        file = tmp_path / name
        file.write_bytes(body)
        proxy.damaged = f"damaged/{name}"
        with pytest.raises(FetchError):
            model(uri=f"az://{CONTAINER}/damaged").store().upload({name: file})
        proxy.damaged = ""
        model(uri=f"az://{CONTAINER}/damaged").store().upload({name: file})


def test_blocks_are_as_many_as_azure_allows() -> None:
    assert block_size(1) == BLOCK
    terabytes = 190 * (1 << 40) // 1000 * 5
    assert -(-terabytes // block_size(terabytes)) <= 50_000
    assert block_size(terabytes) % MIB == 0
