"""The wire: providers come out as they went in, in canonical bytes, without secrets, or are refused with a reason."""
# ruff: noqa: RUF009 - secret() makes an attrs field

import datetime as dt
import enum
import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Optional

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright import DatasetProvider, ExitCode, FetchError, RequestError, SecretRef, SecretValue, secret
from tunewright._canonical import dumps
from tunewright.errors import did_you_mean
from tunewright.events import Json
from tunewright.providers import wire
from tunewright.providers.wire import WireDocument, structure, unstructure

TOKEN = "hf_" + "a1B2c3D4e5" * 3
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(blacklist_categories=["Cs"])).filter(lambda text: "://" not in text)
JSON = st.recursive(
    LEAVES | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)

KINDS = (
    *(str, int, bool, float, bytes, Path, object, Any, list[str], tuple[str, ...], frozenset[str], Literal["a", "b"]),
    *(str | None, Optional[int], int | str | None, float | None, list[str] | str),  # noqa: UP045 - users write it
)


@attrs.frozen(kw_only=True)
class Data(DatasetProvider):
    token: str | SecretRef | None = secret(env="ACME_TOKEN")
    key: str | SecretRef | None = secret(env="ACME_KEY")
    number: int = 1
    rate: float = 0.5
    flag: bool = False
    names: tuple[str, ...] = ()
    tags: list[str] = attrs.field(factory=list)
    options: dict[str, Any] = attrs.field(factory=dict)
    either: int | str | None = None
    chosen: frozenset[str] = frozenset()
    raw: bytes = b""
    folder: Path | None = None
    any_json: Json = None
    named_json: Mapping[str, Json] | None = None
    anything: object = None

    def download_dataset(self, target) -> None: ...


def wired(provider: Data, secrets: dict[str, str] | None = None) -> Data:
    params = json.loads(json.dumps(unstructure(provider, "dataset")))
    return structure(Data, params, secrets or {})


@given(
    st.builds(
        Data,
        uri=TEXT.map("acme://{}".format),
        eval_dataset=st.none() | TEXT,
        number=st.integers(),
        rate=st.floats(allow_nan=False, allow_infinity=False),
        flag=st.booleans(),
        names=st.lists(TEXT).map(tuple),
        tags=st.lists(TEXT),
        options=st.dictionaries(TEXT, JSON, max_size=4),
        either=st.none() | st.integers() | TEXT,
        chosen=st.frozensets(TEXT),
        raw=st.binary(),
        any_json=JSON,
        named_json=st.none() | st.dictionaries(TEXT, JSON, max_size=3),
        anything=JSON,
        folder=st.none() | st.just(Path("/data/x")),
    )
)
def test_a_provider_comes_out_as_it_went_in(provider: Data) -> None:
    assert wired(provider) == provider


def test_only_what_differs_from_its_default_travels() -> None:
    assert unstructure(Data(uri="acme://x"), "dataset") == {"uri": "acme://x"}
    assert unstructure(Data(uri="acme://x", number=1, tags=[], options={}), "dataset") == {"uri": "acme://x"}
    assert unstructure(Data(uri="acme://x", tags=["a"]), "dataset") == {"uri": "acme://x", "tags": ["a"]}


@given(JSON)
def test_equal_values_have_equal_bytes(value: Any) -> None:
    assert json.loads(dumps(value)) == value
    assert dumps(value) == dumps(_reordered(value))


def _reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _reordered(v) for k, v in reversed(list(value.items()))}
    return [_reordered(v) for v in value] if isinstance(value, list) else value


def test_a_document_is_canonical_json() -> None:
    document = WireDocument(
        kind="model", provider="s3", distribution="tunewright-s3", version="1.0", params={"b": 1, "a": "ü"}
    )
    assert document.dumps() == (
        '{"api":1,"distribution":"tunewright-s3","kind":"model","params":{"a":"ü","b":1},"provider":"s3","version":"1.0"}'
    )


@given(TEXT, TEXT, TEXT, TEXT, st.dictionaries(TEXT, JSON, max_size=4))
def test_a_document_comes_out_as_it_went_in(kind: str, provider: str, dist: str, version: str, params: Any) -> None:
    document = WireDocument(kind=kind, provider=provider, distribution=dist, version=version, params=params)
    assert WireDocument.loads(document.dumps()) == document


@pytest.mark.parametrize("api", [0, 2, "1", None, 1.5])
def test_another_api_is_refused_with_both_numbers(api: object) -> None:
    text = json.dumps({"api": api, "kind": "model", "something": "new"})
    with pytest.raises(
        FetchError, match=r"unsupported version.*wrote API version .*supports API version 1.*same release"
    ) as caught:
        WireDocument.loads(text)
    assert caught.value.code is ExitCode.USAGE
    assert repr(api) in str(caught.value)


