"""Fetching from a Kaggle of one's own, in this process: what is asked for, what comes, and what it means that it does not."""

import functools
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from tests.servers.faulty import Answer, Fault, Request
from tests.servers.kaggle import KEY, TOKEN, USER, Archive, FakeKaggle, Thing, make_zip

from tunewright import ExitCode

DATASET, MODEL, COMPETITION = (
    "kaggle://datasets/owner/name",
    "kaggle://models/owner/model/pyTorch/2b",
    "kaggle://competitions/titanic",
)
PLACES = {DATASET: "datasets/owner/name", MODEL: "models/owner/model/pytorch/2b", COMPETITION: "competitions/titanic"}
FILES = {
    "train/eu/1.csv": b"a,b\n1,2\n" * 100,
    "train/us/1.csv": random.Random(1).randbytes(10_000),
    "empty.txt": b"",
    "Größe/日本.txt": b"text",
}
LARGE = {**FILES, "large.bin": random.Random(2).randbytes(9 << 20)}


def pack(kind: str, files: dict[str, bytes], hashed: bool) -> Archive:
    return (Archive.tarred if kind == "tar" else Archive.zipped)(files, hashed=hashed)


@functools.cache
def pack_large(kind: str, hashed: bool) -> Archive:
    return pack(kind, LARGE, hashed)


def put(kaggle: FakeKaggle, uri: str, files: dict[str, bytes] = FILES, *, hashed: bool = True, **more: object) -> Thing:
    """Put files where a URI finds them, as their second version."""
    kind = "tar" if uri == MODEL else "zip"
    newest = attrs.evolve(pack_large(kind, hashed)) if files is LARGE else pack(kind, files, hashed)
    archives = {0: newest} if uri == COMPETITION else {1: pack(kind, {"old.txt": b"old"}, hashed), 2: newest}
    thing = kaggle.things[PLACES[uri]] = Thing(archives=archives, **more)
    return thing


@pytest.mark.parametrize("uri", PLACES)
def test_everything_is_fetched_verified_and_marked(kaggle: FakeKaggle, fetch, uri: str) -> None:
    put(kaggle, uri)
    assert fetch.run(uri) == FILES
    assert fetch.marker["revision"] == (None if uri == COMPETITION else "2")
    assert {record["verified"] for record in fetch.marker["files"].values()} == {"md5"}
    assert not (fetch.workspace / ".staging").exists()


@pytest.mark.parametrize("uri", PLACES)
def test_a_large_archive_comes_in_ranges_over_one_address(kaggle: FakeKaggle, fetch, uri: str) -> None:
    put(kaggle, uri, LARGE)
    assert fetch.run(uri) == LARGE
    assert len([request for request in kaggle.store.log if "range" in request.headers]) >= 3
    assert kaggle.store.sent < 1.02 * (9 << 20)


@pytest.mark.parametrize(("uri", "version"), [(f"{DATASET}/versions/1", "1"), (f"{MODEL}/1", "1")])
def test_a_version_that_is_named_is_fetched(kaggle: FakeKaggle, fetch, uri: str, version: str) -> None:
    put(kaggle, DATASET)
    put(kaggle, MODEL)
    assert fetch.run(uri) == {"old.txt": b"old"}
    assert fetch.marker["revision"] == version
    asked = [json.loads(request.body) for request in kaggle.log]
    assert {body.get("datasetVersionNumber", body.get("versionNumber")) for body in asked} == {1}


def test_a_newer_version_is_fetched_with_policy_always_and_only_then(kaggle: FakeKaggle, fetch) -> None:
    thing = put(kaggle, DATASET)
    fetch.run(DATASET)
    kaggle.log.clear()
    fetch.run(DATASET, policy="Always")
    assert [request.target.rpartition("/")[2] for request in kaggle.log] == ["GetDataset"]
    thing.archives[3] = Archive.zipped({"new.txt": b"new"})
    assert fetch.run(DATASET) == FILES
    assert fetch.run(DATASET, policy="Always") == {"new.txt": b"new"}


