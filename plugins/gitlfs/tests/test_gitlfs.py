"""The client half of `gitlfs+https://` and `gitlfs+ssh://`: nothing reaches git that it could run, send or follow."""

import posixpath
import shutil
import subprocess
from typing import get_args

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.servers.git import GitServer, Lfs, basic, contents

from tunewright import RequestError, SecretRef
from tunewright.providers.uris import path_problem, ref_problem
from tunewright.testing import DatasetProviderTests, ModelProviderTests, Served
from tunewright_gitlfs import GitLFSDatasetParams, GitLFSModelParams, GitSource, parse_uri
from tunewright_gitlfs.uri import Transport

HTTPS = "gitlfs+https://git.example/org/repo"
SSH = "gitlfs+ssh://git@git.example/org/repo"
TOKEN, USER, PASSWORD = "a-token-for-the-test", "a-user-for-the-test", "a-password-for-the-test"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nbm90IGEga2V5\n-----END OPENSSH PRIVATE KEY-----"
KNOWN_HOSTS = "git.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5\n"

NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.~+-]{0,10}", fullmatch=True).filter(lambda s: s not in (".", ".."))
FOLDERS = st.text(min_size=1).filter(
    lambda s: not (path_problem(s) or s.startswith("-") or s.endswith("/") or ".git" in s.lower() or "::" in s)
)
SOURCES = st.builds(
    GitSource,
    transport=st.sampled_from(get_args(Transport)),
    host=st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,10}[a-z0-9])?(:[0-9]{1,5})?", fullmatch=True),
    repository=st.lists(NAMES, min_size=1).map("/".join),
    ref=st.none() | st.text(min_size=1).filter(lambda s: not ref_problem(s)),
    folder=st.none() | FOLDERS,
)


class TestGitLFSModel(ModelProviderTests):
    name, tested_elsewhere = "gitlfs", "plugins/gitlfs/tests/test_gitlfs_step.py"

    def provider(self) -> GitLFSModelParams:
        return GitLFSModelParams(uri=SSH, ref="v1.0", path="models/tiny", ssh_private_key=KEY, known_hosts=KNOWN_HOSTS)


class TestGitLFSDataset(DatasetProviderTests):
    name, tested_elsewhere = "gitlfs", "plugins/gitlfs/tests/test_gitlfs_step.py"

    def provider(self) -> GitLFSDatasetParams:
        return GitLFSDatasetParams(
            uri=f"{HTTPS}@main#train", eval_dataset=f"{HTTPS}#eval", include="*.parquet", token=TOKEN
        )


class TestGitLFSDatasetWithPassword(DatasetProviderTests):
    name, tested_elsewhere = "gitlfs", "plugins/gitlfs/tests/test_gitlfs_step.py"

    def provider(self) -> GitLFSDatasetParams:
        return GitLFSDatasetParams(uri=HTTPS, exclude=["*.bin"], username=USER, password=PASSWORD)


@given(SOURCES)
def test_every_source_survives_its_uri(source: GitSource) -> None:
    if source.transport == "ssh":
        source = attrs.evolve(source, host=f"git@{source.host}")
    assert parse_uri(source.uri) == source


@given(st.sampled_from(["https", "ssh"]), st.text(alphabet="ab1./:@#%-\\\0 2eEfF"))
def test_hostile_uris_are_refused_or_harmless(transport: str, text: str) -> None:
    try:
        source = parse_uri(f"gitlfs+{transport}://{text}")
    except RequestError:
        return
    host = source.host.removeprefix(f"{source.host.partition('@')[0]}@") if "@" in source.host else source.host
    assert source.url.startswith(f"{transport}://")
    assert host[0].isalnum()
    assert "::" not in source.url
    assert source.transport == "ssh" or "@" not in source.host
    assert source.ref is None or not source.ref.startswith("-")
    if source.folder is not None:
        assert posixpath.normpath(f"/clone/{source.folder}").startswith("/clone/")
        assert not source.folder.startswith(("-", ".git/"))


