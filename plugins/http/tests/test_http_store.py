"""Outputs to real WebDAV servers: what arrives, what goes, what a broken upload leaves, and what is refused."""

import base64
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
from tests.servers.dav import PASSWORD, USER, Apache, Dav, Nginx
from tests.servers.faulty import Answer, Fault, FileServer, Request
from tests.servers.passing import PassingProxy
from tests.servers.tools import Missing
from tests.servers.volume import Volume
from tests.servers.web import Web

from tunewright import ExitCode, FetchError
from tunewright.providers.limits import FetchLimits
from tunewright.testing import OutputTargetTests, Written
from tunewright_http import HttpDatasetParams, HttpModelParams
from tunewright_launcher.outputs import Output

pytestmark = pytest.mark.slow

LARGE = random.Random(4).randbytes((5 << 20) + 3)
LOGIN = {"username": USER, "password": PASSWORD}


@attrs.frozen
class Place:
    """A folder that a server serves, and its URL."""

    url: str
    folder: Path

    def files(self) -> dict[str, bytes]:
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture(scope="session", params=[Dav, Nginx, Apache])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A real WebDAV server."""
    pytest.importorskip("wsgidav")
    folder = tmp_path_factory.mktemp("dav")
    try:
        made = Dav(folder) if request.param is Dav else request.param(folder, tmp_path_factory.mktemp("server"))
        with made as running:
            yield Place(running.url, folder)
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def place(server: Place, tmp_path: Path) -> Place:
    """A folder of this test alone, which does not exist yet."""
    return Place(f"{server.url}/{tmp_path.name}/a%20model", server.folder / tmp_path.name / "a model")


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A finished model's folder."""
    folder = tmp_path / "output"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "sub" / "100% ümpty").write_bytes(b"")
    (folder / "model.safetensors").write_bytes(LARGE)
    return folder


def output(url: str, *, retry_for: float = 0, say: Callable[[str], None] = lambda _: None, **given: str) -> Output:
    limits = FetchLimits(connections=4, stall=20, tries=3, retry_for=retry_for)
    source = HttpModelParams(uri=url, **(given or LOGIN))
    return Output(store=source.store(), uri=source.uri, key="k", limits=limits, say=say)


def names(place: Place) -> set[str]:
    return set(place.files())


def test_a_model_arrives_whole_and_is_read_again(place: Place, trained: Path, tmp_path: Path) -> None:
    output(place.url).check_writable()
    assert names(place) == set()
    output(place.url).upload_model(trained)
    assert names(place) == {"config.json", "model.safetensors", "sub/100% ümpty", "complete.json"}
    assert place.files()["model.safetensors"] == LARGE
    for url in (place.url, f"{place.url}/"):
        volume = Volume(tmp_path / f"volume{len(url)}", "http", HttpDatasetParams)
        expected = {name: data for name, data in place.files().items() if name != "complete.json"}
        assert volume.fetch(url, **LOGIN) == expected
        assert set(volume.verified.values()) == {"sha256"}


def test_files_that_an_earlier_result_has_alone_are_removed(place: Place, trained: Path) -> None:
    shards = trained.parent / "shards"
    shards.mkdir()
    for name in (
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ):
        (shards / name).write_bytes(b"old")
    (shards / "notes.txt").write_bytes(b"old")
    output(place.url).upload_model(shards)
    place.folder.joinpath("of-the-user.txt").write_bytes(b"mine")
    output(place.url).upload_model(trained)
    assert names(place) == {
        "config.json", "model.safetensors", "sub/100% ümpty", "complete.json", "of-the-user.txt",
    }  # fmt: skip


def test_a_checkpoint_comes_back_and_older_ones_go(place: Place, tmp_path: Path) -> None:
    there = output(place.url)
    for step in (1, 2):
        folder = tmp_path / f"checkpoint-{step}"
        (folder / "rank").mkdir(parents=True)
        (folder / "rank" / "state").write_bytes(b"%d" % step)
        there.upload_checkpoint(folder)
    assert {name.split("/")[2] for name in names(place)} == {"checkpoint-2"}
    back = tmp_path / "back"
    back.mkdir()
    there.fetch_checkpoint(back)
    assert (back / "checkpoint-2" / "rank" / "state").read_bytes() == b"2"