def test_a_competition_is_fetched_again_only_where_its_data_has_changed(kaggle: FakeKaggle, fetch) -> None:
    thing = put(kaggle, COMPETITION)
    fetch.run(COMPETITION)
    kaggle.store.log.clear()
    fetch.run(COMPETITION, policy="Always")
    assert [request.headers["range"] for request in kaggle.store.log] == ["bytes=0-0"]
    thing.archives[0] = Archive.zipped({"new.txt": b"new"})
    assert fetch.run(COMPETITION, policy="Always") == {"new.txt": b"new"}


@pytest.mark.parametrize("uri", PLACES)
def test_a_listing_of_many_pages_is_read_to_its_end(kaggle: FakeKaggle, fetch, uri: str) -> None:
    kaggle.page = 7
    files = {f"{i % 3}/{i}.txt": str(i).encode() for i in range(40)}
    put(kaggle, uri, files)
    assert fetch.run(uri) == files
    assert len([r for r in kaggle.log if "List" in r.target]) == 6


def test_patterns_choose_from_the_listing(kaggle: FakeKaggle, fetch) -> None:
    put(kaggle, DATASET)
    assert set(fetch.run(DATASET, allow_patterns=["train/"], ignore_patterns=["*/us/*"])) == {"train/eu/1.csv"}
    assert set(fetch.marker["files"]) == {"train/eu/1.csv"}


@pytest.mark.parametrize("uri", PLACES)
def test_patterns_that_match_nothing_are_not_found_before_anything_is_downloaded(
    kaggle: FakeKaggle, fetch, uri: str
) -> None:
    put(kaggle, uri)
    fetch.fails(ExitCode.NOT_FOUND, "has 4 files, but none of them is selected", uri=uri, allow_patterns=["*.xml"])
    assert kaggle.store.log == []


CREDENTIALS = {
    "token": {"api_token": TOKEN},
    "key": {"api_token": None, "username": USER, "key": KEY},
}


@pytest.mark.parametrize("credential", CREDENTIALS.values(), ids=CREDENTIALS)
@pytest.mark.parametrize("uri", PLACES)
def test_both_credentials_open_what_is_private_and_never_reach_the_store(
    kaggle: FakeKaggle, fetch, uri: str, credential: dict[str, str]
) -> None:
    files = LARGE if uri == DATASET else FILES
    put(kaggle, uri, files, private=True)
    assert fetch.run(uri, **credential) == files
    assert kaggle.store.log
    assert kaggle.store.credentials == []


def test_what_everybody_may_read_needs_no_credential(kaggle: FakeKaggle, fetch) -> None:
    put(kaggle, DATASET)
    kaggle.asks = False
    assert fetch.run(DATASET, api_token=None) == FILES
    assert not [request for request in kaggle.log if "authorization" in request.headers]


@pytest.mark.parametrize("uri", PLACES)
def test_no_credential_where_one_is_needed_is_no_permission(kaggle: FakeKaggle, fetch, uri: str) -> None:
    put(kaggle, uri)
    fetch.fails(ExitCode.NO_PERMISSION, "401", "api_token", uri=uri, api_token=None)
    kaggle.asks = False
    put(kaggle, uri, private=True)
    fetch.fails(ExitCode.NO_PERMISSION, "403", "Check the URI", uri=uri, api_token=None)


@pytest.mark.parametrize("uri", PLACES)
def test_a_wrong_credential_is_no_permission_and_is_not_said(kaggle: FakeKaggle, fetch, uri: str) -> None:
    put(kaggle, uri)
    error = fetch.fails(ExitCode.NO_PERMISSION, "401", "settings page", uri=uri, api_token="a-wrong-token")
    assert "a-wrong-token" not in str(error)
    wrong = {"api_token": None, "username": USER, "key": "a-wrong-key"}
    fetch.fails(ExitCode.NO_PERMISSION, "401", uri=uri, **wrong)


