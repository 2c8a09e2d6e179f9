"""The progress in one line: what it says, and how often there is a new one."""

import pytest

from tunewright._views.note import ProgressNote, described
from tunewright.events import Phase, Step


def test_there_is_a_note_at_most_every_ten_seconds_and_one_at_the_end() -> None:
    now = [0.0]
    note = ProgressNote(lambda: now[0])
    assert note.due() is None
    found = []
    for second in range(0, 26, 4):
        now[0] = float(second)
        note.take(Step(step=second + 1))
        note.take(Phase(name="train", text="training"))
        found.append(note.due())
    assert found == ["step 1", None, None, "step 13", None, None, "step 25"]
    note.take(Step(step=30))
    assert note.due() is None
    assert (note.rest(), note.rest()) == ("step 30", None)


@pytest.mark.parametrize(
    ("left", "said"), [(None, ""), (42, ", 42 s left"), (600, ", 10 min left"), (9000, ", 2 h 30 min left")]
)
def test_what_is_known_is_said(left: float | None, said: str) -> None:
    assert described(Step(step=3), left) == f"step 3{said}"