def test_two_jobs_at_once_end_with_one_whole_result(place: Place, trained: Path) -> None:
    other = trained.parent / "other"
    other.mkdir()
    (other / "config.json").write_bytes(b"[]")
    (other / "model.safetensors").write_bytes(LARGE[::-1])
    failed: list[Exception] = []

    def run(folder: Path) -> None:
        try:
            output(place.url, retry_for=60).upload_model(folder)
        except FetchError as error:  # final only where it says that another job is the reason
            failed.append(error)

    threads = [threading.Thread(target=run, args=[folder]) for folder in (trained, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("another one uploads there" in str(error) for error in failed)
    assert len(failed) < 2
    volume = Volume(place.folder.parent / "volume", "http", HttpDatasetParams)
    found = volume.fetch(f"{place.url}/", **LOGIN)
    wanted = [
        {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (trained, other)
    ]
    assert found in wanted


UPLOAD = """
import sys
from pathlib import Path
from tunewright.providers.limits import FetchLimits
from tunewright_http import HttpModelParams
from tunewright_launcher.outputs import Output

url, folder, user, password = sys.argv[1:]
source = HttpModelParams(uri=url, username=user, password=password)
Output(store=source.store(), uri=url, key="k", limits=FetchLimits(), say=print).upload_model(Path(folder))
"""


class Slow(PassingProxy):
    """Kills a process when it sends weights."""

    process: subprocess.Popen[bytes] | None = None

    def answer(self, request: Request) -> Answer:
        if request.method == "PUT" and "safetensors" in request.target and self.process is not None:
            process, self.process = self.process, None
            # What had arrived by then, as a server without renames keeps it.
            super().answer(attrs.evolve(request, body=request.body[: len(request.body) // 2]))
            os.kill(process.pid, signal.SIGKILL)
            return Answer(status=503)
        return super().answer(request)


def test_a_killed_upload_leaves_nothing_that_is_taken_for_a_model(place: Place, trained: Path, tmp_path: Path) -> None:
    port = int(place.url.split("/")[2].partition(":")[2])
    with Slow(port) as proxy:
        url = place.url.replace(f"http://127.0.0.1:{port}", proxy.url)
        ready = subprocess.Popen([sys.executable, "-c", UPLOAD, url, str(trained), USER, PASSWORD])
        proxy.process = ready
        assert ready.wait(timeout=120) == -signal.SIGKILL
        assert "complete.json" not in names(place)
        volume = Volume(tmp_path / "volume", "http", HttpDatasetParams)
        volume.fails(ExitCode.NOT_FOUND, "no list of its files", uri=f"{url}/", **LOGIN)
        output(url).upload_model(trained)
        assert volume.fetch(f"{url}/", **LOGIN)["model.safetensors"] == LARGE


def test_what_arrives_damaged_is_sent_again(place: Place, trained: Path) -> None:
    port = int(place.url.split("/")[2].partition(":")[2])
    with PassingProxy(port) as proxy:
        url = place.url.replace(f"http://127.0.0.1:{port}", proxy.url)
        proxy.damaged = "model.safetensors"
        with pytest.raises(FetchError, match="other contents than were sent"):
            output(url).upload_model(trained)
        assert "complete.json" not in names(place)
        proxy.damaged = ""
        output(url).upload_model(trained)
        assert place.files()["model.safetensors"] == LARGE
        proxy.log.clear()
        output(url).upload_model(trained)
        assert not [request for request in proxy.log if request.method == "PUT"], "all of it was there"


class Gate(PassingProxy):
    """Lets nobody in without a bearer token, and the server without it."""

    token = "a-token-for-the-test"

    def answer(self, request: Request) -> Answer:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return Answer(status=401, body=b"No token, no entry")
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return super().answer(attrs.evolve(request, headers={**request.headers, "authorization": f"Basic {login}"}))


def test_credentials_are_a_bearer_token_or_a_password(place: Place, trained: Path) -> None:
    port = int(place.url.split("/")[2].partition(":")[2])
    with Gate(port) as gate:
        url = place.url.replace(f"http://127.0.0.1:{port}", gate.url)
        output(url, token=gate.token).upload_model(trained)
        assert place.files()["model.safetensors"] == LARGE
        with pytest.raises(FetchError, match="No token, no entry") as caught:
            output(url, token="a-wrong-token").check_writable()
        assert caught.value.code is ExitCode.NO_PERMISSION


def test_a_server_that_only_reads_is_refused_with_its_own_words(tmp_path: Path) -> None:
    pytest.importorskip("wsgidav")
    for started, words, given in (
        (Dav(tmp_path, readonly=True), "403", LOGIN),
        (Dav(tmp_path), "401", {"username": USER, "password": "a-wrong-password"}),
        (Web(tmp_path, "http.server"), r"501 Unsupported method", LOGIN),
    ):
        with started as server, pytest.raises(FetchError, match=words) as caught:
            output(f"{server.url}/out", **given).check_writable()
        assert caught.value.code is ExitCode.NO_PERMISSION
    assert not list(tmp_path.iterdir())


NOTHING = b'<?xml version="1.0"?><multistatus xmlns="DAV:"/>'


class Writable(FileServer):
    """Takes files, and lists none."""

    listed = Answer(status=405, body=b"GET, PUT, DELETE")

    def answer(self, request: Request) -> Answer:
        if request.method == "PUT":
            self.files[request.path] = request.body
            return Answer(status=201)
        if request.method == "DELETE":
            return Answer(status=204 if self.files.pop(request.path, None) is not None else 404)
        return self.listed if request.method == "PROPFIND" else super().answer(request)


class Refusing(Writable):
    """Takes no file."""

    listed = Answer(status=207, body=NOTHING)

    def __init__(self, files: dict[str, bytes], status: int) -> None:
        super().__init__(files)
        self.status = status

    def answer(self, request: Request) -> Answer:
        return Answer(status=self.status, body=b"No") if request.method == "PUT" else super().answer(request)


def test_a_server_that_cannot_be_listed_is_refused(trained: Path) -> None:
    with Writable({}) as server, pytest.raises(FetchError, match=r"list .*405.*GET, PUT, DELETE.*PROPFIND"):
        output(f"{server.url}/out").check_writable()


@pytest.mark.parametrize(
    ("status", "code"), [(507, ExitCode.NO_SPACE), (413, ExitCode.BAD_DATA), (423, ExitCode.TRY_AGAIN)]
)
def test_a_refusal_of_a_file_says_what_to_do(trained: Path, status: int, code: ExitCode) -> None:
    with (
        Refusing({}, status) as server,
        pytest.raises(FetchError, match=f"upload .*{status}.*The server says: No") as caught,
    ):
        HttpModelParams(uri=f"{server.url}/out").store().upload({"model.safetensors": trained / "model.safetensors"})
    assert caught.value.code is code


def test_uploads_do_not_follow_to_another_host(trained: Path) -> None:
    with Writable({}) as server, Writable({}) as other:
        server.faults.append(Fault(path="/out", times=-1, status=307, headers={"Location": f"{other.url}/out"}))
        with pytest.raises(FetchError, match=r"redirects to .*neither the credential nor the files"):
            HttpModelParams(uri=f"{server.url}/out", token="a-token-for-the-test").store().check_writable()
        assert not other.files
        assert all("authorization" not in request.headers for request in other.log)


class TestHttpOutput(OutputTargetTests):
    name = "http"

    @pytest.fixture
    def written(self, place: Place) -> Written:
        return Written(provider=HttpModelParams(uri=place.url, **LOGIN), contents=place.files, checks_secrets=False)