def test_rules_that_were_not_accepted_are_said_with_where_to_accept_them(kaggle: FakeKaggle, fetch) -> None:
    put(kaggle, COMPETITION, rules="You must accept this competition's rules before you can download its data.")
    error = fetch.fails(ExitCode.NO_PERMISSION, "403", "You must accept", uri=COMPETITION)
    assert "accept the competition's rules on its page" in error.remedy
    put(kaggle, MODEL, rules="You must consent to the license.")
    assert "accept its licence" in fetch.fails(ExitCode.NO_PERMISSION, "403", uri=MODEL).remedy
    assert kaggle.store.log == []


@pytest.mark.parametrize(
    "uri",
    ["kaggle://datasets/owner/none", f"{DATASET}/versions/9", "kaggle://models/owner/none/keras/2b", f"{MODEL}/9",
     "kaggle://models/owner/model/keras/2b", "kaggle://competitions/none"],
)  # fmt: skip
def test_what_is_not_there_is_not_found(kaggle: FakeKaggle, fetch, uri: str) -> None:
    put(kaggle, DATASET)
    put(kaggle, MODEL)
    fetch.fails(ExitCode.NOT_FOUND, "404", uri, uri=uri)


def test_a_dataset_whose_version_is_not_told_is_fetched_as_it_is(kaggle: FakeKaggle, fetch) -> None:
    put(kaggle, DATASET)
    kaggle.faults.append(Fault(path="GetDataset", status=404, times=-1))
    assert fetch.run(DATASET) == FILES
    assert fetch.marker["revision"] is None


def test_an_error_that_comes_with_status_200_is_an_error(kaggle: FakeKaggle, fetch) -> None:
    put(kaggle, DATASET)
    own, code = kaggle.answer, {"code": 403, "message": "Forbidden\n\0"}
    kaggle.answer = lambda request: Answer(body=json.dumps(code).encode()) if "List" in request.target else own(request)
    fetch.fails(ExitCode.NO_PERMISSION, "403", "Forbidden", uri=DATASET)
    kaggle.answer = lambda request: (
        Answer(body=b'{"errorMessage": "no such thing"}') if "List" in request.target else own(request)
    )
    fetch.fails(ExitCode.TRY_AGAIN, "no such thing", uri=DATASET)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b'{"datasetFiles": [{"totalBytes": 3}]}', b'{"datasetFiles": [{"name": 3}]}', b'{"datasetFiles": 3}',
     b'{"datasetFiles": [{"name": "a", "totalBytes": -3}]}', b'{"datasetFiles": [{"name": "a"}], "nextPageToken": "again"}'],
)  # fmt: skip
def test_a_listing_that_cannot_be_read_is_tried_again(kaggle: FakeKaggle, fetch, body: bytes) -> None:
    put(kaggle, DATASET)
    own = kaggle.answer
    kaggle.answer = lambda request: Answer(body=body) if "List" in request.target else own(request)
    fetch.fails(ExitCode.TRY_AGAIN, "cannot be used", uri=DATASET)


@pytest.mark.parametrize("name", ["../evil", "/evil", "a\0b", "complete.json", ".kaggle-archive", "a/../../evil"])
def test_a_hostile_name_in_the_listing_is_refused_before_the_download(kaggle: FakeKaggle, fetch, name: str) -> None:
    put(kaggle, DATASET).archives[2].listed.append((name, 1))
    fetch.fails(ExitCode.BAD_DATA, "The source's file", uri=DATASET)
    assert kaggle.store.sent == 0


def test_a_name_that_is_listed_with_two_sizes_is_refused(kaggle: FakeKaggle, fetch) -> None:
    put(kaggle, DATASET).archives[2].listed.append(("empty.txt", 1))
    fetch.fails(ExitCode.BAD_DATA, "listed twice", uri=DATASET)