@pytest.mark.skipif(shutil.which("git") is None, reason="compares with git itself")
@given(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=12))
def test_git_takes_every_ref_that_is_taken(ref: str) -> None:
    if not ref_problem(ref):
        subprocess.run(["git", "check-ref-format", f"refs/heads/{ref}"], check=True)


@pytest.mark.parametrize(
    ("uri", "url", "ref", "folder"),
    [
        (HTTPS, "https://git.example/org/repo", None, None),
        (f"{HTTPS}.git@v1.0#data/train/", "https://git.example/org/repo.git", "v1.0", "data/train"),
        (f"{HTTPS}@feature/a#b", "https://git.example/org/repo", "feature/a", "b"),
        (f"{HTTPS}@a%23b#c%20d", "https://git.example/org/repo", "a#b", "c d"),
        ("gitlfs+https://git.example:8443/group/sub/repo", "https://git.example:8443/group/sub/repo", None, None),
        (f"{SSH}@main", "ssh://git@git.example/org/repo", "main", None),
        ("gitlfs+ssh://git.example:2222/~me/repo#a", "ssh://git.example:2222/~me/repo", None, "a"),
        ("GITLFS+HTTPS://git.example/repo", "https://git.example/repo", None, None),
    ],
)
def test_uris_are_taken_apart(uri: str, url: str, ref: str | None, folder: str | None) -> None:
    source = parse_uri(uri)
    assert (source.url, source.ref, source.folder) == (url, ref, folder)


@pytest.mark.parametrize(
    "uri",
    [
        "gitlfs://git.example/org/repo",
        "gitlfs+://git.example/org/repo",
        "gitlfs+ext::sh -c true",
        "gitlfs+ext::sh%20-c%20true://git.example/org/repo",
        "gitlfs+https::ext://git.example/org/repo",
        "gitlfs+file:///org/repo",
        "gitlfs+git://git.example/org/repo",
        "gitlfs+ftp://git.example/org/repo",
        "gitlfs+https:git.example/org/repo",
        "gitlfs+https://git.example",
        "gitlfs+https://git.example/",
        "gitlfs+https:///org/repo",
        "gitlfs+https://git.example/org/repo::x",
        "gitlfs+https://-git.example/org/repo",
        "gitlfs+ssh://-oProxyCommand=true/org/repo",
        "gitlfs+ssh://-oProxyCommand=true@git.example/org/repo",
        "gitlfs+ssh://git@-oProxyCommand=true/org/repo",
        "gitlfs+ssh://git@git.example:org/repo",
        "gitlfs+https://git.example/org/../repo",
        "gitlfs+https://git.example/org/%2e%2e/repo",
        "gitlfs+https://git.example/org//repo",
        "gitlfs+https://git.example/org/repo?x=y",
        f"{HTTPS}@",
        f"{HTTPS}@-x",
        f"{HTTPS}@--upload-pack=true",
        f"{HTTPS}@%2D-upload-pack=true",
        f"{HTTPS}@a..b",
        f"{HTTPS}@a%00",
        f"{HTTPS}#",
        f"{HTTPS}#../other",
        f"{HTTPS}#a/../../b",
        f"{HTTPS}#%2e%2e/b",
        f"{HTTPS}#/etc",
        f"{HTTPS}#-x",
        f"{HTTPS}#.git/hooks",
        f"{HTTPS}#.GIT",
        f"{HTTPS}#a::b",
        f"{HTTPS}#a%3A%3Ab",
        f"{HTTPS}\n",
    ],
)
def test_what_git_must_not_see_is_refused(uri: str) -> None:
    with pytest.raises(RequestError, match=r"GitLFSModelParams\.uri"):
        GitLFSModelParams(uri=uri)
    with pytest.raises(RequestError, match=r"GitLFSDatasetParams\.eval_dataset"):
        GitLFSDatasetParams(uri=HTTPS, eval_dataset=uri)


