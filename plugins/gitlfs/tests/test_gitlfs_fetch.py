"""Fetching from a real git server with LFS: what comes, what is refused, and what goes wrong on the way."""

import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers.faulty import Fault, FileServer
from tests.servers.git import File, GitServer, Lfs, Link, ObjectStore, basic, git, pointer

from tunewright import ExitCode
from tunewright_launcher.fetch import patiently

TOKEN = "a-token-that-must-not-show"
WEIGHTS = Lfs(random.Random(0).randbytes(300_000))
LARGE = Lfs(random.Random(1).randbytes(20 << 20))
MODEL: dict[str, File] = {
    ".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.txt text eol=crlf working-tree-encoding=UTF-16\n",
    "config.json": b'{"model_type": "tiny"}\n',
    "empty": b"",
    "lines.txt": b"one\r\ntwo\n$Id$\n",
    "model.safetensors": WEIGHTS,
    "parts/a/model-1.bin": Lfs(b"first"),
    "parts/a/notes.md": b"notes",
    "parts/b/model-2.bin": Lfs(b"second"),
    "run.sh": b"#!/bin/sh\n",
    "ünïcode name.txt": "ö".encode(),
}


def contents(files: dict[str, File]) -> dict[str, bytes]:
    return {path: file.content if isinstance(file, Lfs) else file for path, file in files.items()}  # type: ignore[misc]


def batches(server: GitServer) -> int:
    return sum(request.path.endswith("/objects/batch") for request in server.log)


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
    fetch.fails(ExitCode.NOT_FOUND, "nothing to fetch", exclude="*")


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


def test_large_files_that_are_in_git_itself_come_whole(server, fetch):
    large = LARGE.content[: 9 << 20]
    server.commit("org/model", {"large.csv": large})
    assert fetch.run() == {"large.csv": large}


# Who may read


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


def _authorization(request):
    return request.headers.get("authorization", "").lower()


def _denied():
    from tests.servers.faulty import Answer

    return Answer(status=401)


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
    fetch.fails(ExitCode.UNAVAILABLE, "gives no answer", uri="gitlfs+http://127.0.0.1:9/org/model")


# LFS


def test_objects_on_another_host_get_what_lfs_says_and_no_credential_of_ours(tmp_path, fetch):
    with ObjectStore() as store, GitServer(tmp_path / "git", store=store) as server:
        server.accepts = {basic("x-access-token", TOKEN)}
        server.commit("org/model", MODEL)
        assert fetch.run(server.uri(), token=TOKEN) == contents(MODEL)
        shown = {request.headers.get("authorization", "") for request in store.log}
        assert store.log
        assert all(value.startswith("RemoteAuth ") for value in shown), shown


def test_an_object_that_is_redirected_to_another_host_gets_no_credential(server, fetch):
    with FileServer({f"/elsewhere/{LARGE.oid}": LARGE.content}) as other:
        server.moved["/objects"] = f"{other.url}/elsewhere"
        server.commit("org/model", {"large.bin": LARGE})
        assert fetch.run() == {"large.bin": LARGE.content}
        assert other.log
        assert not [r for r in other.log if "authorization" in r.headers]


@pytest.fixture
def listener() -> Iterator[FileServer]:
    with FileServer({}) as other:
        yield other


def test_a_repository_that_is_redirected_to_another_host_takes_no_credential_there(server, fetch, listener):
    server.accepts = {basic("x-access-token", TOKEN)}
    server.commit("org/model", MODEL)
    server.moved["/org/model"] = f"{listener.url}/org/model"
    fetch.fails(ExitCode.NOT_FOUND, token=TOKEN)
    assert listener.log
    assert not [r for r in listener.log if "authorization" in r.headers]


def test_a_public_repository_that_has_moved_to_another_host_comes_from_there(tmp_path, server, fetch):
    with GitServer(tmp_path / "new") as new:
        new.commit("org/model", MODEL)
        server.moved["/org/model"] = f"{new.url}/org/model"
        assert fetch.run(token=TOKEN) == contents(MODEL)
        assert not [r for r in new.log if TOKEN in str(r.headers) or "basic" in _authorization(r)]


def test_a_repository_that_was_renamed_on_its_host_keeps_its_credential(server, fetch):
    server.accepts = {basic("x-access-token", TOKEN)}
    server.commit("org/new", MODEL)
    server.moved["/org/model"] = f"{server.url}/org/new"
    assert fetch.run(token=TOKEN) == contents(MODEL)