@pytest.mark.parametrize("hashed", [True, False], ids=["md5", "no digest"])
@pytest.mark.parametrize("uri", [DATASET, MODEL])
def test_a_flipped_bit_is_mended_once_and_then_refused(kaggle: FakeKaggle, fetch, uri: str, hashed: bool) -> None:
    put(kaggle, uri, LARGE, hashed=hashed)
    kaggle.store.faults.append(Fault(path="archive", flip=4 << 20, times=1))
    assert fetch.run(uri) == LARGE
    assert kaggle.store.faults[0].times == 0
    fetch.workspace = fetch.workspace.with_name("another")
    fetch.workspace.mkdir()
    kaggle.store.faults.append(Fault(path="archive", flip=4 << 20, times=-1))
    fetch.fails(ExitCode.BAD_DATA, uri=uri)
    kaggle.store.faults.clear()
    assert fetch.run(uri) == LARGE, "what was damaged is not kept"


def test_a_corrupt_zip_of_the_right_size_is_refused(kaggle: FakeKaggle, fetch) -> None:
    archive = put(kaggle, DATASET, LARGE).archives[2]
    archive.body = archive.body[: 6 << 20] + bytes(100) + archive.body[(6 << 20) + 100 :]
    fetch.fails(ExitCode.BAD_DATA, "damaged", uri=DATASET)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(path="archive", end_after=1 << 20, times=1),
        Fault(path="archive", cut_after=1 << 20, times=6),
        Fault(path="archive", end_after=1 << 20, times=30),
        pytest.param(Fault(path="archive", stall_after=1 << 20), marks=pytest.mark.slow),
        Fault(path="archive", status=503, times=2),
        pytest.param(Fault(path="archive", status=429, headers={"Retry-After": "1"}), marks=pytest.mark.slow),
    ],
    ids=["truncated", "cut", "cut every MB", "stalled", "503", "429"],
)
def test_what_passes_is_overcome(kaggle: FakeKaggle, fetch, fault: Fault) -> None:
    put(kaggle, DATASET, LARGE)
    # The first answer is the one byte that asks for the size: it cannot break off.
    kaggle.store.faults += [Fault(path="archive", times=1), attrs.evolve(fault)]
    assert fetch.run(DATASET) == LARGE


def test_an_address_that_expires_half_way_is_asked_for_again(kaggle: FakeKaggle, fetch) -> None:
    put(kaggle, DATASET, LARGE)
    kaggle.store.lifetime = 2
    kaggle.store.faults.append(Fault(path="archive", end_after=1 << 20, times=-1))
    assert fetch.run(DATASET) == LARGE
    assert len([request for request in kaggle.log if "Download" in request.target]) > 3
    assert kaggle.store.credentials == []


def test_an_address_that_has_expired_at_once_is_no_matter_of_permissions(kaggle: FakeKaggle, fetch) -> None:
    put(kaggle, DATASET)
    kaggle.store.lifetime = 0
    fetch.fails(ExitCode.TRY_AGAIN, "new URL", uri=DATASET)


@pytest.mark.parametrize("hashed", [True, False], ids=["md5", "no digest"])
def test_data_that_changes_half_way_is_listed_again(kaggle: FakeKaggle, fetch, hashed: bool) -> None:
    thing = put(kaggle, COMPETITION, LARGE, hashed=hashed)
    changed = {**FILES, "large.bin": random.Random(5).randbytes(9 << 20)}
    newer, own = Archive.zipped(changed, hashed=hashed), kaggle.answer

    def answer(request: Request) -> Answer:
        if len([r for r in kaggle.log if "Download" in r.target]) > 1:
            thing.archives[0] = newer
        return own(request)

    kaggle.answer = answer
    assert fetch.run(COMPETITION) == changed


@pytest.mark.parametrize("path", ["GetDataset", "ListDatasetFiles", "DownloadDataset"])
@pytest.mark.parametrize(("status", "code"), [(503, ExitCode.UNAVAILABLE), (429, ExitCode.TRY_AGAIN)])
def test_an_api_that_is_down_or_busy_may_be_asked_again(
    kaggle: FakeKaggle, fetch, path: str, status: int, code: ExitCode
) -> None:
    put(kaggle, DATASET)
    kaggle.faults.append(Fault(path=path, status=status, headers={"Retry-After": "7"}))
    assert fetch.fails(code, str(status), uri=DATASET).retry_after == 7
    assert fetch.run(DATASET) == FILES


