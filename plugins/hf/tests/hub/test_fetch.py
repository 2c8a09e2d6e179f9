"""Models and datasets from a Hub on the loopback interface: what is fetched, and what every fault comes to."""

import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
from tests.servers.faulty import Answer, Fault, FaultyServer
from tests.servers.git import Lfs
from tests.servers.hub import Hub, Repo, tokens_in

from tunewright import ExitCode, FetchError
from tunewright._planning.assemble import document_of
from tunewright.events import Event
from tunewright.plugins.registry import Registry
from tunewright.providers.limits import FetchLimits
from tunewright_hf import HuggingFaceDatasetParams, HuggingFaceModelParams
from tunewright_launcher.fetch import fetch_into
from tunewright_launcher.retry import retry

TOKEN = "hf-token-of-the-test"
FILES = {
    "config.json": b'{"a": 1}',
    "empty.txt": b"",
    "sub folder/ä#?%41.json": b"[]",
    "model.safetensors": Lfs(random.Random(0).randbytes(9_000_000)),
    "small.bin": Lfs(b"weights" * 1000),
}


@attrs.define
class Fetch:
    """Fetches into a volume, in this process, as the init container would."""

    hub: Hub
    volume: Path
    events: list[Event] = attrs.field(factory=list)

    def run(self, *, slot: str = "model", patience: float = 0, **params: object) -> dict[str, bytes]:
        """The files that are then in the slot, but for the marker."""
        cls = HuggingFaceModelParams if slot == "model" else HuggingFaceDatasetParams
        given = {"uri": "hf://org/model" if slot == "model" else "hf://datasets/org/data", "endpoint": self.hub.url}
        provider = cls(**(given | params))
        document = document_of("model" if slot == "model" else "dataset", Registry().get("hf"), provider)
        limits = FetchLimits(connections=4, stall=1, tries=3)

        def work() -> None:
            fetch_into(provider, document, self.volume, slot, self.events.append, limits=limits)

        retry(work, patience, lambda *_: None)
        return self.files(slot)

    def files(self, slot: str = "model") -> dict[str, bytes]:
        folder = self.volume / slot
        found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        return {path: content for path, content in found.items() if path != "complete.json"}

    def fails(self, code: ExitCode, *words: str, **params: object) -> FetchError:
        """The error; nothing is marked as complete, and no token is shown."""
        with pytest.raises(FetchError) as caught:
            self.run(**params)
        text = str(caught.value)
        assert caught.value.code is code, text
        assert not [word for word in words if word not in text], text
        assert TOKEN not in text
        assert not list(self.volume.glob("*/complete.json"))
        return caught.value

    def marker(self, slot: str = "model") -> dict[str, object]:
        return json.loads((self.volume / slot / "complete.json").read_text("utf-8"))


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        running.tokens = {TOKEN: "read"}
        yield running


@pytest.fixture
def repo(hub: Hub) -> Repo:
    return hub.repo("org/model", FILES)


@pytest.fixture
def fetch(hub: Hub, tmp_path: Path) -> Fetch:
    return Fetch(hub, tmp_path / "volume")


def test_a_model_is_fetched_at_a_commit_and_every_file_verified(hub, repo, fetch):
    hub.page = 2
    assert fetch.run() == repo.contents
    marker = fetch.marker()
    assert marker["revision"] == repo.branches["main"]
    verified = {path: record["verified"] for path, record in marker["files"].items()}
    assert verified == {p: "sha256" if isinstance(f, Lfs) else "git-blob-sha1" for p, f in FILES.items()}
    assert not tokens_in(hub.log)


def test_a_dataset_is_fetched(hub, fetch):
    repo = hub.repo("org/data", {"train.parquet": Lfs(b"p" * 5000), "README.md": b"#"}, kind="datasets")
    assert fetch.run(slot="dataset") == repo.contents


CARD = b"""---
configs:
- {config_name: main, default: true, data_files: [{split: train, path: main/train*}, {split: test, path: main/test*}]}
- {config_name: socratic, data_files: {train: socratic/*}}
---
"""
PARTS = {
    path: Lfs(path.encode() * 1000)
    for path in ("main/train-0.parquet", "main/test-0.parquet", "socratic/train-0.parquet")
}