GOOD = {"api": 1, "kind": "model", "provider": "s3", "distribution": "d", "version": "1", "params": {}}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "3", '"text"', "{}", json.dumps({**GOOD, "more": 1}), json.dumps({**GOOD, "params": []}),
     json.dumps({**GOOD, "params": None}), json.dumps({**GOOD, "provider": 3}), json.dumps({**GOOD, "version": 0.1}),
     json.dumps({k: v for k, v in GOOD.items() if k != "kind"})],
)  # fmt: skip
def test_what_is_no_document_is_bad_data(text: str) -> None:
    with pytest.raises(FetchError, match="not a wire document") as caught:
        WireDocument.loads(text)
    assert caught.value.code is ExitCode.BAD_DATA


@pytest.mark.parametrize("token", ["a-literal", SecretRef(name="aws", key="token")])
def test_secrets_do_not_travel_and_come_from_the_environment(token: object) -> None:
    provider = Data(uri="acme://x", token=token)
    assert unstructure(provider, "dataset") == {"uri": "acme://x"}
    found = wired(provider, {"ACME_TOKEN": "from the environment", "OTHER": "x"})
    assert (found.token, found.key) == ("from the environment", None)


@pytest.mark.parametrize(
    "options",
    [{"api_key": TOKEN}, {"deep": [{"er": f"token={TOKEN}"}]}, {"url": "https://me:password@host/"}, {"tags": ["x", TOKEN]},
     {"pem": "-----BEGIN RSA PRIVATE KEY-----"}, {"aws": "AKIAABCDEFGHIJKLMNOP"}],
)  # fmt: skip
def test_a_literal_token_in_another_field_is_refused_and_not_repeated(options: dict[str, object]) -> None:
    with pytest.raises(RequestError, match=r"dataset\.options.*looks like a literal token.*token, key") as caught:
        unstructure(Data(uri="acme://x", options=options), "dataset")
    assert TOKEN not in str(caught.value)
    assert "password" not in str(caught.value)


@pytest.mark.parametrize("value", [SecretValue("a-literal"), SecretRef(name="a", key="b")])
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"deep": {"er": (v,)}}])
def test_a_secret_in_a_field_that_is_not_one_is_refused(value: object, wrap: Any) -> None:
    with pytest.raises(
        RequestError, match=r"dataset\.options: contains a secret.*Pass secrets in token, key"
    ) as caught:
        unstructure(Data(uri="acme://x", options={"password": wrap(value)}), "dataset")
    assert "a-literal" not in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), "\udcff", {"\udcff": 1}, {1: "a", "b": 2}, 1j])
def test_what_json_does_not_have_is_refused(value: object) -> None:
    with pytest.raises(RequestError, match=r"model\.options: is not JSON-serializable.*Use only strings"):
        unstructure(Data(uri="acme://x", options={"value": value}), "model")


def test_what_holds_itself_is_refused() -> None:
    loop: dict[str, object] = {}
    loop["loop"] = loop
    with pytest.raises(RequestError, match="is not JSON-serializable"):
        unstructure(Data(uri="acme://x", options=loop), "dataset")


def test_an_unknown_field_is_asked_about() -> None:
    with pytest.raises(RequestError, match=r"numbr: is not a field of Data\. Did you mean 'number'\?"):
        structure(Data, {"uri": "acme://x", "numbr": 3}, {})


FAULTY = [
    ("number", "3"), ("number", 3.5), ("number", False), ("rate", "0.5"), ("flag", "no"), ("flag", 1), ("names", 3), ("tags", [1]),
    ("either", [1]), ("eval_dataset", 3), ("named_json", [1]),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), FAULTY)
def test_a_field_of_another_type_is_refused_where_it_is_sent(field: str, value: object) -> None:
    with pytest.raises(RequestError, match=rf"Data\.{field}=.*is not of type"):
        unstructure(Data(uri="acme://x", **{field: value}), "dataset")  # type: ignore[arg-type]


@pytest.mark.parametrize(("field", "value"), FAULTY)
def test_a_field_of_another_type_is_refused_with_its_name_and_value(field: str, value: object) -> None:
    with pytest.raises(RequestError, match=rf"Data\.{field}=") as caught:
        structure(Data, {"uri": "acme://x", field: value}, {})
    assert repr(value) in str(caught.value)


def test_a_set_has_the_same_bytes_whatever_its_order() -> None:
    words = [f"word{n}" for n in range(50)]
    for order in (words, words[::-1]):
        assert unstructure(Data(uri="acme://x", chosen=frozenset(order)), "dataset")["chosen"] == sorted(words)


def test_a_whole_number_is_a_float() -> None:
    assert wired(Data(uri="acme://x", rate=1)).rate == 1


@given(st.sampled_from(KINDS), JSON)
def test_what_is_taken_as_it_is_would_be_the_same_after_its_conversion(kind: Any, value: Any) -> None:
    if wire._is_plainly(value, kind):
        assert wire._converter().structure(value, kind) is value


