"""Fetching from a real git server with LFS: what comes, and who may read it."""

import random
import shutil

import pytest
from tests.servers.faulty import Answer, Fault, FileServer
from tests.servers.git import (
    LARGE,
    MODEL,
    Lfs,
    basic,
    contents,
    git,
)

from tunewright import ExitCode

TOKEN = "a-token-that-must-not-show"


def test_files_come_with_the_bytes_that_git_and_lfs_have_of_them(server, fetch):
    commit = server.commit("org/model", MODEL)
    assert fetch.run() == contents(MODEL)
    assert fetch.marker["revision"] == commit
    verified = {path: record["verified"] for path, record in fetch.marker["files"].items()}
    assert verified["model.safetensors"] == "sha256"
    assert verified["lines.txt"] == "git-blob-sha1"
    assert not list(fetch.volume.rglob(".git"))
    assert not (fetch.slot / "run.sh").stat().st_mode & 0o111


def test_nothing_is_left_in_the_temporary_folder(server, fetch, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    server.commit("org/model", MODEL)
    fetch.run()
    assert set(tmp_path.iterdir()) - before <= {fetch.volume, tmp_path / "repositories"}


@pytest.mark.slow
def test_refs_are_branches_tags_and_commits(server, fetch):
    first = server.commit("org/model", {"a": b"1"})
    second = server.commit("org/model", {"a": b"2"})
    server.commit("org/model", {"a": b"3"}, branch="feature/x")
    repository = server.repository()
    git(repository, "tag", "light", first)
    git(repository, "tag", "-m", "annotated", "v1.0", first)
    expected = {
        "main": b"2",
        "feature/x": b"3",
        "light": b"1",
        "v1.0": b"1",
        first: b"1",
        second: b"2",
        first[:9]: b"1",
    }
    for ref, content in expected.items():
        assert fetch.run(ref=ref) == {"a": content}, ref
        assert len(fetch.marker["revision"]) == 40
    assert fetch.run(f"{server.uri()}@v1.0") == {"a": b"1"}
    assert fetch.run() == {"a": b"2"}


def test_a_server_that_gives_no_commit_by_its_name_is_asked_for_its_branches(server, fetch):
    server.any_commit = False
    first = server.commit("org/model", {"a": b"1", "b": LARGE})
    server.commit("org/model", {"a": b"2"})
    assert fetch.run(ref=first) == {"a": b"1", "b": LARGE.content}
    assert fetch.run() == {"a": b"2"}


def test_a_folder_becomes_the_slot(server, fetch):
    server.commit("org/model", MODEL)
    assert fetch.run(f"{server.uri()}#parts/a") == {"model-1.bin": b"first", "notes.md": b"notes"}
    assert fetch.run(path="parts", exclude="notes.md") == {"a/model-1.bin": b"first", "b/model-2.bin": b"second"}


@pytest.mark.parametrize(
    ("include", "exclude", "lfs"),
    [
        ((), (), {"model.safetensors", "parts/a/model-1.bin", "parts/b/model-2.bin"}),
        (("*.bin",), (), {"parts/a/model-1.bin", "parts/b/model-2.bin"}),
        (("/*.bin",), (), None),
        (("parts/a",), (), {"parts/a/model-1.bin"}),
        (("parts/b/*,*.safetensors",), (), {"model.safetensors", "parts/b/model-2.bin"}),
        (("**/model-?.bin",), ("parts/b",), {"parts/a/model-1.bin"}),
        ((), ("*.bin",), {"model.safetensors"}),
        ((), ("parts/", "*.safetensors"), set()),
    ],
)
def test_patterns_are_those_of_git_lfs(server, fetch, include, exclude, lfs):
    server.commit("org/model", MODEL)
    if lfs is None:
        fetch.fails(ExitCode.NOT_FOUND, "include=", include=include, exclude=exclude)
        return
    found = set(fetch.run(include=include, exclude=exclude))
    assert {path for path in found if isinstance(MODEL[path], Lfs)} == lfs
    assert {"config.json", "empty"} <= found, "plain files come in any case"
    assert ("parts/a/notes.md" in found) == ("parts/" not in exclude)


def test_what_is_excluded_is_not_even_sent(server, fetch):
    server.commit("org/model", {"a": b"1", "big.csv": random.Random(2).randbytes(3 << 20)})
    assert fetch.run(exclude="*.csv") == {"a": b"1"}
    assert server.sent < 1 << 20


def test_a_pattern_that_excludes_everything_leaves_nothing_to_fetch(server, fetch):
    server.commit("org/model", MODEL)
    fetch.fails(ExitCode.NOT_FOUND, "nothing to download", exclude="*")


def test_a_dataset_and_the_one_to_evaluate_on(server, fetch):
    server.commit("org/data", {"train/a.jsonl": Lfs(b"{}\n"), "test/b.jsonl": b"[]\n"})
    assert fetch.run(f"{server.uri('org/data')}#train", slot="dataset") == {"a.jsonl": b"{}\n"}
    assert fetch.run(f"{server.uri('org/data')}#test", slot="eval_dataset") == {"b.jsonl": b"[]\n"}


def test_submodules_are_left_out(server, fetch):
    commit = server.commit("org/model", {"a": b"1"})
    folder = server.repository()
    lines = f"100644 blob {git(folder, 'rev-parse', f'{commit}:a')}\ta\n160000 commit {commit}\tsub\n"
    server.commit_tree("org/model", git(folder, "mktree", stdin=lines.encode()))
    assert fetch.run() == {"a": b"1"}


@pytest.mark.slow
def test_large_files_that_are_in_git_itself_come_whole(server, fetch):
    large = LARGE.content[: 9 << 20]
    server.commit("org/model", {"large.csv": large})
    assert fetch.run() == {"large.csv": large}


def _authorization(request):
    return request.headers.get("authorization", "").lower()


def _denied():
    return Answer(status=401)


@pytest.mark.parametrize(
    ("accepted", "params"),
    [
        (basic("x-access-token", TOKEN), {"token": TOKEN}),
        (f"Bearer {TOKEN}", {"token": TOKEN}),
        (basic("me", TOKEN), {"username": "me", "password": TOKEN}),
    ],
)
def test_private_repositories_open_to_a_credential(server, fetch, accepted, params):
    server.accepts = {accepted}
    server.commit("org/model", MODEL)
    assert fetch.run(**params) == contents(MODEL)


def test_a_public_repository_whose_lfs_wants_a_token(server, fetch, monkeypatch):
    server.commit("org/model", MODEL)
    answer = server._batch
    monkeypatch.setattr(
        server, "_batch", lambda request: answer(request) if "bearer" in _authorization(request) else _denied()
    )
    assert fetch.run(token=TOKEN) == contents(MODEL)
    shutil.rmtree(fetch.slot)
    fetch.fails(ExitCode.NO_PERMISSION, "token=")


def test_a_wrong_token_is_no_permission_and_stays_unsaid(server, fetch):
    server.accepts = {basic("x-access-token", "another")}
    server.commit("org/model", MODEL)
    error = fetch.fails(ExitCode.NO_PERMISSION, "401", "give another one", token=TOKEN)
    assert TOKEN not in str(error)
    fetch.fails(ExitCode.NO_PERMISSION, "401", "Give token=")


def test_a_repository_that_may_not_be_read_is_told_from_one_that_is_not_there(server, fetch):
    server.commit("org/model", MODEL)
    fetch.fails(ExitCode.NOT_FOUND, "404", "Check the URI", uri=server.uri("org/other"))
    server.faults.append(Fault(path="info/refs", status=403, times=-1))
    fetch.fails(ExitCode.NO_PERMISSION, "403", token=TOKEN)


@pytest.mark.parametrize("ref", ["missing", "v9", "0" * 40, "abcdef0"])
def test_a_missing_ref_is_not_found(server, fetch, ref):
    server.commit("org/model", MODEL)
    fetch.fails(ExitCode.NOT_FOUND, ref, "a branch, a tag or a commit", ref=ref)


def test_an_empty_repository_is_not_found(server, fetch):
    server.repository()
    fetch.fails(ExitCode.NOT_FOUND, "HEAD")


@pytest.mark.parametrize("folder", ["missing", "config.json", "parts/*"])
def test_a_missing_folder_is_not_found(server, fetch, folder):
    server.commit("org/model", MODEL)
    fetch.fails(ExitCode.NOT_FOUND, "no folder", path=folder)


def test_what_is_no_git_server_is_not_found(fetch):
    with FileServer({"/org/model/info/refs": b"<html>"}) as other:
        fetch.fails(ExitCode.NOT_FOUND, uri=f"gitlfs+{other.url}/org/model")


def test_a_host_that_does_not_answer_is_unavailable(fetch):
    fetch.fails(ExitCode.UNAVAILABLE, "does not respond", uri="gitlfs+http://127.0.0.1:9/org/model")
