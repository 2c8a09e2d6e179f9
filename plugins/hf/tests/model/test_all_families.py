"""Every family that transformers registers: trained as plain PEFT would, or refused, as the documentation says."""

import json
import os

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

from plugins.hf.tests.model import family_scan  # noqa: E402 - it needs torch

WRITTEN = json.loads(family_scan.OUTCOMES.read_text("utf-8"))
_PARTS = 32  # a test for each family would take longer to start than to run
_WANTED = "TUNEWRIGHT_FAMILY_SCAN"


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get(_WANTED), reason=f"all families take long: they are tried out with {_WANTED}=1")
@pytest.mark.parametrize("part", range(_PARTS))
def test_every_family_is_trained_rightly_or_refused_as_is_written(part: int) -> None:
    pairs = list(family_scan.families())[part::_PARTS]
    found = {pair: family_scan.said(pair) for pair in pairs}
    assert not {pair: text for pair, text in found.items() if text.startswith("WRONG")}
    if transformers.__version__ == WRITTEN["transformers"]:
        written = {pair: WRITTEN["families"][pair[0]].get(pair[1]) for pair in pairs}
        kinds = [{pair: (text or "").partition(":")[0] for pair, text in texts.items()} for texts in (found, written)]
        assert kinds[0] == kinds[1], "run python -m plugins.hf.tests.model.family_scan"


def test_the_page_has_every_family() -> None:
    if transformers.__version__ != WRITTEN["transformers"]:
        pytest.skip("the page is about another version of transformers")
    written = {(loader, family) for loader, families in WRITTEN["families"].items() for family in families}
    assert written == set(family_scan.families())
