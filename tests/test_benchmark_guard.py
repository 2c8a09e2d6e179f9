"""The guard of `benchmarks.train`: rates are compared only of arms that learnt the same, and learnt something."""

import pytest
from benchmarks.ablations import LAYERS, PREFIX, leave_out
from benchmarks.train import Run, ablated, check_equal


def ran(loss: float, tokens: int = 100) -> list[Run]:
    numbers = {"rate": 1.0, "cpu_rate": 1.0, "first_step": 1.0, "wall": 1.0, "peak": 1, "others": 0.0}
    return [Run(**numbers, tokens=tokens, loss=loss, untrained=8.059)]


def test_arms_that_learnt_the_same_may_be_compared() -> None:
    check_equal({"ours": ran(8.010), "trl": ran(8.014)})


@pytest.mark.parametrize(
    ("runs", "problem"),
    [
        ({"ours": ran(8.059), "trl": ran(8.010)}, "did not learn the same"),
        ({"ours": ran(8.010), "trl": ran(8.030)}, "did not learn the same"),
        ({"ours": ran(8.010), "trl": ran(float("nan"))}, "did not learn the same"),
        ({"ours": ran(8.059), "trl": ran(8.059)}, "no arm learnt enough"),
        ({"ours": ran(8.010), "trl": ran(8.010, tokens=99)}, "different numbers of tokens"),
    ],
    ids=["nothing", "less", "nan", "no arm", "tokens"],
)
def test_others_may_not(runs: dict[str, list[Run]], problem: str) -> None:
    with pytest.raises(RuntimeError, match=problem):
        check_equal(runs)


@pytest.mark.slow
def test_every_layer_that_may_be_left_out_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for layer, (module, function, returned) in LAYERS.items():
        holder = pytest.importorskip(module)
        monkeypatch.setattr(holder, function, getattr(holder, function))  # put back afterwards
        leave_out(PREFIX + layer)
        assert getattr(holder, function)(None, None) == returned
        leave_out("ours")
        monkeypatch.undo()
    assert ablated(None) == ()
    assert ablated([]) == tuple(PREFIX + layer for layer in LAYERS)
    assert ablated(["loss"]) == (PREFIX + "loss",)
