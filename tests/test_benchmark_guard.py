"""The guard of `benchmarks.train`: rates are compared only of arms that learnt the same, and learnt something."""

import pytest
from benchmarks.train import Run, check_equal


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
