"""What is fetched from real web servers, and what from servers that misbehave."""

import base64
import hashlib
import random
from pathlib import Path

import pytest
from tests.servers.faulty import Answer, Fault, FileServer, Request, ranged
from tests.servers.volume import Volume

from tunewright import ExitCode

MIB = 1 << 20
LARGE = random.Random(3).randbytes(17 * MIB + 3)
FILES = {"a.jsonl": b"one\n", "sub/b c+%20é.jsonl": b"two\n", "empty": b"", "large.bin": LARGE}
TOKEN = "a-token-for-the-test"


def sums(files: dict[str, bytes]) -> bytes:
    return "".join(f"{hashlib.sha256(body).hexdigest()}  ./{path}\n" for path, body in files.items()).encode()


def put(folder: Path, files: dict[str, bytes]) -> None:
    for path, body in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(body)


@pytest.fixture
def folder(web_folder: Path, tmp_path: Path) -> Path:
    made = web_folder / tmp_path.name
    made.mkdir()
    return made


def test_the_files_of_a_list_arrive_verified(web: str, folder: Path, volume: Volume) -> None:
    put(folder, {**FILES, "unlisted": b"x", "SHA256SUMS": sums(FILES)})
    assert volume.fetch(f"{web}/{folder.name}/") == FILES
    assert set(volume.verified.values()) == {"sha256"}


def test_patterns_select_and_the_list_may_have_another_name(web: str, folder: Path, volume: Volume) -> None:
    put(folder, {**FILES, "sums.txt": sums(FILES)})
    found = volume.fetch(f"{web}/{folder.name}/", manifest="sums.txt", allow_patterns="*.jsonl", ignore_patterns="sub/")
    assert list(found) == ["a.jsonl"]
    volume = volume.another()
    volume.fails(
        ExitCode.NOT_FOUND,
        "none of them is selected",
        uri=f"{web}/{folder.name}/",
        manifest="sums.txt",
        allow_patterns="*.csv",
    )


def test_a_file_that_differs_from_the_list_is_refused(web: str, folder: Path, volume: Volume) -> None:
    put(folder, {**FILES, "SHA256SUMS": sums({**FILES, "a.jsonl": b"other"})})
    volume.fails(ExitCode.BAD_DATA, "a.jsonl", "sha256", uri=f"{web}/{folder.name}/")


@pytest.mark.parametrize("algorithm", ["sha512", "md5"])
def test_a_list_of_other_digests_verifies(algorithm: str, folder: Path, volume: Volume) -> None:
    lines = "".join(
        f"{algorithm.upper()} ({path}) = {hashlib.new(algorithm, body).hexdigest()}\n" for path, body in FILES.items()
    )
    with FileServer({f"/{path}": body for path, body in FILES.items()} | {"/LIST": lines.encode()}) as server:
        assert volume.fetch(f"{server.url}/", manifest="LIST") == FILES
    assert set(volume.verified.values()) == {algorithm}


def test_no_file_of_a_list_is_left_out_unseen(folder: Path, volume: Volume) -> None:
    files = {"/a": b"one", "/b": b"two", "/SHA256SUMS": sums({"a": b"one"}) + b"crc32 1234 b\n"}
    with FileServer(files) as server:
        volume.fails(ExitCode.BAD_DATA, "'crc32 1234 b' is not one", uri=f"{server.url}/")


def test_a_listed_file_that_is_not_there_is_told_with_its_list(folder: Path, volume: Volume) -> None:
    with FileServer({"/a": b"one", "/SHA256SUMS": sums({"a": b"one", "gone": b"x"})}) as server:
        volume.fails(ExitCode.NOT_FOUND, "SHA256SUMS lists 'gone', which is not there", uri=f"{server.url}/")
        assert volume.fetch(f"{server.url}/", ignore_patterns="gone") == {"a": b"one"}