@pytest.mark.parametrize(
    ("value", "kind"), [("a", str), ("a", str | None), (1, int | None), (True, bool), (0.5, float)]
)
def test_plain_values_are_taken_as_they_are(value: Any, kind: Any) -> None:
    assert wire._is_plainly(value, kind)


@pytest.mark.parametrize(
    ("value", "kind"),
    [("a", list[str]), ("a", bytes), ("a", Literal["a"]), (True, int), (1, float), (None, str | None)],
)
def test_what_is_to_be_converted_or_refused_is_no_plain_value(value: Any, kind: Any) -> None:
    assert not wire._is_plainly(value, kind)


def test_a_class_whose_annotations_mean_nothing_is_its_authors_fault() -> None:
    @attrs.frozen(kw_only=True)
    class Lost(Data):
        what: "NeverImported | None" = None  # type: ignore[name-defined] # noqa: F821

    with pytest.raises(RequestError, match=r"Lost: has an annotation that cannot be resolved.*NeverImported"):
        unstructure(Lost(uri="acme://x"), "dataset")


def test_a_missing_uri_is_refused() -> None:
    with pytest.raises(RequestError, match=r"Data: cannot be created.*'uri'"):
        structure(Data, {}, {})


def test_close_names_are_asked_about_and_others_listed() -> None:
    assert did_you_mean("learning_rat", ["learning_rate", "seed"]) == "Did you mean 'learning_rate'?"
    assert did_you_mean("zzz", ["b", "a"]) == "There are: a, b."


@attrs.frozen(kw_only=True)
class Login:
    user: str = "me"
    realm: str = ""


@attrs.frozen(kw_only=True)
class Nested(DatasetProvider):
    login: Login | None = None
    others: Mapping[str, list[Login]] = attrs.field(factory=dict)

    def download_dataset(self, target) -> None: ...


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"login": {"usr": "you"}}, r"Nested\.login\.usr"),
        ({"others": {"a": [{"user": "x"}, {"usr": "y", "realm": "z"}]}}, r"Nested\.others\.usr"),
    ],
)
def test_an_unknown_key_of_a_nested_class_is_refused_on_both_sides(params: dict[str, Any], field: str) -> None:
    says = rf"{field}: is not a field of Login\. Did you mean 'user'\?"
    with pytest.raises(RequestError, match=says):
        structure(Nested, {"uri": "acme://x", **params}, {})
    with pytest.raises(RequestError, match=says):
        unstructure(Nested(uri="acme://x", **params), "dataset")


def test_a_nested_class_travels() -> None:
    given = Nested(uri="acme://x", login=Login(user="you"), others={"a": [Login(realm="r")]})
    assert structure(Nested, unstructure(given, "dataset"), {}) == given


class Colour(enum.Enum):
    RED = "red"


@attrs.frozen(kw_only=True)
class EveryType(DatasetProvider):
    """The types that docs/reference/plugins/contract.md lists."""

    text: str = ""
    choice: Literal["a", "b"] = "a"
    colour: Colour | None = None
    items: list[int] = attrs.field(factory=list)
    pair: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    ordered: Sequence[float] = ()
    mapping: Mapping[str, int] = attrs.field(factory=dict)
    login: Login | None = None
    either: int | str | None = None
    path: Path | None = None
    data: bytes = b""
    day: dt.date | None = None
    moment: dt.datetime | None = None
    anything: Json = None

    def download_dataset(self, target) -> None: ...


def test_every_documented_type_travels() -> None:
    given = EveryType(
        uri="acme://x", text="t", choice="b", colour=Colour.RED, items=[1], pair=("a",), names=frozenset("xy"),
        ordered=[0.5], mapping={"a": 1}, login=Login(user="you"), either=3, path=Path("/a/b"), data=b"\0\1",
        day=dt.date(2026, 1, 2), moment=dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC), anything={"a": [None, 1.5]},
    )  # fmt: skip
    sent = json.loads(json.dumps(unstructure(given, "dataset")))
    assert sent["names"] == ["x", "y"]
    assert structure(EveryType, sent, {}) == attrs.evolve(given, ordered=structure(EveryType, sent, {}).ordered)
    assert list(structure(EveryType, sent, {}).ordered) == [0.5]


@attrs.frozen(kw_only=True)
class Unsupported(DatasetProvider):
    group: Collection[str] = ()

    def download_dataset(self, target) -> None: ...


def test_a_type_that_cannot_be_sent_is_the_authors_to_change() -> None:
    with pytest.raises(
        RequestError, match=r"Unsupported\.group: has the type .*Collection.*cannot be sent\. Its author"
    ):
        unstructure(Unsupported(uri="acme://x", group=["g"]), "dataset")
