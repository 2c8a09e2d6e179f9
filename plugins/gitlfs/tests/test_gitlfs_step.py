"""The init container's step as a process: no secret anywhere, and what a kill leaves is used."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from tests.servers.faulty import Fault
from tests.servers.git import GitServer, Lfs, SshServer, basic, contents, sshd_problem
from tests.servers.step import step_environment

from tunewright._planning.assemble import document_of
from tunewright.plugins.registry import Registry
from tunewright_gitlfs import GitLFSModelParams

TOKEN = "a-token-that-must-not-show"
FILES = {"config.json": b"{}", "a.bin": Lfs(random.Random(0).randbytes(20 << 20)), "b.bin": Lfs(b"second" * 5000)}
CONTENTS = contents(FILES)

has_sshd = pytest.mark.skipif(sshd_problem() is not None, reason=str(sshd_problem()))


@attrs.frozen
class Step:
    """`python -m tunewright_launcher fetch model` in a pod's folder."""

    folder: Path

    @property
    def slot(self) -> Path:
        return self.folder / "volume" / "model"

    def start(self, params: dict[str, object], env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        for name in ("config", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        document = document_of("model", Registry().get("gitlfs"), GitLFSModelParams(**params))
        (self.folder / "config" / "model.json").write_text(document.dumps(), "utf-8")
        environment = {
            **step_environment(self.folder, self.folder / "volume"),
            "HOME": str(self.folder / "tmp"),
            "TMPDIR": str(self.folder / "tmp"),
            "TUNEWRIGHT_FETCH_CONNECTIONS": "4",
            **(env or {}),
        }
        command = [sys.executable, "-m", "tunewright_launcher", "fetch", "model"]
        return subprocess.Popen(
            command,
            env=environment,
            cwd=self.folder / "tmp",
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, params: dict[str, object], env: dict[str, str] | None = None) -> str:
        process = self.start(params, env)
        out, err = process.communicate(timeout=120)
        return out + err

    def files(self) -> dict[str, bytes]:
        found = {p.relative_to(self.slot).as_posix(): p.read_bytes() for p in self.slot.rglob("*") if p.is_file()}
        return {path: content for path, content in found.items() if path != "complete.json"}

    def verdict(self) -> dict[str, object] | None:
        file = self.folder / "run" / "verdict.json"
        return json.loads(file.read_text("utf-8")) if file.exists() else None


def command_lines(session: int) -> bytes:
    """The arguments of every process of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                found.append((folder / "cmdline").read_bytes())
        except (OSError, ValueError):
            continue
    return b"\n".join(found)


def watch(process: subprocess.Popen[str], *folders: Path) -> tuple[bytes, dict[Path, bytes]]:
    """All arguments, and all small files with their last contents, that were seen until the process ended."""
    arguments, files = b"", {}
    while process.poll() is None:
        arguments += command_lines(process.pid)
        for folder in folders:
            for path in (Path(base, name) for base, _, names in os.walk(folder) for name in names):
                try:
                    if path.stat().st_size < 1 << 16:
                        files[path] = path.read_bytes()
                except OSError:  # it is gone
                    continue
        time.sleep(0.02)
    return arguments, files


@pytest.mark.parametrize("accepted", [pytest.param(TOKEN, marks=pytest.mark.slow), "another"], ids=["right", "wrong"])
def test_a_token_shows_nowhere(tmp_path, accepted):
    with GitServer(tmp_path / "git") as server:
        server.accepts = {basic("x-access-token", accepted)}
        server.commit("org/model", FILES)
        server.faults.append(Fault(path="upload-pack", delay=0.2, times=-1))
        step = Step(tmp_path / "pod")
        process = step.start({"uri": server.uri()}, {"GIT_TOKEN": TOKEN})
        arguments, files = watch(process, step.folder)
        out, err = process.communicate()
        if accepted == TOKEN:
            assert step.files() == CONTENTS, err
            assert any(path.name == "config" and path.parent.name == "git" for path in files), "git's own was seen"
            assert b"fetch" in arguments
            assert b"git" in arguments
        else:
            assert step.verdict()["code"] == 77
        left = {p: p.read_bytes() for p in step.folder.rglob("*") if p.is_file()}
        shown = [arguments, out.encode(), err.encode(), *files.values(), *left.values()]
        for secret in (TOKEN, basic("x-access-token", TOKEN).split()[1]):
            assert not [text for text in shown if secret.encode() in text]
        assert not list((step.folder / "tmp").iterdir())


@pytest.mark.slow
def test_the_folder_for_temporary_files_may_be_relative(tmp_path):
    with GitServer(tmp_path / "git") as server:
        server.commit("org/model", FILES)
        step = Step(tmp_path / "pod")
        said = step.run({"uri": server.uri()}, {"TMPDIR": "."})
    assert step.files() == CONTENTS, said
    assert not list((step.folder / "tmp").iterdir())


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that within 30 seconds"
        time.sleep(0.02)


def test_a_second_start_sends_no_request_and_needs_no_git(tmp_path):
    with GitServer(tmp_path / "git") as server:
        commit = server.commit("org/model", FILES)
        step = Step(tmp_path / "pod")
        step.run({"uri": server.uri()})
        assert step.files() == CONTENTS
        marker = json.loads((step.slot / "complete.json").read_text())
        assert marker["revision"] == commit
        server.log.clear()
        assert '"cached": true' in step.run({"uri": server.uri()}, {"PATH": "/nowhere"})
        assert server.log == []
        shutil.rmtree(step.slot)
        step.run({"uri": server.uri()}, {"PATH": "/nowhere"})
        assert step.verdict()["code"] == 64
        assert "git itself is not installed" in step.verdict()["cause"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize("full", ["tmp", "volume"])
def test_a_full_disk_is_told_as_such(tmp_path, full):
    with GitServer(tmp_path / "git") as server:
        server.commit("org/model", {**FILES, "plain.bin": random.Random(1).randbytes(2 << 20)})
        step = Step(tmp_path / "pod")
        (step.folder / full).mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", step.folder / full]
        if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
            pytest.skip("no file system can be mounted here")
        try:
            said = step.run({"uri": server.uri()})
            assert step.verdict() is not None, said
            assert step.verdict()["code"] == 73, step.verdict()
            assert not step.slot.exists()
        finally:
            subprocess.run(["umount", "-l", step.folder / full], check=True)


# What is on its way in the kernel's buffers counts as sent: up to some megabytes. Beside 80 MB that is next to nothing.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("mib", "moments", "most"),
    [(20, [0.7], 1.4), (80, [i / 21 for i in range(1, 21)], 1.05)],
    ids=["once", "20 times"],
)
def test_kill_9_and_resume_downloads_next_to_nothing_twice(tmp_path, mib, moments, most):
    files = {**FILES, "a.bin": Lfs(random.Random(0).randbytes(mib << 20))}
    size = sum(map(len, contents(files).values()))
    for moment in moments:
        with GitServer(tmp_path / "git") as server:
            server.commit("org/model", files)
            server.faults.append(Fault(path="/objects/[0-9a-f]{64}", rate=8 << 20, times=-1))
            step = Step(tmp_path / f"pod-{moment}")
            process = step.start({"uri": server.uri()})
            wait_for(lambda at=moment, sent=server: sent.sent > at * size)
            process.kill()
            process.communicate()
            server.faults.clear()
            said = step.run({"uri": server.uri()})
            assert step.files() == contents(files), said
            assert server.sent < most * size
        shutil.rmtree(step.folder)


@pytest.fixture(scope="module")
def ssh(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ssh")
    with GitServer(folder / "git") as git, SshServer(folder, folder / "git") as server:
        git.commit("org/model", FILES)
        yield git, server


@pytest.mark.slow
@has_sshd
def test_ssh_with_a_key_and_a_known_host(ssh, tmp_path):
    git, server = ssh
    git.accepts = {"RemoteAuth of-ssh"}
    server.access = {
        "href": f"{git.url}/org/model.git/info/lfs",
        "header": {"Authorization": "RemoteAuth of-ssh"},
        "expires_in": 60,
    }
    step = Step(tmp_path / "pod")
    process = step.start(
        {"uri": server.uri(), "known_hosts": server.known_hosts}, {"GIT_SSH_PRIVATE_KEY": server.key.strip()}
    )
    arguments, _ = watch(process, step.folder / "volume")
    _, err = process.communicate()
    assert step.files() == CONTENTS, err
    assert any(command.startswith("git-lfs-authenticate ") for command in server.commands)
    assert any(command.startswith("git-upload-pack ") for command in server.commands)
    body = server.key.splitlines()[1].encode()
    left = [p.read_bytes() for p in step.folder.rglob("*") if p.is_file()]
    assert not [text for text in (arguments, err.encode(), *left) if body in text]
    assert b"StrictHostKeyChecking=yes" in arguments
    assert not list((step.folder / "tmp").iterdir()), "the key's file is gone"


@has_sshd
@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"known_hosts": "example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA\n"}, 77, "known_hosts="),
        ({"uri": "org/missing"}, 66, "Check the URI"),
        ({"key": "other"}, 77, "credential"),
        ({"key": "broken"}, 77, "ssh_private_key="),
        pytest.param({"access": False}, 69, "/info/lfs", marks=pytest.mark.slow),
        ({"port": True}, 69, "reachable"),
    ],
    ids=["unknown host", "no repository", "another key", "no key", "no LFS over ssh", "nobody there"],
)
def test_what_goes_wrong_with_ssh(ssh, tmp_path, change, code, words):
    git, server = ssh
    git.accepts, server.access = set(), {"href": f"{git.url}/org/model.git/info/lfs", "header": {}}
    uri, key = server.uri(change.get("uri", "org/model")), server.key.strip()
    if change.get("key") == "other":
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
        key = (tmp_path / "other").read_text().strip()
    elif change.get("key") == "broken":
        key = "-----BEGIN OPENSSH PRIVATE KEY-----\nbm90IGEga2V5\n-----END OPENSSH PRIVATE KEY-----"
    if "access" in change:
        server.access = None
    if "port" in change:
        uri = uri.replace(f":{server.port}/", ":9/")
    step = Step(tmp_path / "pod")
    params = {"uri": uri, "known_hosts": change.get("known_hosts", server.known_hosts)}
    said = step.run(params, {"GIT_SSH_PRIVATE_KEY": key, "TUNEWRIGHT_RETRY_FOR": "0"})
    verdict = step.verdict()
    assert verdict is not None, said
    assert verdict["code"] == code, verdict
    assert words in f"{verdict['cause']} {verdict['remedy']}"
    assert not step.slot.exists()
