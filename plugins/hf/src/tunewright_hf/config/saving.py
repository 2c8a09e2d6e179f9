"""The dtypes that weights are saved in, by name. Imports no heavy library."""

from __future__ import annotations

from tunewright.errors import RequestError

DTYPES = ("float32", "bfloat16", "float16")
SHORT_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def dtype_name(value: object) -> str | None:
    """Return the name of a dtype: of one of torch, too, and as TrainingArguments abbreviates it."""
    if value is None:
        return None
    name = str(value).removeprefix("torch.")
    name = SHORT_DTYPES.get(name, name)
    if name not in DTYPES:
        remedy = f"Give {', '.join(DTYPES[:-1])} or {DTYPES[-1]}; or leave it out for the model's own."
        raise RequestError("is not a dtype that weights are saved in", field="save_dtype", value=value, remedy=remedy)
    return name
