"""`help()` of the stand-ins: every field of the real class with its type, its default and its meaning, without the libraries."""

import inspect
import json
import pydoc
import subprocess
import sys
import typing
from importlib.resources import files

import pytest

from tunewright_hf import BitsAndBytesConfig, LoraConfig, TrainingArguments
from tunewright_hf.config import library_help
from tunewright_hf.config.library_fields import known_fields

CLASSES = [TrainingArguments, LoraConfig, BitsAndBytesConfig]
each_class = pytest.mark.parametrize("cls", CLASSES)


@each_class
def test_every_field_is_in_the_signature_and_in_the_docstring(cls: type) -> None:
    parameters, doc = inspect.signature(cls).parameters, inspect.getdoc(cls)
    assert list(parameters) == list(known_fields(cls.schema))
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters.values())
    assert not [name for name in parameters if f"\n    {name} (" not in doc]
    assert doc.index("Args:") < doc.index("Raises:")


def test_types_defaults_and_meanings_are_those_of_the_libraries() -> None:
    parameters = inspect.signature(TrainingArguments).parameters
    assert (parameters["learning_rate"].annotation, parameters["learning_rate"].default) == (float, 5e-05)
    assert (parameters["save_total_limit"].annotation, parameters["save_total_limit"].default) == (int | None, None)
    assert parameters["logging_strategy"].annotation == typing.Literal["no", "steps", "epoch"]
    doc = inspect.getdoc(TrainingArguments)
    assert "learning_rate (float, default 5e-05): The initial learning rate for the optimizer." in doc
    assert "resume_from_checkpoint (str | None, optional): set by Tunewright. Leave it out:" in doc
    assert "r (int, default 8): Lora attention dimension" in pydoc.plain(pydoc.render_doc(LoraConfig))
    assert inspect.signature(BitsAndBytesConfig).parameters["bnb_4bit_quant_type"].default == "fp4"


def test_a_class_of_the_users_own_is_documented_too() -> None:
    class Mine(TrainingArguments):
        """Mine."""

    assert inspect.signature(Mine) == inspect.signature(TrainingArguments)
    assert inspect.getdoc(Mine).startswith("Mine.\n\nArgs:\n")


def test_help_json_is_what_the_installed_libraries_have() -> None:
    pytest.importorskip("peft")
    recorded = json.loads(files("tunewright_hf.config").joinpath(library_help.FILE).read_text("utf-8"))
    assert recorded == library_help.read_installed(), "run: python -m tunewright_hf.config.library_help"


def test_nothing_is_read_and_no_library_loaded_before_somebody_asks() -> None:
    code = (
        "import sys, inspect, tunewright_hf.config.library_arguments as a\n"
        "assert 'tunewright_hf.config.library_help' not in sys.modules\n"
        "a.LoraConfig(r=4)\n"
        "assert 'tunewright_hf.config.library_help' not in sys.modules\n"
        "assert 'lora_alpha' in inspect.signature(a.LoraConfig).parameters\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
