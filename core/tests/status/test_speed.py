"""How long something will take, from how fast it was."""

import pytest

from tunewright.status.speed import Start


@pytest.mark.parametrize(
    ("done", "total", "now", "left"),
    [(30, 100, 20.0, 70.0), (10, 100, 20.0, None), (30, None, 20.0, None), (30, 100, 0.0, None), (100, 100, 20.0, 0.0)],
    ids=["on its way", "nothing has moved", "no end is known", "no time has passed", "at its end"],
)
def test_the_time_left_is_that_of_the_speed_so_far(
    done: int, total: int | None, now: float, left: float | None
) -> None:
    assert Start(10, 0.0).seconds_left(done, total, now) == left
