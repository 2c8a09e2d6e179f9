"""What the source plugins share: taking URIs apart, and refusing hostile ones without showing credentials."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright import RequestError
from tunewright.providers.fields import (
    FilePatterns,
    check_exclusive,
    check_flag,
    check_http_url,
    check_text,
    check_together,
    one_of,
    patterns,
)
from tunewright.providers.uris import from_uri_or_field, path_problem, ref_problem, split_uri

FORM = "acme://place/path"


def split(uri: object) -> tuple[str, str, str]:
    parts = split_uri(uri, scheme="acme", form=FORM, field="dataset", transports=("", "https"))  # type: ignore[arg-type]
    return parts.transport, parts.authority, parts.path


@attrs.frozen(kw_only=True)
class Checked:
    url: str | None = attrs.field(default=None, validator=check_http_url)
    text: str | None = attrs.field(default=None, validator=check_text)
    flag: bool = attrs.field(default=False, validator=check_flag)
    style: str = attrs.field(default="auto", validator=one_of("auto", "path"))


def test_a_uri_is_taken_apart_undecoded() -> None:
    assert split("acme://place/a/b%20c?d#e") == ("", "place", "a/b%20c?d#e")
    assert split("ACME+HTTPS://place") == ("https", "place", "")
    assert split("acme:///a") == ("", "", "a")


@pytest.mark.parametrize(
    "uri",
    [None, 3, "", "acme", "acme:place", "acme:/place", "other://place", "acme+://place", "acme+ext://place", " acme://place",
     "acme://place/\n", "acme://place/\0", "acme://place/\ud800", "acme://place/\u202e"],
)  # fmt: skip
def test_what_is_no_such_uri_is_refused_with_the_form(uri: object) -> None:
    with pytest.raises(RequestError, match=r"dataset=.*Write it as acme://place/path") as caught:
        split(uri)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "uri",
    [
        "acme://name:hunter2@place/a",
        "acme://name:hun/hunter2@place/a\n",
        "acme+ftp://hunter2@place/a",
        "acme+ftp://name:x/hunter2@place/a",
        "other://hunter2@place/a",
    ],
)
def test_a_credential_in_a_uri_is_refused_unseen(uri: str) -> None:
    with pytest.raises(RequestError) as caught:
        split(uri)
    assert "hunter2" not in str(caught.value)


@given(st.text())
def test_whatever_the_text_the_parts_are_in_it_or_it_is_refused(text: str) -> None:
    uri = f"acme://{text}"
    try:
        transport, authority, path = split(uri)
    except RequestError:
        return
    assert transport == ""
    assert uri in (f"acme://{authority}", f"acme://{authority}/{path}")
    assert uri.isprintable()


@pytest.mark.parametrize("path", ["", "a", "a/", "a/b c/.hidden", "..a/b..", "…"])
def test_a_path_below_a_folder_is_fine(path: str) -> None:
    assert path_problem(path) is None


@pytest.mark.parametrize(
    "path", ["/", "/a", "a//b", "a//", "..", "a/..", "../a", "a/./b", ".", "a\\..\\b", "a\0", "a\nb"]
)
def test_a_path_that_could_lead_elsewhere_has_a_problem(path: str) -> None:
    assert path_problem(path)


@given(st.text(alphabet="a./\\ \0"))
def test_a_path_without_a_problem_stays_in_its_folder(path: str) -> None:
    import ntpath
    import posixpath

    if path_problem(path) is None:
        for system in (posixpath, ntpath):
            inside = system.normpath(system.join("folder", path))
            assert inside == "folder" or inside.startswith(f"folder{system.sep}")


@pytest.mark.parametrize("ref", ["main", "v1.0", "refs/pr/1", "feature/a-b", "0123abc", "a@b", "ä"])
def test_names_that_git_takes(ref: str) -> None:
    assert ref_problem(ref) is None


@pytest.mark.parametrize(
    "ref",
    ["", "-a", "--upload-pack=x", "a..b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "/a", "a/", "a//b", "a.",
     "a@{1}", "@", ".a", "a/.b", "a.lock", "a.lock/b", "a\n", "a\0"],
)  # fmt: skip
def test_names_that_git_does_not_take(ref: str) -> None:
    assert ref_problem(ref)


def test_one_pattern_or_several_or_none() -> None:
    assert patterns(None) == patterns([]) == ()
    assert patterns("*.json") == ("*.json",)
    assert patterns(["a", "b"]) == ("a", "b")


@pytest.mark.parametrize("value", ["", [""], [3], [None]])
def test_what_is_no_pattern_is_refused(value: object) -> None:
    with pytest.raises(RequestError, match=r"FilePatterns\.ignore_patterns"):
        FilePatterns(ignore_patterns=value)  # type: ignore[arg-type]


def test_patterns_select_files() -> None:
    chosen = FilePatterns(allow_patterns=["*.json", "data/"], ignore_patterns="*secret*")
    files = ["a.json", "deep/b.json", "data/c.bin", "data/deep/d.bin", "data/secret.bin", "e.bin", "A.JSON"]
    assert [f for f in files if chosen.selects(f)] == ["a.json", "deep/b.json", "data/c.bin", "data/deep/d.bin"]
    assert FilePatterns().selects("anything")
    assert FilePatterns(ignore_patterns="lost+found/").ignores("lost+found/")


@pytest.mark.parametrize(
    "url", ["https://hub.example", "http://127.0.0.1:9000/", "https://[::1]:9000/base", "http://minio"]
)
def test_servers_are_taken(url: str) -> None:
    assert Checked(url=url).url == url


@pytest.mark.parametrize(
    "url",
    ["", "hub.example", "ftp://hub.example", "https://", "https:///a", "https://a:b", "https://a:0", "https://[a", "https://a?b",
     "https://a#b", "https://a b", "https://a\n", 3],
)  # fmt: skip
def test_what_is_no_server_is_refused(url: object) -> None:
    with pytest.raises(RequestError, match=r"Checked\.url"):
        Checked(url=url)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url", ["https://name:hunter2@a", "https://hunter2@a", "https://name:hun/hunter2@a", "hunter2@"]
)
def test_a_credential_in_a_servers_url_is_refused_unseen(url: str) -> None:
    with pytest.raises(RequestError, match=r"Checked\.url") as caught:
        Checked(url=url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "field",
    [
        {"text": ""},
        {"text": " a"},
        {"text": "-a"},
        {"text": "a\n"},
        {"text": 1},
        {"flag": "no"},
        {"flag": 1},
        {"style": "other"},
    ],
)
def test_wrong_values_are_named(field: dict[str, object]) -> None:
    with pytest.raises(RequestError, match=rf"Checked\.{next(iter(field))}"):
        Checked(**field)  # type: ignore[arg-type]


def test_a_literal_token_in_a_text_is_refused_unseen() -> None:
    token = "hf_" + "x" * 30
    with pytest.raises(RequestError) as caught:
        Checked(text=token)
    assert token not in str(caught.value)


def test_the_uri_and_a_field_must_agree() -> None:
    assert from_uri_or_field(None, "v1", field="revision", uri="u") == "v1"
    assert from_uri_or_field("v1", None, field="revision", uri="u") == "v1"
    assert from_uri_or_field("v1", "v1", field="revision", uri="u") == "v1"
    assert from_uri_or_field(None, None, field="revision", uri="u") is None
    with pytest.raises(RequestError, match="revision='v2': differs from the one in u"):
        from_uri_or_field("v1", "v2", field="revision", uri="u")


def test_halves_and_doubles_of_credentials_are_refused_unseen() -> None:
    @attrs.frozen(kw_only=True)
    class Given:
        user: str | None = None
        key: str | None = None
        anonymous: bool = False

    for complete in (Given(), Given(user="u", key="hunter2")):
        check_together(complete, "user", "key")
    check_exclusive(Given(key="hunter2"), "key", "anonymous")
    with pytest.raises(RequestError, match=r"Given\.user: is missing, but key was given") as half:
        check_together(Given(key="hunter2"), "user", "key")
    with pytest.raises(RequestError, match=r"Given\.key: cannot be combined with anonymous") as double:
        check_exclusive(Given(key="hunter2", anonymous=True), "key", "anonymous")
    assert "hunter2" not in f"{half.value}{double.value}"
