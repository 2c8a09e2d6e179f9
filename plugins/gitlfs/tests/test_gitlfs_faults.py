"""Hostile repositories, and what goes wrong on the way."""

import random

import pytest
from tests.servers.faulty import Fault
from tests.servers.git import (
    LARGE,
    MODEL,
    WEIGHTS,
    Lfs,
    Link,
    contents,
    git,
    pointer,
)

from tunewright import ExitCode
from tunewright_gitlfs.repository import _SETTINGS
from tunewright_launcher.retry import retry

TOKEN = "a-token-that-must-not-show"


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
        Repository(origin, tmp_path / "scratch").fetch(ref, whole=True)
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        Fault(path="/objects/[0-9a-f]{64}", flip=7),
        Fault(path="/objects/[0-9a-f]{64}", end_after=1 << 20, times=8),
        Fault(path="/objects/[0-9a-f]{64}", cut_after=1 << 20, times=4),
        Fault(path="/objects/[0-9a-f]{64}", status=503, times=3),
        Fault(path="/objects/[0-9a-f]{64}", status=429, headers={"Retry-After": "1"}),
        Fault(path="/objects/batch", status=503, times=2),
        pytest.param(Fault(path="/objects/batch", status=429, headers={"Retry-After": "1"}), marks=pytest.mark.slow),
        Fault(path="/objects/batch", end_after=40),
    ],
    ids=["bit-flipped", "ended", "cut", "503", "429", "batch-503", "batch-429", "batch-ended"],
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
        pytest.param(Fault(path="info/refs", status=429, headers={"Retry-After": "1"}), marks=pytest.mark.slow),
        pytest.param(Fault(path="/git-upload-pack", status=503), marks=pytest.mark.slow),
        Fault(path="/git-upload-pack", cut_after=100, times=2),
        pytest.param(Fault(path="/git-upload-pack", end_after=100, times=2), marks=pytest.mark.slow),
        pytest.param(Fault(path="/git-upload-pack", flip=100_000, times=3), marks=pytest.mark.slow),
    ],
    ids=["503", "429", "pack-503", "pack-cut", "pack-ended", "pack-flipped"],
)
def test_what_passes_between_git_and_its_server_is_tried_again(server, fetch, fault):
    files = {**MODEL, "plain.bin": random.Random(3).randbytes(200_000)}
    server.commit("org/model", files)
    server.faults.append(fault)
    said = []
    retry(fetch.run, 30, lambda error, *_: said.append(error))
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
def test_a_server_that_stands_still_is_given_up(server, fetch, monkeypatch):
    monkeypatch.setitem(_SETTINGS, "http.lowSpeedTime", "1")
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
