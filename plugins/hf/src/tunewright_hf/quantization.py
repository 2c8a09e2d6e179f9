"""A stand-in for `transformers.BitsAndBytesConfig`, as those of `tunewright_hf.standins`: for QLoRA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from tunewright_hf.standins import StandIn


class BitsAndBytesConfig(StandIn):
    """The fields of `transformers.BitsAndBytesConfig` that the user gives: `BitsAndBytesConfig(load_in_4bit=True)`.

    Raises:
        RequestError: as `TrainingArguments`.
    """

    schema = "BitsAndBytesConfig"
    home = "transformers"
    managed: ClassVar[Mapping[str, str]] = {}
    derived: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, **fields: object) -> None:
        # torch's dtypes go by their names, as the real class takes them, too.
        super().__init__(**{k: str(v).removeprefix("torch.") if _is_dtype(v) else v for k, v in fields.items()})

    @classmethod
    def of(cls, value: object) -> Self:
        """As `StandIn.of`; the real class has no dataclass's fields, and tells itself what differs from its defaults."""
        if type(value).__name__ == cls.schema and hasattr(value, "to_diff_dict"):
            return cls(**{k: v for k, v in value.to_diff_dict().items() if not k.startswith("_")})
        return super().of(value)


def _is_dtype(value: object) -> bool:
    return type(value).__name__ == "dtype" and type(value).__module__ == "torch"
