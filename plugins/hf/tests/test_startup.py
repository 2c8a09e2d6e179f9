"""Garbage is looked for again after the imports, and not among what they have made."""

import gc

import pytest

from tunewright_hf.startup import without_garbage_collection


@pytest.fixture(autouse=True)
def _thawed() -> None:
    gc.unfreeze()


def test_nothing_is_looked_for_meanwhile_and_what_was_made_is_passed_by_afterwards() -> None:
    with without_garbage_collection():
        assert not gc.isenabled()
        made = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= len(made)
    gc.unfreeze()


def test_it_is_looked_for_again_after_an_import_that_fails() -> None:
    with pytest.raises(ImportError), without_garbage_collection():
        raise ImportError
    assert gc.isenabled()
    gc.unfreeze()


def test_who_has_switched_it_off_keeps_it_off() -> None:
    gc.disable()
    try:
        with without_garbage_collection():
            pass
        assert not gc.isenabled()
        assert not gc.get_freeze_count()
    finally:
        gc.enable()