def test_lfsconfig_and_gitattributes_lead_nowhere(server, fetch, listener):
    config = (
        f'[lfs]\n\turl = {listener.url}/lfs\n\tpushurl = {listener.url}\n[remote "origin"]\n\tlfsurl = {listener.url}\n'
    )
    server.accepts = {basic("x-access-token", TOKEN)}
    files = {
        **MODEL,
        ".lfsconfig": config.encode(),
        ".gitmodules": f'[submodule "a"]\n\tpath=a\n\turl={listener.url}\n'.encode(),
    }
    server.commit("org/model", files)
    assert fetch.run(token=TOKEN) == contents(files)
    assert listener.log == []


def test_an_address_that_has_expired_is_asked_for_anew(server, fetch):
    server.commit("org/model", {"large.bin": LARGE})
    server.life = 0.5
    server.faults.append(Fault(path="/objects/[0-9a-f]{64}", rate=2 << 20, end_after=1 << 20, times=3))
    assert fetch.run() == {"large.bin": LARGE.content}
    assert batches(server) > 1


def test_an_address_that_expires_without_saying_so_is_asked_for_anew(server, fetch, monkeypatch):
    monkeypatch.setattr("tunewright_gitlfs.lfs._FRESH", 0.1)
    server.commit("org/model", {"large.bin": LARGE})
    server.life, server.tells_life = 0.5, False
    server.faults.append(Fault(path="/objects/[0-9a-f]{64}", delay=0.6, end_after=1 << 20, times=2))
    assert fetch.run() == {"large.bin": LARGE.content}
    assert batches(server) > 1


def test_an_object_that_is_refused_for_good_is_no_permission(server, fetch):
    server.commit("org/model", {"a.bin": WEIGHTS})
    server.faults.append(Fault(path="/objects/[0-9a-f]{64}", status=403, times=-1))
    fetch.fails(ExitCode.NO_PERMISSION, "a.bin", "403")


def test_objects_are_asked_for_a_hundred_at_a_time_and_what_is_there_not_at_all(server, fetch):
    files: dict[str, File] = {f"{i}.bin": Lfs(b"%d" % i) for i in range(250)}
    server.commit("org/model", files)
    assert fetch.run() == contents(files)
    assert batches(server) == 3
    server.log.clear()
    fetch.run()
    assert server.log == [], "a second start sends no request"
    fetch.run(policy="Always")
    assert batches(server) == 0
    assert not [r for r in server.log if "/objects/" in r.target], "the commit is the same"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, ExitCode.NOT_FOUND),
        (410, ExitCode.NOT_FOUND),
        (422, ExitCode.BAD_DATA),
        (403, ExitCode.NO_PERMISSION),
        (509, ExitCode.NO_PERMISSION),
    ],
)
@pytest.mark.parametrize("of_one", [True, False])
def test_what_lfs_refuses_is_told_with_its_own_words(server, fetch, status, code, of_one):
    server.commit("org/model", MODEL)
    server.lfs_error, server.lfs_error_of = (status, "over its data quota"), WEIGHTS.oid if of_one else ""
    error = fetch.fails(code, "LFS", str(status))
    assert "over its data quota" in str(error) or not of_one


def test_an_object_that_was_never_pushed_is_not_found(server, fetch):
    server.commit("org/model", MODEL)
    del server.objects[WEIGHTS.oid]
    fetch.fails(ExitCode.NOT_FOUND, WEIGHTS.oid, "git lfs push")
    assert fetch.run(exclude="*.safetensors")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"objects": []}',
        b'{"objects": [{}]}',
        b'{"transfer": "ssh", "objects": []}',
        b'{"objects": [{"oid": "%s", "actions": {}}]}',
        b'{"objects": [{"oid": "%s", "actions": {"download": {"href": "file:///etc/passwd"}}}]}',
        b'{"objects": [{"oid": "%s", "actions": {"download": {"href": "http://x/", "header": {"a": "b\\r\\nc: d"}}}}]}',
        b'{"objects": [{"oid": "%s", "actions": {"download": {"href": "http://x/", "expires_at": "soon"}}}]}',
    ],
)
def test_an_answer_that_is_no_answer_is_bad_data(server, fetch, monkeypatch, body):
    from tests.servers.faulty import Answer

    server.commit("org/model", {"a.bin": WEIGHTS})
    monkeypatch.setattr(server, "_batch", lambda _: Answer(body=body.replace(b"%s", WEIGHTS.oid.encode())))
    fetch.fails(ExitCode.BAD_DATA, "LFS at")


