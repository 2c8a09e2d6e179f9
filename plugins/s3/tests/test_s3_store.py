"""Outputs to a real store: what arrives, what is not sent again, and what goes on after a broken upload."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest
from tests.servers.faulty import Fault
from tests.servers.s3 import BUCKET, Gateway, S3Proxy

from tunewright import ExitCode, FetchError
from tunewright.providers.limits import FetchLimits
from tunewright_launcher.outputs import Output
from tunewright_s3 import S3ModelParams, store
from tunewright_s3.store import MIB, PART, part_size

Source = Callable[..., S3ModelParams]

LARGE = random.Random(4).randbytes(2 * PART + 3)
LIMITS = FetchLimits(connections=4, stall=2, tries=3, retry_for=0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A finished model's folder."""
    folder = tmp_path / "output"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "sub" / "empty").write_bytes(b"")
    (folder / "model.safetensors").write_bytes(LARGE)
    return folder


def output(source: S3ModelParams, key: str = "k") -> Output:
    return Output(store=source.store(), uri=source.uri, key=key, limits=LIMITS, say=lambda _: None)


def sent(proxy: S3Proxy) -> dict[str, int]:
    """Bodies that were uploaded since: path → bytes."""
    found: dict[str, int] = {}
    for request in proxy.log:
        if request.method == "PUT":
            found[request.path] = found.get(request.path, 0) + len(request.body)
    proxy.log.clear()
    return found


def test_a_model_arrives_whole_and_is_not_sent_again(
    gateway: Gateway, proxy: S3Proxy, source: Source, model: Path, folder: Path
) -> None:
    output(source("out")).upload_model(model)
    assert sent(proxy)[f"/{BUCKET}/out/model.safetensors"] == len(LARGE)
    assert gateway.get("out/model.safetensors") == LARGE
    assert set(gateway.keys("out/")) == {
        "out/config.json", "out/model.safetensors", "out/sub/empty", "out/complete.json",
    }  # fmt: skip
    output(source("out")).upload_model(model)
    assert set(sent(proxy)) == {f"/{BUCKET}/out/complete.json"}
    (model / "model.safetensors").write_bytes(LARGE[::-1])
    output(source("out")).upload_model(model)
    assert sent(proxy)[f"/{BUCKET}/out/model.safetensors"] == len(LARGE)
    assert gateway.get("out/model.safetensors") == LARGE[::-1]
    (model / "config.json").unlink()
    output(source("out")).upload_model(model)
    assert set(gateway.keys("out/")) == {"out/model.safetensors", "out/sub/empty", "out/complete.json"}


@pytest.mark.slow
def test_a_checkpoint_comes_back_to_a_new_node(gateway: Gateway, source: Source, model: Path, tmp_path: Path) -> None:
    for step in (10, 20):
        checkpoint = tmp_path / f"checkpoint-{step}"
        model.rename(checkpoint) if step == 10 else (tmp_path / "checkpoint-10").rename(checkpoint)
        output(source("train")).upload_checkpoint(checkpoint)
    assert {key.split("/")[3] for key in gateway.keys("train/")} == {"checkpoint-20"}
    node = tmp_path / "node"
    node.mkdir()
    output(source("train")).fetch_checkpoint(node)
    assert (node / "checkpoint-20" / "model.safetensors").read_bytes() == LARGE
    output(source("train"), key="another-job").fetch_checkpoint(tmp_path / "nobody")
    assert not (tmp_path / "nobody").exists()


def test_an_upload_goes_on_with_the_parts_that_are_there(
    gateway: Gateway, proxy: S3Proxy, source: Source, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "DEAD_AFTER", -60)
    proxy.faults.append(Fault(path="partNumber=2", status=503, times=-1))
    with pytest.raises(FetchError, match="503") as caught:
        output(source("resumed")).upload_model(model)
    assert caught.value.code is ExitCode.UNAVAILABLE
    assert "resumed/model.safetensors" not in gateway.keys("resumed/")
    assert "resumed/complete.json" not in gateway.keys("resumed/")
    proxy.faults.clear()
    sent(proxy)
    output(source("resumed")).upload_model(model)
    assert sent(proxy)[f"/{BUCKET}/resumed/model.safetensors"] == PART
    assert gateway.get("resumed/model.safetensors") == LARGE
    assert not [key for key in gateway.unfinished() if key.startswith("resumed")], "other tests leave some"


