"""The variables of secret fields."""

import pytest

from tunewright import secret


@pytest.mark.parametrize(
    "variable", ["PATH", "PYTHONPATH", "LD_PRELOAD", "TUNEWRIGHT_CONFIG", "PET_NNODES", "RANK", "acme token", "1TOKEN", ""]
)  # fmt: skip
def test_a_variable_that_others_read_or_that_cannot_be_is_refused(variable: str) -> None:
    with pytest.raises(ValueError, match="name it after your service, such as ACME_TOKEN"):
        secret(env=variable)


@pytest.mark.parametrize(
    "variable", ["ACME_TOKEN", "HF_TOKEN", "_TOKEN", "aws_key2", "PATH_TOKEN", "USERNAME", "TUNEWRIGHT_HTTP_TOKEN"]
)
def test_other_variables_are_accepted(variable: str) -> None:
    secret(env=variable)