# What a repository may hold


def test_a_link_is_refused_unless_it_is_excluded(server, fetch):
    server.commit("org/model", {"a": b"1", "sub/link": Link("../../../etc/passwd")})
    fetch.fails(ExitCode.BAD_DATA, "sub/link", "symbolic link", "exclude=")
    assert fetch.run(exclude="sub/link") == {"a": b"1"}


def test_a_file_below_a_link_does_not_leave_the_folder(server, fetch, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    commit = server.commit("org/model", {"x/evil": b"evil"})
    folder = server.repository()
    tree = git(folder, "rev-parse", f"{commit}:x")
    link = git(folder, "hash-object", "-w", "--stdin", stdin=str(outside).encode())
    raw = b"".join(b"%s a\0%s" % (mode, bytes.fromhex(oid)) for mode, oid in ((b"120000", link), (b"40000", tree)))
    made = git(folder, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw)
    server.commit_tree("org/model", made)
    assert fetch.run() == {"a/evil": b"evil"}, "as git has it: the second entry of a name counts"
    assert not (fetch.slot / "a").is_symlink()
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", [".git", ".GIT", "..", ".", "../x", "a/../.."])
def test_hostile_names_are_refused(server, fetch, tmp_path, name):
    commit = server.commit("org/model", {"x/config": b"evil", "ok": b"1"})
    folder = server.repository()
    tree = git(folder, "rev-parse", f"{commit}:x")
    raw = b"40000 %s\0%s" % (name.encode(), bytes.fromhex(tree))
    made = git(folder, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw)
    server.commit_tree("org/model", made)
    fetch.fails(ExitCode.BAD_DATA)
    assert not list(tmp_path.glob("volume/**/config"))


def test_the_markers_name_is_refused(server, fetch):
    server.commit("org/model", {"complete.json": b"{}"})
    fetch.fails(ExitCode.BAD_DATA, "complete.json")


@pytest.mark.parametrize(
    "text",
    [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 3\n",
        b"version https://git-lfs.github.com/spec/v1\next-0-foo sha256:%s\noid sha256:%s\nsize 3\n"
        % (b"a" * 64, b"b" * 64),
        b"version https://git-lfs.github.com/spec/v1\n",
    ],
)
def test_a_pointer_that_cannot_be_followed_is_an_error(server, fetch, text):
    server.commit("org/model", {"a": b"1", "model.bin": text})
    fetch.fails(ExitCode.BAD_DATA, "model.bin", "pointer")


def test_a_pointer_that_is_left_over_is_an_error(server, fetch):
    twice = Lfs(pointer("a" * 64, 12345))
    server.commit("org/model", {"model.bin": twice})
    fetch.fails(ExitCode.BAD_DATA, "model.bin", "pointer")


def test_a_pointer_with_line_ends_of_windows_or_an_old_version_is_followed(server, fetch):
    server.commit("org/model", {"x": WEIGHTS})
    old = WEIGHTS.pointer.replace(b"git-lfs.github.com", b"hawser.github.com")
    server.commit("org/model", {"a": WEIGHTS.pointer.replace(b"\n", b"\r\n"), "b": old, "c": b"version 2\n"})
    assert fetch.run() == {"a": WEIGHTS.content, "b": WEIGHTS.content, "c": b"version 2\n"}


@pytest.mark.parametrize("ref", ["--upload-pack=touch evil", "-x", "ext::sh"])
def test_a_ref_that_git_would_run_is_refused_by_the_container_half_too(server, fetch, tmp_path, monkeypatch, ref):
    # The client half refuses it; this is the second lock on the same door.
    from tunewright_gitlfs.origin import HttpOrigin
    from tunewright_gitlfs.repository import Repository
    from tunewright_gitlfs.uri import parse_uri
    from tunewright_launcher.http import Http

    server.commit("org/model", MODEL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scratch").mkdir()
    origin = HttpOrigin(parse_uri(server.uri()), Http(), token=None, username=None, password=None)
    with pytest.raises(Exception, match=r"allow_unsafe|invalid refspec|failed"):
        Repository(origin, tmp_path / "scratch").fetch(ref)
    assert not list(tmp_path.rglob("evil*"))


# What goes wrong on the way


@pytest.mark.parametrize(
    "fault",
    [
        Fault(path="/objects/[0-9a-f]{64}", flip=7),
        Fault(path="/objects/[0-9a-f]{64}", end_after=1 << 20, times=8),
        Fault(path="/objects/[0-9a-f]{64}", cut_after=1 << 20, times=4),
        Fault(path="/objects/[0-9a-f]{64}", status=503, times=3),
        Fault(path="/objects/[0-9a-f]{64}", status=429, headers={"Retry-After": "1"}),
        Fault(path="/objects/batch", status=503, times=2),
        Fault(path="/objects/batch", status=429, headers={"Retry-After": "1"}),
    ],
    ids=["bit-flipped", "ended", "cut", "503", "429", "batch-503", "batch-429"],
)
def test_what_passes_is_overcome(server, fetch, fault):
    server.commit("org/model", {"large.bin": LARGE, "small.bin": WEIGHTS})
    server.faults.append(fault)
    assert fetch.run() == {"large.bin": LARGE.content, "small.bin": WEIGHTS.content}
    assert fault.times == 0


@pytest.mark.parametrize(
    "fault",
    [
        Fault(path="info/refs", status=503),
        Fault(path="info/refs", status=429, headers={"Retry-After": "1"}),
        Fault(path="/git-upload-pack", status=503),
        Fault(path="/git-upload-pack", cut_after=100, times=2),
        Fault(path="/git-upload-pack", end_after=100, times=2),
        Fault(path="/git-upload-pack", flip=100_000, times=3),
    ],
    ids=["503", "429", "pack-503", "pack-cut", "pack-ended", "pack-flipped"],
)
def test_what_passes_between_git_and_its_server_is_tried_again(server, fetch, fault):
    files = {**MODEL, "plain.bin": random.Random(3).randbytes(200_000)}
    server.commit("org/model", files)
    server.faults.append(fault)
    said = []
    patiently(lambda: fetch.run(), 30, lambda error, _: said.append(error))
    assert fetch.files() == contents(files)
    assert fault.times == 0
    assert said
    assert all(error.code.may_pass for error in said)


@pytest.mark.parametrize("content", [LARGE, WEIGHTS], ids=["in ranges", "in one"])
def test_an_object_that_stays_damaged_is_refused(server, fetch, content):
    server.commit("org/model", {"weights.bin": content})
    server.faults.append(Fault(path="/objects/[0-9a-f]{64}", flip=7, times=-1))
    fetch.fails(ExitCode.BAD_DATA, "weights.bin", "sha256")


def test_an_object_of_another_size_is_damaged_at_its_source(server, fetch):
    server.commit("org/model", {"weights.bin": WEIGHTS})
    server.objects[WEIGHTS.oid] = WEIGHTS.content[:1000]
    fetch.fails(ExitCode.BAD_DATA, "weights.bin", "1000 bytes")


@pytest.mark.slow
def test_a_server_that_stands_still_is_given_up(server, fetch):
    server.commit("org/model", MODEL)
    server.faults.append(Fault(path="/git-upload-pack", stall_after=10))
    error = fetch.fails(ExitCode.UNAVAILABLE)
    assert "slow" in str(error).lower() or "timed out" in str(error).lower()
    assert fetch.run() == contents(MODEL)


def test_without_git_the_error_names_it(server, fetch, tmp_path, monkeypatch):
    server.commit("org/model", MODEL)
    monkeypatch.setattr("tunewright_gitlfs.repository._NEEDS", (99, 0))
    fetch.fails(ExitCode.USAGE, "too old")


def test_the_settings_of_whoever_runs_it_do_not_count(server, fetch, tmp_path, monkeypatch, listener):
    server.commit("org/model", MODEL)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/evil\n")
        (hooks / name).chmod(0o755)
    config = tmp_path / "home" / ".gitconfig"
    config.parent.mkdir()
    config.write_text(
        f'[core]\n\thooksPath = {hooks}\n[url "{listener.url}"]\n\tinsteadOf = {server.url}\n'
        f'[filter "lfs"]\n\tsmudge = touch {tmp_path}/evil\n\trequired = true\n'
    )
    monkeypatch.setenv("HOME", str(config.parent))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    assert fetch.run() == contents(MODEL)
    assert not (tmp_path / "evil").exists()
    assert listener.log == []