@pytest.mark.slow
def test_parts_of_other_contents_are_not_gone_on_with(
    gateway: Gateway, proxy: S3Proxy, source: Source, model: Path
) -> None:
    proxy.faults.append(Fault(path="partNumber=2", status=503, times=-1))
    with pytest.raises(FetchError):
        output(source("other")).upload_model(model)
    proxy.faults.clear()
    (model / "model.safetensors").write_bytes(LARGE[::-1])
    output(source("other")).upload_model(model)
    assert gateway.get("other/model.safetensors") == LARGE[::-1]


@pytest.mark.slow
def test_an_upload_that_lives_is_neither_gone_on_with_nor_ended(
    gateway: Gateway, proxy: S3Proxy, source: Source, model: Path
) -> None:
    """Another job sends another file to the same key; each completes its own, and the last one stays."""
    proxy.faults.append(Fault(path="partNumber=2", status=503, times=-1))
    first = output(source("both"))
    with pytest.raises(FetchError):
        first.upload_model(model)
    proxy.faults.clear()
    (model / "model.safetensors").write_bytes(LARGE[:PART] + LARGE[PART:][::-1])
    output(source("both")).upload_model(model)
    assert gateway.get("both/model.safetensors") == LARGE[:PART] + LARGE[PART:][::-1]
    (model / "model.safetensors").write_bytes(LARGE)
    sent(proxy)
    first.upload_model(model)
    assert sent(proxy)[f"/{BUCKET}/both/model.safetensors"] == PART, "it goes on with its own"
    assert gateway.get("both/model.safetensors") == LARGE
    assert not [key for key in gateway.unfinished() if key.startswith("both")]


@pytest.mark.slow
def test_jobs_that_upload_to_one_prefix_at_once_all_come_to_their_end(
    gateway: Gateway, source: Source, tmp_path: Path
) -> None:
    bodies = {f"job-{i}": random.Random(i).randbytes(2 * PART) for i in range(3)}
    for name, body in bodies.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(body)
    limits = attrs.evolve(LIMITS, retry_for=60)
    with ThreadPoolExecutor() as pool:
        uploads = [attrs.evolve(output(source("at-once")), limits=limits) for _ in bodies]
        list(pool.map(lambda upload, name: upload.upload_model(tmp_path / name), uploads, bodies))
    assert gateway.get("at-once/model.safetensors") in bodies.values()
    assert not [key for key in gateway.unfinished() if key.startswith("at-once")]


