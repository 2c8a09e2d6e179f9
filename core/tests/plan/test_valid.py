"""A plan that a plugin has changed: a literal secret shows in it in none of the forms that it is copied in."""

import base64
import json
import urllib.parse
from collections.abc import Callable

import attrs
import pytest

from tunewright.plan.plan import ContainerSpec, JobPlan
from tunewright.plan.secrets import SecretValue
from tunewright.plan.valid import shown_secret

SECRET = 'pa"ss/w&rd-of-the-store'
PLAN = JobPlan(
    name="job",
    init_containers=(),
    main=ContainerSpec(name="train", image="i", command=("true",), env={"TOKEN": SecretValue(SECRET), "X": "abc"}),
)


def with_argument(text: str) -> JobPlan:
    return attrs.evolve(PLAN, main=attrs.evolve(PLAN.main, command=("true", text)))


@pytest.mark.parametrize(
    "copied",
    [
        str,
        repr,
        json.dumps,
        lambda text: urllib.parse.quote(text, safe=""),
        lambda text: base64.b64encode(f"user:{text}".encode()).decode(),
    ],
    ids=["as it is", "repr", "JSON", "URL", "Base64"],
)
def test_a_secret_is_found_however_it_was_copied(copied: Callable[[str], str]) -> None:
    assert shown_secret(PLAN, with_argument(f"--header={copied(SECRET)}")) == "TOKEN"


def test_what_was_shown_before_or_is_no_secret_is_no_matter() -> None:
    shown = with_argument(SECRET)
    assert shown_secret(shown, attrs.evolve(shown, labels={"a": "b"})) == ""
    assert shown_secret(PLAN, with_argument("abc")) == ""
