"""Errors: what comes out of another process is what went in."""

import copy
import pickle

import pytest

from tunewright.errors import (
    AlreadySucceeded,
    ExitCode,
    Failure,
    FetchError,
    JobError,
    PluginNotFound,
    RequestError,
    SourceChanged,
    TunewrightError,
)

ERRORS = [
    TunewrightError("what happened"),
    PluginNotFound("no such plugin", name="acme", dist="acme-plugin"),
    RequestError("must be at least 1", field="num_workers", value=0, remedy="Write 1."),
    RequestError("is not a number", field="size", value=lambda: 0, remedy="Write 1."),
    JobError("it failed", name="job", failure=Failure(1, "It crashed.", "Look.", "train", 0)),
    AlreadySucceeded("it is done", name="job"),
    FetchError("The server is away.", remedy="Wait.", code=ExitCode.UNAVAILABLE, retry_after=3),
    SourceChanged("The file changed."),
]


@pytest.mark.parametrize("error", ERRORS, ids=[type(e).__name__ for e in ERRORS])
@pytest.mark.parametrize("move", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy], ids=["pickle", "copy"])
def test_errors_get_from_one_process_to_another(error: TunewrightError, move) -> None:
    error.add_note("seen here")
    found = move(error)
    assert type(found) is type(error)
    assert (str(found), vars(found), found.exit_code) == (str(error), vars(error), error.exit_code)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ERRORS[0], Failure(1, "what happened")),
        (ERRORS[1], Failure(64, "no such plugin")),
        (ERRORS[2], Failure(64, "num_workers=0: must be at least 1.", "Write 1.")),
        (ERRORS[4], Failure(1, "It crashed.", "Look.", "train", 0)),
        (ERRORS[6], Failure(69, "The server is away.", "Wait.")),
    ],
    ids=["any", "plugin", "request", "job", "fetch"],
)
def test_an_error_is_a_failure_whose_parts_nobody_has_to_cut_out_of_its_message(
    error: TunewrightError, failure: Failure
) -> None:
    assert error.to_failure() == failure