def requested(hub: Hub) -> set[str]:
    """The files that were asked for."""
    found = (re.search(r"/resolve(?:-cache/datasets/org/data)?/[0-9a-f]{40}/(.+)", r.path) for r in hub.log)
    return {match[1] for match in found if match}


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(
    ("part", "fetched"),
    [
        ({"config": "socratic"}, ["README.md", "socratic/train-0.parquet"]),
        ({"config": "main", "split": "train[:3]"}, ["README.md", "main/train-0.parquet"]),
        ({"uri": "hf://datasets/org/data?config=main&split=test"}, ["README.md", "main/test-0.parquet"]),
        ({"split": "train"}, ["README.md", "main/train-0.parquet"]),  # of the default
        ({"split": "test", "allow_patterns": ["*.parquet"]}, ["main/test-0.parquet"]),
    ],
)
def test_only_the_files_of_a_part_are_requested(part, fetched, cached, hub, fetch):
    hub.cached = cached
    hub.repo("org/data", {"README.md": CARD, **PARTS}, kind="datasets")
    hub.page = 2
    assert sorted(fetch.run(slot="dataset", **part)) == fetched
    assert requested(hub) == {"README.md", *fetched}
    assert len([r for r in hub.store.log if r.method == "GET"]) == len([p for p in fetched if p.endswith(".parquet")])


def test_several_configurations_are_refused_before_anything_is_fetched(hub, fetch):
    hub.repo("org/data", {"README.md": CARD.replace(b"default: true, ", b""), **PARTS}, kind="datasets")
    fetch.fails(
        ExitCode.NOT_FOUND, "holds 2 datasets: main, socratic", "dataset.config: main", slot="dataset", split="train"
    )
    fetch.fails(ExitCode.NOT_FOUND, "has no configuration 'fr'", "main, socratic", slot="dataset", config="fr")
    assert requested(hub) == {"README.md"}


@pytest.mark.parametrize("name", ["a branch", "refs/pr/1"])
def test_a_branch_a_tag_and_a_commit_can_be_named(name, hub, repo, fetch):
    old = repo.branches["main"]
    name = name.replace(" ", "-")
    hub.commit(repo, {"config.json": b"of the branch"}, branch=name)
    assert fetch.run(revision=name) == {"config.json": b"of the branch"}
    hub.commit(repo, {"config.json": b"newer"})
    assert fetch.run(revision=old) == {path: f.content if isinstance(f, Lfs) else f for path, f in FILES.items()}
    assert fetch.marker()["revision"] == old


def test_the_token_is_sent_to_the_hub_and_not_to_where_it_redirects(hub, fetch):
    repo = hub.repo("org/model", FILES, private=True, members={TOKEN})
    assert fetch.run(access_token=TOKEN) == repo.contents
    assert tokens_in(hub.log) == {f"Bearer {TOKEN}"}
    assert not [r for r in hub.log if "authorization" not in r.headers]
    assert hub.store.log
    assert hub.store.leaked == []


def test_the_token_is_kept_on_a_redirect_within_the_hub(hub, fetch):
    hub.cached = True
    repo = hub.repo("org/model", FILES, private=True, members={TOKEN})
    assert fetch.run(access_token=TOKEN) == repo.contents
    assert any("/api/resolve-cache/" in r.target for r in hub.log)


def test_a_next_page_on_another_host_gets_no_token(hub, repo, fetch):
    hub.page = 2
    with Hub() as other:
        link = f'<{other.url}/api/models/org/model/tree/x?cursor=2>; rel="next"'
        hub.faults.append(Fault(path="expand=false$", headers={"Link": link}))
        assert fetch.run(access_token=TOKEN) == repo.contents
        assert other.log == []


def test_a_token_of_this_machine_is_not_used(hub, repo, fetch, monkeypatch, tmp_path):
    (tmp_path / "token").write_text("hf-token-of-a-login")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    fetch.run()
    assert not tokens_in(hub.log)