def test_an_environment_that_kaggle_does_not_have_is_said(kaggle: FakeKaggle, fetch, monkeypatch) -> None:
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "MARS")
    fetch.fails(ExitCode.USAGE, "MARS", "init_env", uri=DATASET)


def test_a_framework_that_kaggle_does_not_have_is_said(kaggle: FakeKaggle, fetch) -> None:
    fetch.fails(ExitCode.USAGE, "'torchy'", "transformers", uri="kaggle://models/owner/model/torchy/2b")


def test_what_is_not_listed_can_be_left_out_as_the_message_says(kaggle: FakeKaggle, fetch) -> None:
    archive = put(kaggle, DATASET).archives[2]
    archive.body, archive.hashed = make_zip({**FILES, "unlisted.txt": b"x"}), False
    fetch.fails(ExitCode.BAD_DATA, "'unlisted.txt'", "ignore_patterns", uri=DATASET)
    assert fetch.run(DATASET, ignore_patterns=["unlisted.txt"]) == FILES


@pytest.mark.slow
def test_kaggles_own_client_takes_this_server_for_kaggle(kaggle: FakeKaggle, tmp_path: Path) -> None:
    put(kaggle, DATASET)
    put(kaggle, MODEL)
    put(kaggle, COMPETITION)
    code = """
import sys
from kaggle.api.kaggle_api_extended import KaggleApi
api = KaggleApi()
api.authenticate()
print([(f.name, f.total_bytes) for f in api.dataset_list_files("owner/name").files])
api.dataset_download_files("owner/name", path=sys.argv[1], unzip=True)
api.model_instance_version_download("owner/model/pyTorch/2b/2", path=sys.argv[1] + "/model", untar=True)
api.competition_download_files("titanic", path=sys.argv[1] + "/competition")
"""
    own = {k: v for k, v in os.environ.items() if not k.startswith("KAGGLE_") and not k.lower().endswith("_proxy")}
    env = {**own, **kaggle.environment, "HOME": str(tmp_path), "KAGGLE_USERNAME": USER, "KAGGLE_KEY": KEY}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "out"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert str([(p, len(b)) for p, b in FILES.items()]) in done.stdout
    for folder in ("", "model/"):
        assert {p: (tmp_path / "out" / folder / p).read_bytes() for p in FILES} == FILES
    assert list((tmp_path / "out" / "competition").iterdir())


@pytest.mark.parametrize("pack_files", [Archive.zipped, Archive.tarred])
def test_what_the_listing_lacks_is_data_too_where_the_store_vouches_for_the_archive(
    kaggle: FakeKaggle, fetch, pack_files: Callable[..., Archive]
) -> None:
    """Listings have lacked what is in folders."""
    files = {"a.csv": b"1", "train/b.csv": b"22", "train/deep/c.csv": b"333"}
    archive = put(kaggle, DATASET).archives[2] = pack_files(files)
    archive.listed = [("a.csv", 1)]
    assert fetch.run(DATASET) == files
    assert fetch.run(DATASET, allow_patterns=["train/*"]).keys() == files.keys() - {"a.csv"}
    fetch.workspace = fetch.workspace / "other"
    fetch.workspace.mkdir()
    archive.hashed = False
    fetch.fails(ExitCode.BAD_DATA, "not listed", "no digest", uri=DATASET)


@pytest.mark.parametrize("name", ["data.csv", "data.zip"])
def test_a_single_file_that_is_not_in_an_archive_is_the_data(kaggle: FakeKaggle, fetch, name: str) -> None:
    body = make_zip({"inside.csv": b"1"}) if name.endswith("zip") else b"a,b\n1,2\n"
    put(kaggle, DATASET).archives[2] = Archive(body=body, listed=[(name, len(body))])
    assert fetch.run(DATASET) == {name: body}
