"""Every family that transformers registers: trained as plain PEFT would, or refused, as the documentation says."""

import datetime as dt
import json
import logging
import os
import warnings

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

from plugins.hf.tests.model import family_scan  # noqa: E402 - it needs torch

WRITTEN = json.loads(family_scan.OUTCOMES.read_text("utf-8"))
_PARTS = 32  # a test for each family would take longer to start than to run
_TURNS = 2  # days after which all parts have run; all of them at once take 75 s of two quiet cores
_WANTED = "TUNEWRIGHT_FAMILY_SCAN"


def wanted(given: str, day: int) -> list[int]:
    """The parts to run: "all", some of them ("3,17"), or those whose turn it is on a day of the year."""
    if given == "all":
        return list(range(_PARTS))
    return [int(part) for part in given.split(",")] if given else list(range(day % _TURNS, _PARTS, _TURNS))


DAY = dt.datetime.now(dt.UTC).timetuple().tm_yday
RUN = wanted(os.environ.get(_WANTED, ""), DAY)
OTHERS = f"day {DAY}: the families' parts {', '.join(map(str, RUN))} of 0 to {_PARTS - 1} run; {_WANTED}=all runs all"


@pytest.mark.slow
@pytest.mark.parametrize("part", range(_PARTS))
def test_every_family_is_trained_rightly_or_refused_as_is_written(part: int) -> None:
    if part not in RUN:
        pytest.skip(OTHERS)
    pairs = list(family_scan.families())[part::_PARTS]
    found = {pair: family_scan.said(pair) for pair in pairs}
    assert not {pair: text for pair, text in found.items() if text.startswith("WRONG")}
    if transformers.__version__ == WRITTEN["transformers"]:
        written = {pair: WRITTEN["families"][pair[0]].get(pair[1]) for pair in pairs}
        kinds = [{pair: (text or "").partition(":")[0] for pair, text in texts.items()} for texts in (found, written)]
        assert kinds[0] == kinds[1], "run python -m plugins.hf.tests.model.family_scan"


def test_each_part_has_its_turn() -> None:
    assert sorted(part for day in range(_TURNS) for part in wanted("", day)) == list(range(_PARTS))
    assert wanted("3,17", 5) == [3, 17]
    assert len(wanted("all", 5)) == _PARTS


def test_a_family_is_tried_out_without_a_trace() -> None:
    def state() -> list[object]:
        quiet = transformers.utils.logging
        filters = [*warnings.filters]
        return [logging.root.manager.disable, torch.get_num_threads(), quiet.get_verbosity(), filters]

    before = state()
    with family_scan.quiet():
        assert state() != before
    assert state() == before


def test_the_page_has_every_family() -> None:
    if transformers.__version__ != WRITTEN["transformers"]:
        pytest.skip("the page is about another version of transformers")
    written = {(loader, family) for loader, families in WRITTEN["families"].items() for family in families}
    assert written == set(family_scan.families())
