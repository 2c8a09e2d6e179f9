"""LFS objects: whom a credential is shown, addresses that expire, and what the batch API says."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.servers.faulty import Answer, Fault, FileServer
from tests.servers.git import LARGE, MODEL, WEIGHTS, File, GitServer, Lfs, ObjectStore, basic, contents

from tunewright import ExitCode, FetchError
from tunewright_gitlfs import GitLFSModelParams
from tunewright_gitlfs.lfs import Lfs as LfsClient
from tunewright_gitlfs.origin import HttpOrigin
from tunewright_gitlfs.pointers import Pointer
from tunewright_gitlfs.uri import parse_uri
from tunewright_launcher.http import Http

TOKEN = "a-token-that-must-not-show"


def batches(server: GitServer) -> int:
    return sum(request.path.endswith("/objects/batch") for request in server.log)


def _authorization(request):
    return request.headers.get("authorization", "").lower()


def test_objects_on_another_host_get_what_lfs_says_and_no_credential_of_ours(tmp_path, fetch):
    with ObjectStore() as store, GitServer(tmp_path / "git", store=store) as server:
        server.accepts = {basic("x-access-token", TOKEN)}
        server.commit("org/model", MODEL)
        assert fetch.run(server.uri(), token=TOKEN) == contents(MODEL)
        shown = {request.headers.get("authorization", "") for request in store.log}
        assert store.log
        assert all(value.startswith("RemoteAuth ") for value in shown), shown


def test_objects_that_anybody_may_have_from_another_host_get_no_credential_either(tmp_path, fetch):
    with ObjectStore() as store, GitServer(tmp_path / "git", store=store) as server:
        store.public = True
        server.accepts = {basic("x-access-token", TOKEN)}
        server.commit("org/model", MODEL)
        assert fetch.run(server.uri(), token=TOKEN) == contents(MODEL)
        assert store.log
        assert not [r for r in store.log if "authorization" in r.headers]


def test_objects_of_the_lfs_server_itself_get_our_credential_where_it_gives_no_other(server, fetch):
    server.public = True
    server.accepts = {basic("x-access-token", TOKEN)}
    server.commit("org/model", {"a.bin": WEIGHTS})
    assert fetch.run(token=TOKEN) == {"a.bin": WEIGHTS.content}
    shown = {r.headers.get("authorization") for r in server.log if r.path.startswith("/objects/")}
    assert shown == {basic("x-access-token", TOKEN)}


def test_git_itself_follows_no_redirect(server, fetch, listener):
    server.accepts = {basic("x-access-token", TOKEN)}
    server.commit("org/model", MODEL)
    server.moved["/org/model/git-upload-pack"] = f"{listener.url}/org/model/git-upload-pack"
    fetch.fails(ExitCode.BAD_DATA, "302", token=TOKEN)
    assert listener.log == []


def test_an_object_that_is_redirected_to_another_host_gets_no_credential(server, fetch):
    with FileServer({f"/elsewhere/{LARGE.oid}": LARGE.content}) as other:
        server.moved["/objects"] = f"{other.url}/elsewhere"
        server.commit("org/model", {"large.bin": LARGE})
        assert fetch.run() == {"large.bin": LARGE.content}
        assert other.log
        assert not [r for r in other.log if "authorization" in r.headers]


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


def test_batches_that_are_refused_together_go_on_with_the_next_way_to_show_a_token(server):
    server.commit("org/model", {"a.bin": WEIGHTS})
    http = Http()
    origin = HttpOrigin(parse_uri(server.uri()), http, token=TOKEN, username=None, password=None)
    server.accepts = {f"Bearer {TOKEN}"}
    together = threading.Barrier(3)

    class Late(Http):
        """Shows its answer when all of them have one."""

        def ask(self, request, longest):
            answer = super().ask(request, longest)
            if not request.headers["Authorization"].startswith("Bearer"):
                together.wait(30)
            return answer

    lfs = LfsClient(origin, Late())
    pointer = Pointer(oid=WEIGHTS.oid, size=len(WEIGHTS.content))
    with ThreadPoolExecutor(3) as pool:
        assert all(WEIGHTS.oid in found for found in pool.map(lambda _: lfs.ask([pointer]), range(3)))
    server.accepts = {"nothing"}
    with pytest.raises(FetchError, match="refuses to serve objects") as caught:
        lfs.ask([pointer])
    assert caught.value.code is ExitCode.NO_PERMISSION


@pytest.mark.slow
def test_the_next_hundred_is_asked_for_while_the_first_is_downloaded(server):
    server.commit("org/model", {f"{i}.bin": Lfs(b"%d" % i) for i in range(150)})
    snapshot = GitLFSModelParams(uri=server.uri()).snapshot()
    first, *_ = list(snapshot.entries())
    assert batches(server) == 0
    with snapshot.open(first, 0, first.size):
        deadline = time.monotonic() + 10
        while batches(server) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert batches(server) == 2


@pytest.mark.slow
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
    fetch.fails(code, "LFS", str(status), "over its data quota")


def test_an_object_that_was_never_pushed_is_not_found(server, fetch):
    server.commit("org/model", MODEL)
    del server.objects[WEIGHTS.oid]
    fetch.fails(ExitCode.NOT_FOUND, WEIGHTS.oid, "git lfs push")
    assert fetch.run(exclude="*.safetensors")


def test_a_server_without_lfs_is_told_from_one_that_has_none_of_the_objects(server, fetch, monkeypatch):
    server.commit("org/model", MODEL)
    server.lfs_error = (404, "Cannot find any of the requested objects")
    assert "enabled" not in fetch.fails(ExitCode.NOT_FOUND, "any of the requested", "git lfs push").remedy
    monkeypatch.setattr(server, "_batch", lambda _: Answer(status=404, body=b"404 page not found"))
    assert "git lfs push" not in fetch.fails(ExitCode.NOT_FOUND, "has no LFS", "lfs_url=").remedy


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
    server.commit("org/model", {"a.bin": WEIGHTS})
    monkeypatch.setattr(server, "_batch", lambda _: Answer(body=body.replace(b"%s", WEIGHTS.oid.encode())))
    fetch.fails(ExitCode.BAD_DATA, "LFS at")


@pytest.mark.parametrize("transfer", [b"null", b'""'])
def test_addresses_without_a_host_and_an_unnamed_transfer_are_understood(server, fetch, monkeypatch, transfer):
    server.commit("org/model", MODEL)
    hand_out, batch = server.hand_out, server._batch
    monkeypatch.setattr(server, "hand_out", lambda oid, life, _: hand_out(oid, life, ""))

    def unnamed(request):
        return Answer(body=batch(request).body.replace(b'"transfer": "basic"', b'"transfer": ' + transfer))

    monkeypatch.setattr(server, "_batch", unnamed)
    assert fetch.run() == contents(MODEL)


def test_a_user_in_an_address_is_shown_as_git_lfs_shows_it(server, fetch, monkeypatch):
    server.public = True
    server.commit("org/model", {"a.bin": WEIGHTS})
    hand_out = server.hand_out

    def with_user(oid, life, address):
        return {"href": hand_out(oid, life, address)["href"].replace("://", "://reader:pass@")}

    monkeypatch.setattr(server, "hand_out", with_user)
    assert fetch.run() == {"a.bin": WEIGHTS.content}
    asked = [r.headers for r in server.log if r.path.startswith("/objects/")]
    assert {(h["authorization"], "@" in h["host"]) for h in asked} == {(basic("reader", "pass"), False)}


def test_what_is_said_of_other_objects_is_passed_over(server, fetch, monkeypatch):
    server.commit("org/model", MODEL)
    batch = server._batch

    def more(request):
        answer = json.loads(batch(request).body)
        answer["objects"].append({"oid": "f" * 64, "size": 1, "error": {"code": 404, "message": "not here"}})
        return Answer(body=json.dumps(answer).encode())

    monkeypatch.setattr(server, "_batch", more)
    assert fetch.run() == contents(MODEL)


def test_an_lfs_server_elsewhere_is_asked_where_the_user_names_it(tmp_path, server, fetch):
    with GitServer(tmp_path / "lfs") as lfs:
        server.accepts = {basic("x-access-token", TOKEN)}
        lfs.accepts = {basic("x-access-token", "another-token")}
        lfs.commit("org/model", MODEL)
        server.commit("org/model", MODEL)
        server.lfs_error = (404, "no LFS here")
        fetch.fails(ExitCode.NOT_FOUND, "lfs_url=", token=TOKEN)
        url = f"{lfs.url}/org/model.git/info/lfs/"
        fetch.fails(ExitCode.NO_PERMISSION, "lfs_token=", token=TOKEN, lfs_url=url)
        assert not [r for r in lfs.log if "authorization" in r.headers]
        assert fetch.run(token=TOKEN, lfs_url=url, lfs_token="another-token") == contents(MODEL)
        assert not [r for r in lfs.log if _authorization(r) == basic("x-access-token", TOKEN).lower()]
