"""Stand-ins for the arguments of transformers and PEFT that only record the given fields.

The real classes need torch, inspect the machine that they are created on (`bf16=True` raises on a client without a GPU), and
fill in defaults. A stand-in has the same fields, validates names and types against `fields.json`, and is sent as a JSON object,
from which the container builds the real one. Real objects are accepted, too: their fields that differ from the defaults are
recorded.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import logging
import math
import typing
from collections.abc import Iterator, Mapping
from typing import ClassVar, Self, cast

import attrs

from tunewright.errors import RequestError, did_you_mean
from tunewright.events import Json
from tunewright.providers import Argument, document_class, schema_of_type
from tunewright_hf.config.library_fields import known_fields, library
from tunewright_hf.config.other_words import OF_ARGUMENTS, OF_LORA

_PYTHON = {"bool": bool, "int": int, "float": (int, float), "str": str, "list": list, "dict": dict, "None": type(None)}

T = typing.TypeVar("T")

logger = logging.getLogger(__name__)


class StandIn(Mapping[str, Json]):
    """Fields by name, as JSON values; equal if the same fields were given the same values."""

    schema: ClassVar[str]
    home: ClassVar[str]
    managed: ClassVar[Mapping[str, str]]
    derived: ClassVar[frozenset[str]]
    # Numbers that the real class does not validate, and that fail far into a run.
    positive: ClassVar[frozenset[str]] = frozenset()
    not_negative: ClassVar[frozenset[str]] = frozenset()
    # Whether the real class refuses fields that it does not know.
    refuses_unknown: ClassVar[bool] = True
    # What other programs call the fields, for "did you mean".
    other_words: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls) -> None:
        """Let `help()` and `inspect.signature()` list the fields of the real class."""
        super().__init_subclass__()
        document_class(cls, cls._arguments)

    @classmethod
    def json_schema(cls) -> dict[str, Json]:
        """Return the JSON schema of the fields that the user may give, for editors of job files."""
        fields = [a for a in cls._arguments() if a.name not in cls.managed and not a.name.endswith("_token")]
        properties: dict[str, Json] = {a.name: _field_schema(a) for a in fields}
        return {"type": "object", "properties": properties, "additionalProperties": False}

    @classmethod
    def _arguments(cls) -> Iterator[Argument]:
        from tunewright_hf.config.library_help import arguments

        for argument in arguments(cls.schema):
            managed = cls.managed.get(argument.name)
            yield attrs.evolve(argument, meaning=f"set by Tunewright. {managed}") if managed else argument

    def __init__(self, **fields: object) -> None:
        self._fields = {name: self._checked(name, value) for name, value in fields.items()}

    @classmethod
    def of(cls, value: object) -> Self:
        """Return a stand-in for a stand-in, a dict or an object of the real class, without changing it.

        Raises:
            RequestError: it is something else, or a field is unknown, managed by Tunewright or of the wrong type.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, Mapping):
            return cls(**{str(k): v for k, v in value.items()})
        if real := cls._real_class(type(value)):
            return cls(**differing_fields(value, real, cls.derived))
        problem = f"must be a {cls.schema} or a dict of its fields, not {type(value).__name__}"
        raise RequestError(problem, field=cls.schema, remedy=f"Write {cls.schema}(…).")

    @classmethod
    def _real_class(cls, given: type) -> type | None:
        # By name, without importing the library: if the user has such an object, it is imported already.
        named = [c for c in given.__mro__ if c.__name__ == cls.schema and c.__module__.split(".")[0] == cls.home]
        return named[0] if named and dataclasses.is_dataclass(named[0]) else None

    @classmethod
    def _checked(cls, name: str, value: object) -> Json:
        field = f"{cls.schema}.{name}"
        known = known_fields(cls.schema)
        if name.endswith("_token"):
            remedy = "Give it as HuggingFaceTrainParams(hub_token=…), which keeps it in a Secret."
            raise RequestError("is a secret, but these arguments are written to files", field=field, remedy=remedy)
        if name not in known:
            remedy = did_you_mean(name, list(known), cls.other_words)
            if cls.refuses_unknown and not remedy.startswith("Did you mean"):
                # The image may have a newer library; its real class refuses the field in the check, before anything trains.
                logger.warning("%s is not a field in %s: the job's image decides", field, library(cls.schema))
                return _plain(value, field)
            problem = f"is not a field in {library(cls.schema)}"
            raise RequestError(problem, field=field, remedy=remedy)
        if name in cls.managed:
            raise RequestError("is set by Tunewright", field=field, value=value, remedy=cls.managed[name])
        plain = _plain(value, field)
        _check_type(plain, known[name], field)
        if isinstance(plain, int | float) and (plain < 0 or not plain):
            cls._check_sign(name, plain)
        return plain

    @classmethod
    def _check_sign(cls, name: str, value: float) -> None:
        wanted = "more than 0" if name in cls.positive else "0 or more" if name in cls.not_negative else ""
        if wanted and (value < 0 or name in cls.positive):
            field, remedy = f"{cls.schema}.{name}", "Change it, or leave it out."
            raise RequestError(f"must be {wanted}", field=field, value=value, remedy=remedy)

    def __getitem__(self, name: str) -> Json:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and dict(self) == dict(other)

    def __hash__(self) -> int:
        return hash((self.schema, json.dumps(self._fields, sort_keys=True)))

    def __repr__(self) -> str:
        return f"{self.schema}({', '.join(f'{k}={v!r}' for k, v in self._fields.items())})"


