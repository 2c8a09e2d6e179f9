"""Secrets: they show nowhere that people read, and a token in any other place is refused without being repeated."""
# ruff: noqa: RUF009 - secret() makes an attrs field

import copy
import logging
import pickle

import attrs
import pytest

from tunewright import RequestError, SecretRef, SecretValue, secret
from tunewright.plan.secrets import refuse_literal_tokens
from tunewright.providers.fields import secret_env, secret_fields

LITERAL = "s3cr3t-literal"
TOKENS = {
    "hugging face": "hf_" + "aB3" * 12,
    "aws key": "AKIA" + "ABCD" * 4,
    "aws session": "ASIA" + "ABCD" * 4,
    "github": "ghp_" + "aB3" * 12,
    "github fine-grained": "github_pat_" + "aB3_" * 10,
    "gitlab": "glpat-" + "aB3-" * 6,
    "kaggle": "KGAT_" + "aB3" * 10,
    "openai": "sk-" + "aB3" * 16,
    "url": "https://me:password@host/x",
    "private key": "-----BEGIN OPENSSH PRIVATE KEY-----",
}


@attrs.frozen(kw_only=True)
class Store:
    key: str | SecretRef | None = secret(env="STORE_KEY")
    token: str | SecretRef | None = secret(env="STORE_TOKEN")
    region: str = "x"


def test_a_literal_shows_in_no_text_that_python_makes_of_it() -> None:
    value, store = SecretValue(LITERAL), Store(key=LITERAL)
    shown = [
        repr(value),
        str(value),
        f"{value}",
        f"{value!r}",
        "".join(map(str, [value])),
        repr([value]),
        repr({"k": value}),
    ]
    shown += [repr(store), str(store), f"{store}", repr([store])]
    assert LITERAL not in "".join(shown)
    assert "<redacted>" in repr(store)
    assert value.reveal() == LITERAL


def test_a_literal_shows_in_no_log_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("x").warning("%s %r %s", SecretValue(LITERAL), Store(token=LITERAL), [SecretValue(LITERAL)])
    for bad in (f" {LITERAL}", f"{LITERAL}\n", 3, ["x", LITERAL], SecretValue(LITERAL)):
        with pytest.raises(RequestError, match=r"Store\.key: ") as caught:
            Store(key=bad)  # type: ignore[arg-type]
        assert LITERAL not in str(caught.value)
        assert 'SecretRef(name="…"' in str(caught.value)
    assert LITERAL not in caplog.text
    assert "<redacted>" in caplog.text


def test_a_reference_shows_because_it_is_no_secret() -> None:
    assert "SecretRef(name='aws', key='id')" in repr(Store(key=SecretRef(name="aws", key="id")))


def test_an_empty_secret_is_refused() -> None:
    with pytest.raises(RequestError, match=r"Store\.key: is empty"):
        Store(key="")


def test_a_secret_goes_into_its_own_variable() -> None:
    reference = SecretRef(name="aws", key="id")
    assert secret_fields(Store) == {"key": "STORE_KEY", "token": "STORE_TOKEN"}
    assert secret_env(Store(key=LITERAL, token=reference)) == {
        "STORE_KEY": SecretValue(LITERAL),
        "STORE_TOKEN": reference,
    }
    assert secret_env(Store()) == {}


@pytest.mark.parametrize("value", [None, 3, "", b"bytes", "a\0b", SecretRef(name="a", key="b")])
def test_what_no_variable_can_hold_is_no_secret_value(value: object) -> None:
    with pytest.raises(RequestError, match="SecretValue: must be a non-empty string"):
        SecretValue(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "Upper", "a_b", "-a", "a/b", "a" * 254, 3, None, "hf_" + "aB3" * 12, "a\n"])
def test_a_reference_names_a_secret_that_may_exist(name: object) -> None:
    with pytest.raises(RequestError, match=r"SecretRef\.name: is not a valid Kubernetes name") as caught:
        SecretRef(name=name, key="k")  # type: ignore[arg-type]
    assert "aB3aB3" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "a b", "a/b", "..", 3, None, "ü", "a\n"])
def test_a_reference_names_a_key_that_may_exist(key: object) -> None:
    with pytest.raises(RequestError, match=r"SecretRef\.key: is not a valid key"):
        SecretRef(name="aws", key=key)  # type: ignore[arg-type]


def test_good_references_are_taken() -> None:
    assert SecretRef(name="my.secret-1", key="AWS_KEY.id-2") == SecretRef(name="my.secret-1", key="AWS_KEY.id-2")


def test_secrets_survive_copies() -> None:
    assert (
        copy.deepcopy(SecretValue(LITERAL)) == SecretValue(LITERAL) == pickle.loads(pickle.dumps(SecretValue(LITERAL)))
    )


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
def test_each_kind_of_token_is_refused_wherever_it_hides_and_not_repeated(token: str) -> None:
    for value in (token, f"x={token} y", [token], ("a", [token]), {"deep": {"er": ["a", token]}}):
        with pytest.raises(RequestError, match=r"env.*looks like a literal token.*Use another\.") as caught:
            refuse_literal_tokens(value, "env", "Use another.")
        assert token not in str(caught.value)


def test_the_path_to_the_token_is_named() -> None:
    with pytest.raises(RequestError, match=r"^args\['deep'\]\[1\]: "):
        refuse_literal_tokens({"deep": ["a", TOKENS["github"]]}, "args", "Use another.")


@pytest.mark.parametrize(
    "value",
    ["hf://org/name", "hf_short", "hf_transfer is a library", "https://host:8080/x", "https://me@host/x", "AKIAB", "task-" + "a" * 40,
     "disk-" + "a" * 40, "sk-short", "s3://bucket/a:b@c", "ghp_x", "-----BEGIN CERTIFICATE-----", 3, None, {"a": 1}],
)  # fmt: skip
def test_ordinary_values_are_no_tokens(value: object) -> None:
    refuse_literal_tokens(value, "env", "Use another.")
