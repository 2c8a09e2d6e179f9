"""What the client says while it prepares a job: nothing if that is quick, each thing once if it is not."""

import io
import json
import logging
import threading
import time

import pytest

from tunewright._doing import doing, doing_logger
from tunewright._views.waiting import shown_as_event, shown_as_text, told


def until(condition) -> None:
    end = time.monotonic() + 30
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def test_what_is_quick_is_not_told_of() -> None:
    shown: list[str] = []
    with told(shown.append, patience=60):
        doing("checking the dataset")
    assert shown == []


def test_what_takes_long_is_told_of_once_and_then_what_follows() -> None:
    shown: list[str] = []
    handlers = list(doing_logger().handlers)
    with told(shown.append, patience=0):
        until(lambda: shown == ["reading what to do"])
        doing("checking the dataset")
        doing("checking the dataset")
        until(lambda: shown[1:] == ["checking the dataset"])
        other = threading.Thread(target=doing, args=("what another thread does",))
        other.start()
        other.join()
        doing("submitting sft")
        until(lambda: shown[2:] == ["submitting sft"])
    assert doing_logger().handlers == handlers


def test_an_error_ends_it_and_passes() -> None:
    before, handlers = threading.active_count(), list(doing_logger().handlers)
    with pytest.raises(ValueError, match="inside"), told(lambda _: None):
        raise ValueError("inside")
    assert threading.active_count() == before
    assert doing_logger().handlers == handlers


def test_words_go_to_standard_error_and_events_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    shown_as_text("checking the dataset")
    shown_as_event("checking the dataset")
    out, err = capsys.readouterr()
    assert err == "checking the dataset …\n"
    assert json.loads(out) == {"event": "phase", "name": "submit", "text": "checking the dataset"}


def test_a_programs_own_log_stays_free_of_it() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    try:
        doing("checking the dataset")
    finally:
        logging.getLogger().removeHandler(handler)
    assert stream.getvalue() == ""
