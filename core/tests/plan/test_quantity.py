"""Quantities: what Kubernetes would take, and nothing else."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright import RequestError
from tunewright.plan._quantity import check_quantity, to_number

GOOD = {
    "16Gi": 16 * 1024**3, "1Ki": 1024, "1.5Mi": 1.5 * 1024**2, "2Ti": 2 * 1024**4, "1Pi": 1024**5, "1Ei": 1024**6, "500m": 0.5,
    "1k": 1000, "3M": 3e6, "3G": 3e9, "1T": 1e12, "1P": 1e15, "1E": 1e18, "100n": 1e-7, "5u": 5e-6, "8": 8, "0.1": 0.1, ".5": 0.5,
    "1.": 1, "1e3": 1000, "1E3": 1000, "12e-1": 1.2, "1e+2": 100,
}  # fmt: skip


@pytest.mark.parametrize(("text", "number"), GOOD.items())
def test_what_kubernetes_takes_has_a_value(text: str, number: float) -> None:
    check_quantity(text, field="memory")
    assert math.isclose(to_number(text), number)


@pytest.mark.parametrize("number", [1, 8, 0.5, 2**60])
def test_numbers_are_quantities(number: float) -> None:
    check_quantity(number, field="cpu")
    assert to_number(number) == number


def test_none_is_not_given() -> None:
    check_quantity(None, field="cpu")


@pytest.mark.parametrize(
    "value",
    ["16 gigs", "16GB", "16gi", "16 Gi", " 16Gi", "16Gi\n", "", "Gi", "1,5Gi", "-1", "1e", "1ee3", "٣Gi", "0x10", "nan", "inf",
     math.nan, math.inf, -1, True, ["16Gi"], b"16Gi"],
)  # fmt: skip
def test_anything_else_is_refused_with_field_value_and_remedy(value: object) -> None:
    with pytest.raises(RequestError, match="is not a quantity") as caught:
        check_quantity(value, field="resources_per_worker['memory']")  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"resources_per_worker['memory']={value!r}: ")
    assert '"16Gi" for memory' in str(caught.value)


@pytest.mark.parametrize("value", ["0", 0, 0.0, "0Gi", "0e999", "0.0"])
def test_nothing_is_too_little(value: object) -> None:
    with pytest.raises(RequestError, match="must be more than 0"):
        check_quantity(value, field="storage.size")  # type: ignore[arg-type]


@given(st.text())
def test_no_text_is_taken_that_has_no_value(text: str) -> None:
    try:
        check_quantity(text, field="cpu")
    except RequestError:
        return
    assert to_number(text) > 0