class Redirecting(FileServer):
    """Shows a page of each folder, as web servers do: at the URL with a slash."""

    def answer(self, request: Request) -> Answer:
        if request.path == "/folder":
            return Answer(status=301, headers={"Location": "/folder/"})
        if request.path == "/folder/":
            return Answer(headers={"Content-Type": "text/html"}, body=b"<html>")
        return super().answer(request)


def test_a_folder_without_a_slash_is_called_one(volume: Volume) -> None:
    with Redirecting({}) as server:
        volume.fails(ExitCode.BAD_DATA, "is a folder", "Write the / at its end", uri=f"{server.url}/folder")


@pytest.mark.slow
def test_a_server_that_is_away_is_told_of_the_file_that_was_asked_for(volume: Volume) -> None:
    with FileServer({"/a.bin": b"one"}) as server:
        server.faults.append(Fault(path="", status=503, times=-1))
        failure = volume.fails(ExitCode.UNAVAILABLE, "/a.bin failed with 503", uri=f"{server.url}/a.bin")
    assert "complete.json" not in str(failure)


def test_one_file_arrives_under_its_name(web: str, folder: Path, volume: Volume) -> None:
    put(folder, {"my data.bin": LARGE})
    assert volume.fetch(f"{web}/{folder.name}/my%20data.bin?version=2") == {"my data.bin": LARGE}
    assert (volume.verified, volume.marker["uri"]) == (
        {"my data.bin": "size"},
        f"{web}/{folder.name}/my%20data.bin",
    )


def test_a_list_beside_one_file_verifies_it(web: str, folder: Path, volume: Volume) -> None:
    put(folder, {"a": b"one", "SHA256SUMS": sums({"a": b"one", "gone": b"x"})})
    assert volume.fetch(f"{web}/{folder.name}/a") == {"a": b"one"}
    assert volume.verified == {"a": "sha256"}


def test_the_users_digest_decides(web: str, folder: Path, volume: Volume) -> None:
    put(folder, {"a": b"one"})
    volume.fails(ExitCode.BAD_DATA, "sha256", uri=f"{web}/{folder.name}/a", sha256="0" * 64)
    assert volume.fetch(
        f"{web}/{folder.name}/a", sha256=hashlib.sha256(b"one").hexdigest().upper(), file_name="b.jsonl"
    ) == {"b.jsonl": b"one"}
    assert volume.verified == {"b.jsonl": "sha256"}


def test_a_folder_without_a_list_says_how_to_write_one(web: str, folder: Path, volume: Volume) -> None:
    put(folder, {"a": b"one"})
    volume.fails(ExitCode.NOT_FOUND, "no SHA256SUMS", "sha256sum", uri=f"{web}/{folder.name}/")
    put(folder, {"SHA256SUMS": b"<html>nothing</html>"})
    volume.fails(ExitCode.BAD_DATA, "is not a list", "'<html>nothing</html>'", uri=f"{web}/{folder.name}/")
    volume.fails(ExitCode.NOT_FOUND, "404", uri=f"{web}/{folder.name}/b")


def test_a_new_version_is_fetched_where_it_is_asked_for(web: str, folder: Path, volume: Volume) -> None:
    put(folder, {"a": b"one"})
    uri = f"{web}/{folder.name}/a"
    volume.fetch(uri, policy="Always")
    put(folder, {"a": b"other"})
    assert volume.fetch(uri, policy="Always") == {"a": b"other"}