def test_the_endpoint_comes_from_hf_endpoint_and_offline_mode_is_not_for_fetches(hub, repo, fetch, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch.run(endpoint=None) == repo.contents


@pytest.mark.parametrize("url", ["hub.example", "ftp://hub.example", f"https://me:{TOKEN}@hub.example"])
def test_an_hf_endpoint_that_is_none_is_refused_unseen(url, fetch, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", url)
    fetch.fails(ExitCode.USAGE, "$HF_ENDPOINT", endpoint=None)


def test_patterns(hub, repo, fetch):
    assert set(fetch.run(allow_patterns=["*.json"], ignore_patterns="sub folder/")) == {"config.json"}
    with pytest.raises(FetchError, match="patterns select none") as caught:
        fetch.run(allow_patterns=["*.gguf"])
    assert caught.value.code is ExitCode.NOT_FOUND


def test_duplicates_of_safetensors_are_left_out_unless_they_are_asked_for(hub, fetch):
    files = {"model.safetensors": Lfs(b"s"), "pytorch_model.bin": Lfs(b"b"), "tf_model.h5": Lfs(b"h"), "a.json": b"{}"}
    hub.repo("org/model", files)
    assert set(fetch.run()) == {"model.safetensors", "a.json"}
    assert set(fetch.run(ignore_patterns=["*.safetensors"])) == {"pytorch_model.bin", "tf_model.h5", "a.json"}
    assert set(fetch.run(allow_patterns=["*.bin", "*.safetensors"])) == {"model.safetensors", "pytorch_model.bin"}


def test_the_files_of_one_split(hub, fetch):
    data = {f"data/{split}-00000-of-00001.parquet": Lfs(split.encode()) for split in ("train", "test", "train_sft")}
    hub.repo("org/data", {**data, "README.md": b"#"}, kind="datasets")
    kept = {"data/train_sft-00000-of-00001.parquet", "README.md"}
    assert set(fetch.run(slot="dataset", split="train_sft")) == kept
    fetch.volume = fetch.volume.with_name("another")
    fetch.fails(ExitCode.NOT_FOUND, "'tets'", "test, train, train_sft", slot="dataset", split="tets")


# What is refused.


@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_private_repository_and_none_look_alike_and_the_message_says_so(token, hub, fetch):
    hub.repo("org/private", FILES, private=True)
    code = ExitCode.NOT_FOUND if token else ExitCode.NO_PERMISSION
    for uri in ("hf://org/private", "hf://org/missing"):
        fetch.fails(code, uri, "private", "does not exist", "access_token=", uri=uri, access_token=token)


def test_a_wrong_token(hub, repo, fetch):
    fetch.fails(ExitCode.NO_PERMISSION, "does not accept the token", "expired", access_token="wrong")


def test_a_token_in_what_the_hub_says_is_not_repeated(hub, repo, fetch):
    hub.faults.append(Fault(status=401, headers={"X-Error-Message": f'User Access Token "{TOKEN}" is expired'}))
    fetch.fails(ExitCode.NO_PERMISSION, "is expired", access_token=TOKEN)


def test_a_token_that_cannot_be_one(fetch):
    fetch.fails(ExitCode.NO_PERMISSION, "not allowed in a token", access_token="hf_abc…")


@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_gated_repository(token, hub, fetch):
    hub.repo("org/model", FILES, gated=True)
    page = f"{hub.url}/org/model"
    fetch.fails(ExitCode.NO_PERMISSION, "gated", f"Accept its terms on {page}", access_token=token)


def test_a_mirror_that_redirects_to_the_hub_says_that_the_token_was_not_sent_there(hub, fetch):
    class Mirror(FaultyServer):
        def answer(self, request):
            return Answer(status=307, headers={"Location": f"{hub.url}{request.target}"})

    hub.repo("org/model", FILES, gated=True, members={TOKEN})
    with Mirror() as mirror:
        endpoint = f"give endpoint='{hub.url}'"
        fetch.fails(ExitCode.NO_PERMISSION, "gated", "was not sent", endpoint, access_token=TOKEN, endpoint=mirror.url)
    assert not [request for request in hub.log if "authorization" in request.headers]


def test_a_gated_repository_whose_terms_were_accepted(hub, fetch):
    repo = hub.repo("org/model", FILES, gated=True, members={TOKEN})
    assert fetch.run(access_token=TOKEN) == repo.contents


def test_a_permission_that_the_token_lacks(hub, repo, fetch):
    hub.faults.append(Fault(status=403, headers={"X-Error-Message": "Access to this resource is disabled."}))
    fetch.fails(ExitCode.NO_PERMISSION, "Access to this resource is disabled", access_token=TOKEN)


@pytest.mark.slow
def test_a_store_that_refuses_is_asked_again_and_then_believed(hub, repo, fetch):
    hub.store.faults.append(Fault(status=403, times=-1))
    fetch.fails(ExitCode.NO_PERMISSION, "refuses", allow_patterns=["small.bin"])
    assert len(hub.store.log) > 1
    hub.store.faults[:] = [Fault(status=403)]
    assert set(fetch.run(allow_patterns=["small.bin"])) == {"small.bin"}


def test_a_revision_that_is_not_there(hub, repo, fetch):
    fetch.fails(ExitCode.NOT_FOUND, "no branch, tag or commit 'v9'", uri="hf://org/model@v9")


def test_a_file_that_is_listed_and_not_there(hub, repo, fetch):
    hub.faults.append(Fault(path="resolve.*config", status=404, headers={"X-Error-Code": "EntryNotFound"}))
    fetch.fails(ExitCode.NOT_FOUND, "hf://org/model has no config.json")


def test_a_model_of_that_name_is_no_dataset(hub, repo, fetch):
    fetch.fails(ExitCode.NO_PERMISSION, "hf://datasets/org/model", slot="dataset", uri="hf://org/model")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"sha": "main"}', b"{}", b"null"])
def test_what_is_no_hub_is_said_to_be_none(body, hub, repo, fetch, monkeypatch):
    answer = hub.answer
    monkeypatch.setattr(hub, "answer", lambda r: attrs.evolve(answer(r), body=body, headers={}))
    fetch.fails(ExitCode.BAD_DATA, "names a Hub")


@pytest.mark.parametrize(
    "item",
    [
        {"path": "a", "size": 1},
        {"path": "a", "size": -1, "oid": "0" * 40},
        {"path": "a", "size": "1", "oid": "0" * 40},
        {"path": 1, "size": 1, "oid": "0" * 40},
        {"path": "a", "size": 1, "oid": "0" * 40, "lfs": {"size": 1}},
    ],
)
def test_a_malformed_tree(item, hub, repo, fetch, monkeypatch):
    tree_of(hub, monkeypatch, [{"type": "file", **item}])
    fetch.fails(ExitCode.BAD_DATA, "a file without path, size or digest")


@pytest.mark.parametrize(
    "path", ["../x", "/etc/x", "a/../../x", "a\0b", "complete.json", "a//b", "", "\ud800", "a/" + "n" * 256]
)
def test_a_hostile_path(path, hub, repo, fetch, monkeypatch, tmp_path):
    bad = {"type": "file", "path": path, "size": 1, "oid": "0" * 40}
    tree_of(hub, monkeypatch, [{"type": "file", "path": "ok", "size": 1, "oid": "0" * 40}, bad])
    if path == "\ud800":  # no file system has it; it is written as its escape, which is a name like others
        fetch.fails(ExitCode.NOT_FOUND)
    else:
        fetch.fails(ExitCode.BAD_DATA, "ignore_patterns")
    assert {p.name for p in tmp_path.iterdir()} == {"volume"}


def tree_of(hub: Hub, monkeypatch: pytest.MonkeyPatch, items: list[dict[str, object]]) -> None:
    answer = hub.answer

    def answer_with(request):
        found = answer(request)
        return attrs.evolve(found, body=json.dumps(items).encode()) if "/tree/" in request.target else found

    monkeypatch.setattr(hub, "answer", answer_with)


# What goes wrong on the way.


def of_small(**fault: object) -> Callable[[Hub], None]:
    return lambda hub: hub.faults.append(Fault(path="resolve.*config", **fault))


def of_large(**fault: object) -> Callable[[Hub], None]:
    return lambda hub: hub.store.faults.append(Fault(path=FILES["model.safetensors"].oid, **fault))


ONCE = {
    "cut off": of_small(end_after=3),
    "cut off, large": of_large(end_after=1_000_000, times=3),
    "reset": of_large(cut_after=1_000_000, times=3),
    "a flipped bit": of_small(flip=2),
    "a flipped bit, large": of_large(flip=1_000_000),
    "too many requests": of_small(status=429, headers={"Retry-After": "0"}, times=2),
    "too many requests, large": of_large(status=429, headers={"Retry-After": "0"}, times=2),
    "unavailable": of_small(status=503, times=2),
    "unavailable, large": of_large(status=503, times=2),
    "a stalled socket": of_small(stall_after=2),
    "a stalled socket, large": of_large(stall_after=1_000_000),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", ONCE.values(), ids=ONCE)
def test_what_passes_is_survived(fault, hub, repo, fetch):
    fault(hub)
    assert fetch.run() == repo.contents


def test_a_signed_url_that_expires_between_two_ranges(hub, repo, fetch):
    answer, one_by_one = hub.store.answer, threading.Lock()

    def answer_once(request):
        with one_by_one:  # else two may be answered before the first one has ended the signature
            found = answer(request)
            hub.store.signature = "another"
            return found

    hub.store.answer = answer_once
    assert fetch.run(allow_patterns=["model.safetensors"]) == {"model.safetensors": repo.contents["model.safetensors"]}
    assert len({r.target for r in hub.store.log}) > 1


def test_a_link_that_is_cut_every_megabyte(hub, repo, fetch):
    hub.store.faults.append(Fault(path=FILES["model.safetensors"].oid, end_after=1_000_000, times=-1))
    assert fetch.run() == repo.contents
    assert hub.store.sent == len(FILES["model.safetensors"].content) + len(FILES["small.bin"].content)


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ("revision", {"status": 503}),
        ("revision", {"end_after": 5}),
        ("tree", {"status": 429, "headers": {"Retry-After": "0"}}),
        ("tree", {"cut_after": 5}),
        ("tree", {"stall_after": 5}),
    ],
)
def test_a_listing_that_fails_is_asked_for_again(what, fault, hub, repo, fetch):
    hub.faults.append(Fault(path=f"/{what}/", **fault))
    with pytest.raises(FetchError) as caught:
        fetch.run()
    assert caught.value.code.may_pass
    assert fetch.run(patience=30) == repo.contents


