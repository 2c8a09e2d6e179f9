"""What a function may take from its own body, and what it cannot take from the module around it."""

import math
import os

import pytest

from tunewright.errors import RequestError
from tunewright.request.code import function_files

LIMIT = 3


def imports_what_the_module_imports() -> str:
    import os

    def nested() -> str:
        return os.sep

    return nested()


def names_an_attribute_like_a_module() -> object:
    from pathlib import Path

    return Path().math  # type: ignore[attr-defined]


def has_a_class_with_a_name_of_the_module() -> int:
    class Settings:
        LIMIT = 1
        TWICE = LIMIT * 2

    return Settings.TWICE


def reads_the_module() -> int:
    return LIMIT


def reads_the_module_in_a_nested_function() -> object:
    def nested() -> str:
        return os.sep

    return [nested() for _ in range(int(math.pi))]


def reads_the_module_in_a_class() -> object:
    class Settings:
        limit = LIMIT

    return Settings


@pytest.mark.parametrize(
    "function",
    [imports_what_the_module_imports, names_an_attribute_like_a_module, has_a_class_with_a_name_of_the_module],
)
def test_names_of_its_own_are_not_taken_for_the_modules(function) -> None:
    assert function.__name__ in function_files(function, None)["train_func.py"]


@pytest.mark.parametrize(
    ("function", "used"),
    [
        (reads_the_module, "LIMIT"),
        (reads_the_module_in_a_nested_function, "math, os"),
        (reads_the_module_in_a_class, "LIMIT"),
    ],
)
def test_names_of_the_module_are_refused(function, used: str) -> None:
    with pytest.raises(RequestError, match=f"refers to {used}, which (is|are) defined outside it"):
        function_files(function, None)


def test_a_closure_is_refused() -> None:
    captured = 1

    def inner() -> int:
        return captured

    with pytest.raises(RequestError, match="refers to captured, which is defined outside it"):
        function_files(inner, None)