def test_hostile_names_in_a_list_are_refused(volume: Volume) -> None:
    with FileServer({"/d/SHA256SUMS": sums({"../../x": b"x"}), "/x": b"x"}) as server:
        volume.fails(ExitCode.BAD_DATA, "../../x", uri=f"{server.url}/d/")
        assert {request.path for request in server.log} == {"/d/complete.json", "/d/SHA256SUMS"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Repr-Digest": "sha-256=:{sha256}:"},
        {"Digest": "md5={md5},SHA-256={sha256}"},
        {"Content-MD5": "{md5}"},
        {"x-goog-hash": "crc32c=AAAA,md5={md5}"},
    ],
)
@pytest.mark.parametrize("body", [b"small", pytest.param(LARGE, marks=pytest.mark.slow)], ids=["small", "large"])
def test_digests_of_the_server_are_compared(volume: Volume, headers: dict[str, str], body: bytes) -> None:
    stated = {
        "sha256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
        "md5": base64.b64encode(hashlib.md5(body).digest()).decode(),
    }
    with FileServer({"/a": body}) as server:
        server.faults.append(Fault(path="/a", times=-1, headers={k: v.format(**stated) for k, v in headers.items()}))
        volume.fetch(f"{server.url}/a")
        algorithm = "sha256" if "sha256" in str(headers) else "md5"
        assert volume.verified == {"a": algorithm}
        server.faults[0].headers = {k: v.format(sha256="A" * 43 + "=", md5="A" * 22 + "==") for k, v in headers.items()}
        volume = volume.another()
        volume.fails(ExitCode.BAD_DATA, algorithm, uri=f"{server.url}/a")


class Plain(FileServer):
    """Files, from a server that knows neither HEAD nor ranges, and does not say how long they are."""

    def answer(self, request: Request) -> Answer:
        if request.method == "HEAD":
            return Answer(status=405)
        body = self.files.get(request.path)
        if body is None:
            return Answer(status=404)
        frames = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        return Answer(headers={"Transfer-Encoding": "chunked", "Content-Length": ""}, body=frames)


@pytest.mark.parametrize("body", [b"small", pytest.param(LARGE, marks=pytest.mark.slow)], ids=["small", "large"])
def test_a_file_of_unknown_length_is_counted_first(volume: Volume, body: bytes) -> None:
    with Plain({"/data.bin": body}) as server:
        assert volume.fetch(f"{server.url}/data.bin") == {"data.bin": body}
        assert volume.verified == {"data.bin": "sha256"}


class Private(FileServer):
    """Files behind a password, and a redirect to another host."""

    elsewhere = ""

    def answer(self, request: Request) -> Answer:
        if request.path == "/moved":
            return Answer(status=302, headers={"Location": self.elsewhere})
        wanted = f"Basic {base64.b64encode(b'user:a-password-for-the-test').decode()}"
        if wanted != request.headers.get("authorization") and self.token != request.headers.get("private-token"):
            return Answer(status=401)
        return ranged(self.files[request.path], request) if request.path in self.files else Answer(status=404)


def test_credentials_open_their_host_and_no_other(volume: Volume) -> None:
    with Private({"/a": b"one"}, token=TOKEN) as server, FileServer({"/b": b"two"}) as other:
        server.elsewhere = f"{other.url}/b"
        basic = {"username": "user", "password": "a-password-for-the-test"}
        own = {"token": TOKEN, "token_header": "PRIVATE-TOKEN"}
        assert volume.fetch(f"{server.url}/a", **basic) == volume.fetch(f"{server.url}/a", **own) == {"a": b"one"}
        assert volume.fetch(f"{server.url}/moved?sig=a-signature-for-the-test", **own) == {"moved": b"two"}
        for request in other.log:
            assert not {"authorization", "private-token"} & request.headers.keys()
            assert "a-signature" not in request.target


def test_a_token_is_a_bearer_token(volume: Volume) -> None:
    with FileServer({"/a": b"one"}, token=TOKEN) as server:
        assert volume.fetch(f"{server.url}/a", token=TOKEN) == {"a": b"one"}
        volume = volume.another()
        error = volume.fails(ExitCode.NO_PERMISSION, "token=", uri=f"{server.url}/a")
        error = volume.fails(ExitCode.NO_PERMISSION, "credential", uri=f"{server.url}/a", token="a-wrong-token")
        assert "a-wrong-token" not in str(error)