def _field_schema(argument: Argument) -> dict[str, Json]:
    schema = schema_of_type(argument.annotation)
    if argument.meaning:
        schema["description"] = argument.meaning
    if isinstance(argument.default, bool | int | float | str):
        schema["default"] = argument.default
    return schema


class TrainingArguments(StandIn):
    """The fields of `transformers.TrainingArguments` that the user gives: `TrainingArguments(learning_rate=1e-4)`.

    Raises:
        RequestError: a field is unknown ("did you mean"), has the wrong type, is a token, or is set by Tunewright.
    """

    schema = "TrainingArguments"
    home = "transformers"
    other_words = OF_ARGUMENTS
    managed: ClassVar[Mapping[str, str]] = {
        "output_dir": "Leave it out: checkpoints and the result go to the job's output folder.",
        "resume_from_checkpoint": "Leave it out: a restarted job resumes from its newest complete checkpoint.",
        "local_rank": "Leave it out: torchrun sets each process's rank.",
        "enable_jit_checkpoint": "Leave it out, and set save_steps: a training that it stops would look finished.",
        "batch_eval_metrics": "Leave it out: an evaluation reports eval_loss, the mean over all supervised tokens.",
        "prediction_loss_only": "Leave it out: an evaluation reports eval_loss, the mean over all supervised tokens.",
    }
    positive = frozenset(
        {
            "gradient_accumulation_steps",
            "logging_steps",
            "num_train_epochs",
            "per_device_eval_batch_size",
            "per_device_train_batch_size",
        }
    )
    not_negative = frozenset(
        {
            "data_seed",
            "learning_rate",
            "max_grad_norm",
            "neftune_noise_alpha",
            "seed",
            "warmup_steps",
            "weight_decay",
        }
    )
    # Computed by the real class, or without meaning in the job.
    derived = frozenset(
        {"output_dir", "logging_dir", "disable_tqdm", "local_rank", "do_eval", "resume_from_checkpoint"}
    )


class LoraConfig(StandIn):
    """The fields of `peft.LoraConfig` that the user gives: `LoraConfig(r=16, lora_alpha=32)`.

    Raises:
        RequestError: as `TrainingArguments`.
    """

    schema = "LoraConfig"
    home = "peft"
    other_words = OF_LORA
    managed: ClassVar[Mapping[str, str]] = {
        "base_model_name_or_path": "Leave it out: it is the job's model.",
        "revision": "Leave it out, and give the revision with the model.",
        "inference_mode": "Leave it out: the adapter is trained.",
        "peft_type": "Leave it out: it is LORA.",
        "auto_mapping": "Leave it out: it is peft's own.",
        "peft_version": "Leave it out: it is peft's own.",
    }
    derived = frozenset(managed)


def _plain(value: object, field: str) -> Json:
    """Return a value as JSON: enumerations by their value, tuples and sets as lists."""
    if isinstance(value, enum.Enum):
        return _plain(value.value, field)
    if isinstance(value, float) and not math.isfinite(value):
        raise RequestError("is not a finite number", field=field, value=value, remedy="Write a finite number.")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, field) for item in value]
    if isinstance(value, set | frozenset):
        return [_plain(item, field) for item in sorted(value, key=repr)]
    if isinstance(value, Mapping):
        return {str(k): _plain(v, field) for k, v in value.items()}
    problem = f"contains a {type(value).__name__}, which is not JSON-serializable"
    raise RequestError(problem, field=field, remedy="Use plain values: text, numbers, true or false, lists and dicts.")