def test_the_hub_says_how_long_no_more_requests_are_taken(hub, repo, fetch):
    hub.faults.append(Fault(path="/revision/", status=429, headers={"RateLimit": '"api";r=0;t=55'}))
    assert fetch.fails(ExitCode.TRY_AGAIN, "for 55 s").retry_after == 55
    hub.faults.append(Fault(path="/revision/", status=429, headers={"Retry-After": "7", "RateLimit": '"api";r=0;t=55'}))
    assert fetch.fails(ExitCode.TRY_AGAIN).retry_after == 7


def test_a_large_file_that_is_damaged_at_its_source(hub, repo, fetch):
    oid = FILES["small.bin"].oid
    hub.store.objects[oid] = b"Weights" + hub.store.objects[oid][7:]
    fetch.fails(ExitCode.BAD_DATA, "small.bin", "sha256")


def test_a_plain_file_that_is_damaged_at_its_source(hub, repo, fetch):
    repo.served["config.json"] = b'{"a": 2}'
    fetch.fails(ExitCode.BAD_DATA, "config.json", "git-blob-sha1")


@pytest.mark.parametrize("path", ["config.json", "model.safetensors"])
def test_a_file_that_is_shorter_at_its_source(path, hub, repo, fetch):
    repo.served["config.json"] = b'{"a":1}'
    hub.store.objects[FILES["model.safetensors"].oid] = b"short"
    fetch.fails(ExitCode.BAD_DATA, path, "a file other than", allow_patterns=[path])


