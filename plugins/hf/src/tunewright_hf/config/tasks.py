"""What a model is trained to do, by the Auto class of transformers that loads it. Nothing heavy is imported here."""

from __future__ import annotations

from typing import cast

import attrs

from tunewright.errors import RequestError, did_you_mean


@attrs.frozen(kw_only=True)
class Task:
    """One of transformers' Auto classes, and what goes with it.

    Attributes:
        auto_class: its name.
        models: what its models are called.
        lora: peft's TaskType.
        pipeline: the Hub's pipeline_tag.
        formats: of the data, as DataParams names them; the first is what "auto" takes, where there is one alone.
        writes: whether the model writes texts.
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

TASKS = {task.auto_class: task for task in (CAUSAL, SEQ2SEQ, CLASSIFICATION)}


def class_name(value: object) -> str | None:
    """The name of an Auto class, which 1.9 takes as the class itself: `transformers.AutoModelForCausalLM`."""
    return cast("str | None", getattr(value, "__name__", value))


def check_class_name(instance: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    """A validator: refuse what is no class of `TASKS`."""
    if value is not None and value not in TASKS:
        field = f"{type(instance).__name__}.{attribute.name}"
        remedy = did_you_mean(str(value), list(TASKS))
        raise RequestError("is no class that the trainer hf loads", field=field, value=value, remedy=remedy)


def check_num_labels(instance: object, attribute: attrs.Attribute[int | None], value: object) -> None:
    """A validator: refuse what is no number of labels."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        field = f"{type(instance).__name__}.{attribute.name}"
        remedy = "Give the number of classes, 1 for regression, or leave it out: it is found in the data."
        raise RequestError("is no number of labels", field=field, value=value, remedy=remedy)