@pytest.mark.slow
def test_of_two_jobs_at_one_prefix_one_has_all_its_files_there(
    gateway: Gateway, source: Source, tmp_path: Path
) -> None:
    """Their files have the same names and sizes."""
    results = []
    for seed in range(2):
        rng, folder = random.Random(seed), tmp_path / f"job-{seed}"
        folder.mkdir()
        results.append({f"{i}.safetensors": rng.randbytes(PART // 2 + PART * (i % 2)) for i in range(6)})
        for name, body in results[-1].items():
            (folder / name).write_bytes(body)
    limits = attrs.evolve(LIMITS, retry_for=60)
    with ThreadPoolExecutor() as pool:
        uploads = [attrs.evolve(output(source("one-of-two")), limits=limits) for _ in results]
        list(pool.map(lambda upload, seed: upload.upload_model(tmp_path / f"job-{seed}"), uploads, range(2)))
    assert {name: gateway.get(f"one-of-two/{name}") for name in results[0]} in results


@pytest.mark.slow
def test_a_store_that_does_not_tell_the_sizes_of_parts_is_not_sent_the_same_again(
    proxy: S3Proxy, source: Source, model: Path
) -> None:
    output(source("no-sizes")).upload_model(model)
    sent(proxy)
    proxy.hidden = ("x-amz-checksum",)
    proxy.refusals = [("partNumber", 400, "InvalidArgument")]
    output(source("no-sizes")).upload_model(model)
    assert set(sent(proxy)) == {f"/{BUCKET}/no-sizes/complete.json"}


@pytest.mark.slow
def test_entity_tags_of_a_bucket_that_encrypts_are_not_taken_for_md5s(
    proxy: S3Proxy, source: Source, model: Path
) -> None:
    output(source("kms")).upload_model(model)
    proxy.faults = [Fault(headers={"x-amz-server-side-encryption": "aws:kms"}, times=-1)]
    found = {entry.path: entry.digests[0].algorithm for entry in source("kms").store().entries("")}
    assert (found["config.json"], found["model.safetensors"]) == ("crc32", "crc32")
    sent(proxy)
    output(source("kms")).upload_model(model)
    assert set(sent(proxy)) == {f"/{BUCKET}/kms/complete.json"}


@pytest.mark.slow
def test_a_store_that_answers_without_a_tag_is_believed(
    gateway: Gateway, proxy: S3Proxy, source: Source, model: Path
) -> None:
    proxy.completed = {"ETag>": "Was>"}
    proxy.hidden = ("x-amz-checksum",)
    output(source("no-tag")).upload_model(model)
    assert list(sent(proxy).values()).count(len(LARGE)) == 1
    assert gateway.get("no-tag/model.safetensors") == LARGE


@pytest.mark.parametrize("unknown", ["x-amz-checksum-", "x-amz-sdk-checksum"])
def test_a_store_that_refuses_checksums_gets_the_md5_alone(
    gateway: Gateway, proxy: S3Proxy, source: Source, model: Path, unknown: str
) -> None:
    proxy.unknown = (unknown,)
    target = source(f"plain-{unknown}")
    output(target).check_writable()
    output(target).upload_model(model)
    assert gateway.get(f"plain-{unknown}/model.safetensors") == LARGE
    assert gateway.get(f"plain-{unknown}/sub/empty") == b""
    assert all("content-md5" in r.headers for r in proxy.log if r.method == "PUT")


@pytest.mark.parametrize(
    "refusal", [(501, "NotImplemented"), (400, "MissingContentMD5"), (404, "NoSuchKey"), (403, "AccessDenied")]
)
def test_where_objects_cannot_be_removed_together_they_are_removed_one_by_one(
    gateway: Gateway, proxy: S3Proxy, source: Source, refusal: tuple[int, str]
) -> None:
    proxy.refusals = [("?delete", *refusal)]
    for name in ("a/1", "a/b/2", "c"):
        gateway.put(f"single/{name}", b"x")
    source("single").store().remove("a")
    assert gateway.keys("single/") == ["single/c"]


@pytest.mark.slow
@pytest.mark.parametrize("refusal", [(403, "Forbidden"), (404, "NoSuchKey"), (501, "NotImplemented")])
def test_a_store_that_does_not_list_uploads_is_written_to(
    gateway: Gateway, proxy: S3Proxy, source: Source, refusal: tuple[int, str]
) -> None:
    proxy.refusals = [("?uploads", *refusal), ("&uploads", *refusal)]
    output(source("unlisted")).check_writable()
    assert gateway.keys("unlisted/") == []


@pytest.mark.slow
def test_an_upload_whose_parts_may_not_be_seen_is_begun_anew(
    gateway: Gateway, proxy: S3Proxy, source: Source, model: Path
) -> None:
    gateway._client.create_multipart_upload(Bucket=BUCKET, Key="unseen/model.safetensors")
    proxy.refusals = [(f"GET /{BUCKET}/unseen/model.safetensors?uploadId", 403, "AccessDenied")]
    proxy.hidden = ("etag",)
    output(source("unseen")).upload_model(model)
    assert gateway.get("unseen/model.safetensors") == LARGE


@pytest.mark.parametrize("path", ["config.json", "model.safetensors"])
def test_what_is_damaged_on_its_way_up_is_refused_by_the_store(
    gateway: Gateway, proxy: S3Proxy, source: Source, model: Path, path: str
) -> None:
    proxy.damaged = path
    with pytest.raises(FetchError):
        output(source(f"damaged-{path}")).upload_model(model)
    assert not {f"damaged-{path}/{name}" for name in (path, "complete.json")} & set(gateway.keys("damaged-"))


def test_what_may_not_be_written_to_is_found_out_at_once(gateway: Gateway, proxy: S3Proxy, source: Source) -> None:
    output(source("writable")).check_writable()
    assert gateway.keys("writable/") == []
    proxy.refusals = [("/writable/", 403, "AccessDenied")]
    with pytest.raises(FetchError, match="s3:PutObject and s3:DeleteObject") as caught:
        output(source("writable")).check_writable()
    assert caught.value.code is ExitCode.NO_PERMISSION


def test_removing_a_folder_leaves_its_siblings(gateway: Gateway, source: Source) -> None:
    for name in ("a/1", "a/b/2", "ab/3"):
        gateway.put(f"removing/{name}", b"x")
    source("removing").store().remove("a")
    assert gateway.keys("removing/") == ["removing/ab/3"]
    source("removing").store().remove("nothing")


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 10_000 * PART, 10_000 * PART + 1, 5 << 40])
def test_parts_are_no_more_than_s3_takes(size: int) -> None:
    length = part_size(size)
    assert length % MIB == 0
    assert -(-size // length) <= 10_000
