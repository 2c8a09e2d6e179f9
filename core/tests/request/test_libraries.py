"""What providers need on this machine, as their distributions declare it, and the one command that installs it."""

import importlib.metadata
import importlib.util

import pytest

from tunewright import RequestError
from tunewright.request.libraries import Missing, command, missing, refuse_missing

NEEDS = [
    "attrs>=24",
    'numpy_that_is_not_there>=2; extra == "train"',
    "another-one[more]~=1.0 ; python_version >= '3.8' and extra == 'train'",
    'attrs; extra == "train"',
    'never-here; extra == "fetch"',
]


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda dist: NEEDS if dist == "tunewright-acme" else None)


def test_what_an_extra_declares_and_is_not_installed_is_missing(declared: None) -> None:
    found = missing("trainer", "tunewright-acme", "train")
    assert found == Missing("trainer", "tunewright-acme", "train", ("numpy_that_is_not_there", "another-one"))
    assert missing("trainer", "tunewright-acme", None) is None
    assert missing("trainer", "tunewright-acme", "other") is None
    assert missing("trainer", "other", "train") is None


def test_one_command_installs_all_of_it(declared: None) -> None:
    found = [
        missing("trainer", "tunewright-acme", "train"),
        missing("dataset", "tunewright-acme", "fetch"),
        Missing("model", "b", "x", ("y",)),
    ]
    with pytest.raises(RequestError) as caught:
        refuse_missing(item for item in found if item)
    assert str(caught.value) == (
        "trainer: needs numpy_that_is_not_there, another-one, which are not installed in this Python environment. "
        "Install it: pip install 'tunewright-acme[fetch,train]' 'b[x]'"
    )
    refuse_missing([])


def test_our_own_trainer_has_what_it_needs_here() -> None:
    if importlib.util.find_spec("torch") is None:  # asked for, not imported: that takes seconds
        pytest.skip("torch is not installed")
    assert missing("trainer", "tunewright-hf", "train") is None
    assert command([Missing("a", "tunewright-hf", "train", ())]) == "pip install 'tunewright-hf[train]'"
