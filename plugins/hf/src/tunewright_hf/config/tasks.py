"""Tasks that a model can be trained for, by the Auto class of transformers that loads it. Imports no heavy library."""

from __future__ import annotations

from typing import cast

import attrs

from tunewright.errors import RequestError, did_you_mean


@attrs.frozen(kw_only=True)
class Task:
    """An Auto class of transformers, and the settings that belong to it.

    Attributes:
        auto_class: the class's name.
        models: what to call its models, in the plural.
        lora: PEFT's TaskType.
        pipeline: the Hub's pipeline_tag.
        formats: the data formats it works with, as in DataParams; if there is only one, "auto" means that one.
        writes: whether the model generates text.
    """

    auto_class: str
    models: str
    lora: str
    pipeline: str
    formats: tuple[str, ...]
    writes: bool = True


CAUSAL = Task(
    auto_class="AutoModelForCausalLM",
    models="causal language models",
    lora="CAUSAL_LM",
    pipeline="text-generation",
    formats=("chat", "prompt_completion", "text", "preference"),
)

SEQ2SEQ = Task(
    auto_class="AutoModelForSeq2SeqLM",
    models="encoder-decoder language models",
    lora="SEQ_2_SEQ_LM",
    pipeline="text2text-generation",
    formats=("prompt_completion",),
)

CLASSIFICATION = Task(
    auto_class="AutoModelForSequenceClassification",
    models="sequence classifiers",
    lora="SEQ_CLS",
    pipeline="text-classification",
    formats=("classification",),
    writes=False,
)

IMAGE_TEXT = "AutoModelForImageTextToText"
"""The Auto class of models that read images as well. Their text is trained as that of a causal language model."""

TASKS = {**{task.auto_class: task for task in (CAUSAL, SEQ2SEQ, CLASSIFICATION)}, IMAGE_TEXT: CAUSAL}


def class_name(value: object) -> str | None:
    """Return the name of an Auto class; kubeflow-training 1.9 takes the class itself: `transformers.AutoModelForCausalLM`."""
    return cast("str | None", getattr(value, "__name__", value))


def check_class_name(instance: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    """Validate that the value names an Auto class of `TASKS`."""
    if value is not None and value not in TASKS:
        field = f"{type(instance).__name__}.{attribute.name}"
        remedy = did_you_mean(str(value), list(TASKS))
        raise RequestError("is not a class that the trainer hf supports", field=field, value=value, remedy=remedy)


def check_num_labels(instance: object, attribute: attrs.Attribute[int | None], value: object) -> None:
    """Validate that the value is a number of labels."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        field = f"{type(instance).__name__}.{attribute.name}"
        remedy = "Give the number of classes, 1 for regression, or leave it out to infer it from the data."
        raise RequestError("is not a number of labels", field=field, value=value, remedy=remedy)