@pytest.mark.parametrize(
    "uri",
    [
        f"gitlfs+https://{USER}:{PASSWORD}@git.example/org/repo",
        f"gitlfs+https://{PASSWORD}@git.example/org/repo",
        f"gitlfs+https://{PASSWORD}@git.example/org/repo::x",
        f"gitlfs+ssh://{USER}:{PASSWORD}@git.example/org/repo",
        f"gitlfs+ftp://{PASSWORD}@git.example/org/repo",
        f"gitlfs+https://{USER}:x/{PASSWORD}@git.example/org/repo",
        f"gitlfs+https://{PASSWORD}@git.example/org/repo@-x",
    ],
)
def test_credentials_in_the_uri_are_refused_unseen(uri: str) -> None:
    with pytest.raises(RequestError, match=r"GitLFSModelParams\.uri") as caught:
        GitLFSModelParams(uri=uri)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"token": TOKEN, "username": USER, "password": PASSWORD},
        {"username": USER},
        {"password": PASSWORD},
        {"token": TOKEN, "ssh_private_key": KEY},
        {"ssh_private_key": KEY},
        {"known_hosts": KNOWN_HOSTS},
        {"uri": SSH, "token": TOKEN},
        {"uri": SSH, "username": USER, "password": PASSWORD},
        {"uri": SSH, "known_hosts": ""},
        {"uri": SSH, "known_hosts": KEY},
        {"token": TOKEN, "eval_dataset": SSH},
        {"ref": "-x"},
        {"ref": "a..b"},
        {"ref": ""},
        {"ref": 3},
        {"path": "../a"},
        {"path": "-a"},
        {"path": "/a"},
        {"path": ".git"},
        {"path": "a::b"},
        {"path": ""},
        {"uri": f"{HTTPS}@main", "ref": "v1.0"},
        {"uri": f"{HTTPS}#a", "path": "b"},
        {"include": [""]},
        {"dataset": HTTPS},
    ],
)
def test_fields_that_cannot_work_are_refused_unseen(fields: dict[str, object]) -> None:
    with pytest.raises(RequestError) as caught:
        GitLFSDatasetParams(**{"uri": HTTPS, **fields})  # type: ignore[arg-type]
    for secret in (TOKEN, USER, PASSWORD, "bm90IGEga2V5"):
        assert secret not in str(caught.value)


def test_ref_and_path_may_stand_in_the_uri_or_in_fields() -> None:
    in_fields = GitLFSModelParams(uri=HTTPS, ref="v1.0", path="tiny")
    in_uri = GitLFSModelParams(uri=f"{HTTPS}@v1.0#tiny")
    both = GitLFSModelParams(uri=f"{HTTPS}@v1.0#tiny", ref="v1.0", path="tiny")
    assert in_fields.source == in_uri.source == both.source
    assert in_uri.source.uri == f"{HTTPS}@v1.0#tiny"


def test_a_key_file_may_end_with_a_line_break() -> None:
    assert GitLFSModelParams(uri=SSH, ssh_private_key=f"{KEY}\n") == GitLFSModelParams(uri=SSH, ssh_private_key=KEY)
    reference = SecretRef(name="git", key="ssh-privatekey")
    assert GitLFSModelParams(uri=SSH, ssh_private_key=reference).ssh_private_key == reference


def test_the_keps_spellings() -> None:
    assert GitLFSModelParams(model=HTTPS) == GitLFSModelParams(uri=HTTPS)  # type: ignore[call-arg]
    assert GitLFSDatasetParams(dataset=HTTPS) == GitLFSDatasetParams(uri=HTTPS)  # type: ignore[call-arg]


class TestGitLFSServed(ModelProviderTests):
    name = "gitlfs"

    def provider(self) -> GitLFSModelParams:
        return GitLFSModelParams(uri=HTTPS, username=USER, password=PASSWORD)

    @pytest.fixture
    def served(self, server: GitServer) -> Served:
        files = {"config.json": b"{}", "model.safetensors": Lfs(bytes(range(256)) * 400)}
        server.commit("org/model", files)
        server.accepts = {basic(USER, PASSWORD)}
        provider = GitLFSModelParams(uri=server.uri(), username=USER, password=PASSWORD)
        return Served(provider=provider, files=contents(files))
