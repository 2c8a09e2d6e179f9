"""Manifests: what people read has no secrets, and nobody can change the plan through it."""

import pytest
import yaml

from tunewright import Manifests, SecretValue
from tunewright.plan.secrets import REDACTED

LITERAL = "s3cr3t"


def documents() -> Manifests:
    secret = {
        "kind": "Secret",
        "stringData": {"train.TOKEN": SecretValue(LITERAL)},
        "list": [{"deep": (SecretValue(LITERAL),)}],
    }
    job = {
        "kind": "PyTorchJob",
        "metadata": {"name": "sft"},
        "spec": {"command": ("python", "-c", "print('$HOME `x`')"), "ü": "✓"},
    }
    return Manifests([job, secret])


def test_secrets_are_redacted_in_everything_that_people_read() -> None:
    found = documents()
    shown = [
        found.to_yaml(),
        repr(found),
        str(found),
        repr(list(found)),
        repr(found[0:2]),
        repr(found[1]),
        repr(found.of_kind("Secret")),
    ]
    assert LITERAL not in "".join(shown)
    assert found[1] == {"kind": "Secret", "stringData": {"train.TOKEN": REDACTED}, "list": [{"deep": [REDACTED]}]}


def test_the_backend_gets_the_secrets() -> None:
    assert documents().reveal()[1]["stringData"] == {"train.TOKEN": LITERAL}


def test_yaml_has_every_document_in_its_order_with_texts_as_they_are() -> None:
    found = documents()
    text = found.to_yaml()
    assert list(yaml.safe_load_all(text)) == list(found)
    assert text.count("---\n") == 2
    assert text.index("PyTorchJob") < text.index("Secret")
    assert "✓" in text


def test_the_sequence_is_one() -> None:
    found = documents()
    assert len(found) == 2
    assert [d["kind"] for d in found] == [d["kind"] for d in found[:]] == ["PyTorchJob", "Secret"]
    assert found[-1] == found.of_kind("Secret")[0]
    assert found.of_kind("Pod") == []
    with pytest.raises(IndexError):
        found[2]


def test_changing_what_was_read_changes_nothing_else() -> None:
    source = {"kind": "A", "spec": {"list": [1], "dict": {"a": {"b": 1}}}}
    found = Manifests([source])
    for taken in (found[0], next(iter(found)), found.reveal()[0], found.of_kind("A")[0]):
        taken["spec"]["list"].append(2)  # type: ignore[index, call-overload, union-attr]
        taken["spec"]["dict"]["a"]["b"] = 2  # type: ignore[index, call-overload]
        del taken["kind"]
    assert found[0] == source == {"kind": "A", "spec": {"list": [1], "dict": {"a": {"b": 1}}}}
    assert found.to_yaml().count("b: 1") == 1


def test_texts_of_several_lines_are_written_as_blocks() -> None:
    text = Manifests([{"kind": "ConfigMap", "data": {"f.py": "def f():\n    return 1\n"}}]).to_yaml()
    assert text.endswith("  f.py: |\n    def f():\n        return 1\n")


@pytest.mark.parametrize(
    "value", ["a\r\nb", "trailing  \nb", "  leading\nx", "\n", "tab\t\n", "\u2028\n", "---\n", "\x07\n"]
)
def test_yaml_keeps_every_text(value: str) -> None:
    (document,) = yaml.safe_load_all(Manifests([{"kind": "X", "d": value}]).to_yaml())
    assert document["d"] == value