def test_a_mirror_that_serves_another_commit_once(hub, repo, fetch):
    hub.faults.append(Fault(path="resolve.*config", headers={"X-Repo-Commit": "0" * 40}))
    assert fetch.run() == repo.contents
    hub.commit(repo, FILES)
    hub.faults.append(Fault(path="resolve.*config", headers={"X-Repo-Commit": "0" * 40}, times=-1))
    fetch.volume = fetch.volume.with_name("another")
    fetch.fails(ExitCode.BAD_DATA, "config.json")


def test_a_revision_that_moves_while_it_is_fetched_stays_what_it_was(hub, repo, fetch):
    first, contents = repo.branches["main"], repo.contents
    answer = hub.answer

    def moving(request):
        found = answer(request)
        if "/revision/" in request.target:
            hub.commit(repo, {**FILES, "config.json": b"of a newer commit"})
        return found

    hub.answer = moving
    assert fetch.run() == contents
    assert fetch.marker()["revision"] == first


# What is there already.


def test_a_second_start_sends_no_request(hub, repo, fetch):
    fetch.run()
    hub.log.clear()
    assert fetch.run() == repo.contents
    assert hub.log == []
    assert fetch.events[-1].cached is True


def test_always_asks_one_question_and_fetches_a_new_commit(hub, repo, fetch):
    fetch.run(policy="Always")
    hub.log.clear()
    fetch.run(policy="Always")
    assert [r.path for r in hub.log] == ["/api/models/org/model/revision/main"]
    newer = hub.commit(repo, {**FILES, "config.json": b"newer"})
    assert fetch.run(policy="Always")["config.json"] == b"newer"
    assert fetch.marker()["revision"] == newer


def test_a_try_goes_on_where_an_earlier_one_has_ended(hub, repo, fetch):
    hub.faults.append(Fault(path="resolve.*config", status=404, times=1))
    sent = 0
    fetch.fails(ExitCode.NOT_FOUND)
    sent = hub.store.sent
    assert fetch.run() == repo.contents
    assert hub.store.sent - sent < 9_100_000