def _check_type(value: Json, expected: str, field: str) -> None:
    alternatives = expected.split(" | ")
    choices = [a.strip("'") for a in alternatives if a.startswith("'")]
    if choices and isinstance(value, str):
        if value not in choices:
            remedy = did_you_mean(value, choices)
            raise RequestError("is not one of its values", field=field, value=value, remedy=remedy)
        return
    if not any(_is(value, a) for a in alternatives if not a.startswith("'")):
        problem = f"must be {expected}, not {type(value).__name__}"
        raise RequestError(problem, field=field, value=value, remedy=_remedy(value, expected))


def _is(value: Json, alternative: str) -> bool:
    if isinstance(value, bool):
        return alternative == "bool"
    return isinstance(value, cast("type", _PYTHON[alternative]))


def _remedy(value: Json, expected: str) -> str:
    if not isinstance(value, str):
        return f"Give a value of type {expected}."
    if "int" in expected or "float" in expected:
        return "Write it without quotes." if _is_number(value) else "Write a number."
    return "Write true or false, without quotes." if "bool" in expected else f"Give a value of type {expected}."


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def differing_fields(value: object, real: type, derived: frozenset[str]) -> dict[str, object]:
    """Return the fields of a real object that differ from the defaults, which is all that shows of what was given.

    The fields are read one by one, because `to_dict()` replaces tokens by a placeholder that looks like a value.

    Args:
        value: the object.
        real: the class with the defaults: the object's own, or a base of it.
        derived: fields to leave out.
    """
    base = {f.name: f for f in dataclasses.fields(real)}
    fields = [base.get(f.name, f) for f in dataclasses.fields(cast("type", type(value))) if f.init]
    pairs = [(f.name, _simplified(getattr(value, f.name)), _simplified(_default(f))) for f in fields]
    given = {name: v for name, v, default in pairs if name not in derived and not _same(v, default)}
    return _without_mirrors(given)


def _default(field: dataclasses.Field[object]) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _simplified(value: object) -> object:
    """Replace enumerations by their values, and nested configurations by their fields that differ from the defaults."""
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return differing_fields(value, type(value), frozenset())
    if isinstance(value, list | tuple | set | frozenset):
        items = [_simplified(v) for v in value]
        return sorted(items, key=repr) if isinstance(value, set | frozenset) else items
    return value


def _same(value: object, default: object) -> bool:
    # The real class turns "none" and "" into empty lists, and a missing configuration into one with defaults.
    empty: tuple[object, ...] = (None, "", "none", [], {})
    return value == default or (value in ([], {}, "") and default in empty)


def _without_mirrors(given: dict[str, object]) -> dict[str, object]:
    """Remove the old names that the real class keeps equal to the new ones."""
    kept = dict(given)
    for suffix in ("", "_kwargs"):
        old, new = f"gradient_checkpointing{suffix}", f"activation_checkpointing{suffix}"
        if kept.get(new) is False:  # the resolved default
            del kept[new]
            kept.pop(old, None)
        elif new in kept:
            kept.pop(old, None)
    return kept


class BitsAndBytesConfig(StandIn):
    """The fields of `transformers.BitsAndBytesConfig` that the user gives: `BitsAndBytesConfig(load_in_4bit=True)`.

    Raises:
        RequestError: as `TrainingArguments`.
    """

    schema = "BitsAndBytesConfig"
    home = "transformers"
    refuses_unknown = False
    managed: ClassVar[Mapping[str, str]] = {}
    derived: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, **fields: object) -> None:
        # The real class also accepts the names of dtypes.
        super().__init__(**{k: str(v).removeprefix("torch.") if _is_dtype(v) else v for k, v in fields.items()})

    @classmethod
    def of(cls, value: object) -> Self:
        """See `StandIn.of`. The real class is not a dataclass, but has a method that returns what differs from its defaults."""
        if type(value).__name__ == cls.schema and hasattr(value, "to_diff_dict"):
            return cls(**{k: v for k, v in value.to_diff_dict().items() if not k.startswith("_")})
        return super().of(value)


def _is_dtype(value: object) -> bool:
    return type(value).__name__ == "dtype" and type(value).__module__ == "torch"


def construct(cls: type[T], given: Mapping[str, object]) -> T:
    """Build a dataclass from JSON values; fields that are dataclasses are built from dicts."""
    hints = typing.get_type_hints(cls)
    return cls(**{name: _nested(hints.get(name), value) for name, value in given.items()})


def _nested(hint: object, value: object) -> object:
    alternatives = typing.get_args(hint) or (hint,)
    if not isinstance(value, dict) or any(typing.get_origin(a) is dict or a is dict for a in alternatives):
        return value
    classes = [a for a in alternatives if isinstance(a, type) and dataclasses.is_dataclass(a)]
    return classes[0](**value) if classes else value