def test_a_refusal_says_that_the_credential_was_not_sent_elsewhere(volume: Volume) -> None:
    with Private({}, token=TOKEN) as server, FileServer({"/b": b"two"}, token=TOKEN) as other:
        server.elsewhere = f"{other.url}/b"
        host = other.url.removeprefix("http://")
        volume.fails(ExitCode.NO_PERMISSION, host, "is not sent", uri=f"{server.url}/moved", token=TOKEN)


def test_a_signature_shows_neither_in_errors_nor_on_the_disk(volume: Volume) -> None:
    with FileServer({"/a": b"one"}) as server:
        signed = f"{server.url}/a?sig=a-signature-for-the-test"
        volume.fetch(signed)
        assert {request.target for request in server.log if request.path == "/a"} == {"/a?sig=a-signature-for-the-test"}
        server.faults.append(Fault(path="/a", status=403, times=-1))
        volume = volume.another()
        error = volume.fails(ExitCode.NO_PERMISSION, "may have expired", uri=signed)
        assert "a-signature" not in str(error)
    for file in volume.folder.parent.rglob("*"):
        assert not file.is_file() or b"a-signature" not in file.read_bytes()


def test_a_page_to_log_in_is_no_file(volume: Volume) -> None:
    with FileServer({"/a.bin": b"<html>", "/a.html": b"<html>"}) as server:
        server.faults.append(Fault(path="/a", times=-1, headers={"Content-Type": "text/html; charset=utf-8"}))
        volume.fails(ExitCode.BAD_DATA, "web page", uri=f"{server.url}/a.bin")
        assert volume.fetch(f"{server.url}/a.html") == {"a.html": b"<html>"}


class Changing(FileServer):
    """A file that is replaced by one of the same length once a part of it was sent."""

    def answer(self, request: Request) -> Answer:
        answer = super().answer(request)
        if request.method == "GET" and request.path == "/a":
            self.files["/a"] = LARGE[::-1]
        return answer


def test_a_file_that_changes_in_between_is_of_one_version(volume: Volume) -> None:
    with Changing({"/a": LARGE}) as server:
        assert volume.fetch(f"{server.url}/a") == {"a": LARGE[::-1]}


@pytest.mark.parametrize("ranges", ["ignored", "refused", "wrapped", "capped"])
def test_servers_with_odd_ranges_are_read_all_the_same(volume: Volume, ranges: str) -> None:
    with FileServer({"/d/a": LARGE, "/d/SHA256SUMS": sums({"a": LARGE})}, ranges=ranges) as server:
        assert volume.fetch(f"{server.url}/d/") == {"a": LARGE}


def test_a_connection_that_breaks_is_resumed(volume: Volume) -> None:
    with FileServer({"/a": LARGE}) as server:
        server.faults.append(Fault(path="/a", cut_after=3 * MIB, times=3))
        server.faults.insert(0, Fault(path="SHA256SUMS", status=500))
        assert volume.fetch(f"{server.url}/a") == {"a": LARGE}
        assert server.sent < 2 * len(LARGE)


class Mistaken(FileServer):
    """Says that there is nothing when it is asked by HEAD, as some frameworks do."""

    def answer(self, request: Request) -> Answer:
        return Answer() if request.method == "HEAD" else super().answer(request)


def test_a_server_that_says_nothing_is_there_is_asked_again(volume: Volume) -> None:
    with Mistaken({"/a": b"one", "/empty": b""}) as server:
        assert volume.fetch(f"{server.url}/a") == {"a": b"one"}
        assert volume.fetch(f"{server.url}/empty") == {"empty": b""}


def test_a_busy_moment_does_not_end_the_listing(volume: Volume) -> None:
    files = {f"/d/{number}": b"%d" % number for number in range(20)}
    listed = sums({path.removeprefix("/d/"): body for path, body in files.items()})
    with FileServer({**files, "/d/SHA256SUMS": listed}) as server:
        server.faults.append(Fault(path="/d/7", status=503, times=2))  # to HEAD, and to the GET after it
        assert len(volume.fetch(f"{server.url}/d/")) == len(files)
        assert len([request for request in server.log if request.path == "/d/SHA256SUMS"]) == 1
