"""What the user says about training: `HuggingFaceTrainParams` and its parts. Nothing heavy is imported here."""
# ruff: noqa: RUF009 - secret() makes an attrs field

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar, TypeVar

import attrs

from tunewright.errors import RequestError
from tunewright.providers import Preview, TrainerProvider, TrainRun, accept_keywords
from tunewright.secret import SecretRef, secret
from tunewright.wire import did_you_mean
from tunewright_hf.fields import known_fields
from tunewright_hf.standins import LoraConfig, TrainingArguments

__all__ = ["DataParams", "HuggingFaceTrainParams", "LoraConfig", "TrainingArguments"]

_T = TypeVar("_T")

FORMATS = ("auto", "text", "prompt_completion", "chat")


def _is_a(*types: type) -> Callable[[object, attrs.Attribute[_T], _T], None]:
    """A validator: the value has one of the types; a bool is no int."""

    def validate(instance: object, attribute: attrs.Attribute[_T], value: _T) -> None:
        if (isinstance(value, bool) and bool not in types) or not isinstance(value, types):
            expected = " or ".join("None" if t is type(None) else t.__name__ for t in types)
            field = f"{type(instance).__name__}.{attribute.name}"
            raise RequestError(f"must be {expected}", field=field, value=value, remedy=f"Give {expected}.")

    return validate


@attrs.frozen(kw_only=True)
class DataParams:
    """How the rows of the dataset become samples.

    Attributes:
        format: "text": all tokens are learnt; "prompt_completion": the completion alone; "chat": the assistant's turns
            alone; "auto": by the columns that there are (messages, then prompt and completion, then text).
        text_column: column with the text, for "text".
        prompt_column: column with the prompt, for "prompt_completion".
        completion_column: column with the completion, for "prompt_completion".
        messages_column: column with lists of {"role", "content"}, for "chat".
        max_length: longest sample, in tokens; a longer one is cut at its end. None: 1024, or the model's context where
            that is shorter. Memory grows with the longest sample of a batch, so a model's whole context (often 128k)
            would end in an out-of-memory error far into a run.
        packing: put short samples behind each other, into rows of `max_length`, so that nothing is padded. Samples do
            not see each other. A row then counts as one sample of a batch. The samples of evaluation are not packed.
        train_split: which split of the dataset to train on.
        eval_split: which split to evaluate on. None: all of `eval_dataset` (its validation or test split, if it has
            some), or else the dataset's own validation or test split, if there is one.
    """

    format: str = attrs.field(default="auto")
    text_column: str = attrs.field(default="text", validator=_is_a(str))
    prompt_column: str = attrs.field(default="prompt", validator=_is_a(str))
    completion_column: str = attrs.field(default="completion", validator=_is_a(str))
    messages_column: str = attrs.field(default="messages", validator=_is_a(str))
    max_length: int | None = attrs.field(default=None, validator=_is_a(int, type(None)))
    packing: bool = attrs.field(default=False, validator=_is_a(bool))
    train_split: str = attrs.field(default="train", validator=_is_a(str))
    eval_split: str | None = attrs.field(default=None, validator=_is_a(str, type(None)))

    @format.validator  # noqa: A003 - it is the field above
    def _check_format(self, attribute: attrs.Attribute[str], value: object) -> None:
        if value not in FORMATS:
            remedy = did_you_mean(str(value), list(FORMATS))
            raise RequestError("is not a format", field=f"DataParams.{attribute.name}", value=value, remedy=remedy)

    @max_length.validator
    def _check_max_length(self, attribute: attrs.Attribute[int | None], value: int | None) -> None:
        if value is not None and value < 2:  # noqa: PLR2004 - one token to read and one to learn
            remedy = "Give a number of tokens, or leave it out."
            raise RequestError("must be at least 2", field=f"DataParams.{attribute.name}", value=value, remedy=remedy)

    @classmethod
    def of(cls, value: object) -> DataParams:
        """From a DataParams or a dict of its fields; the dict is not changed."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            remedy = 'Write DataParams(format="chat"), or a dict of its fields.'
            raise RequestError("must be a DataParams or a dict", field="data", value=value, remedy=remedy)
        names = [a.name for a in attrs.fields(cls)]
        for name in value:
            if name not in names:
                raise RequestError("is not a field", field=f"DataParams.{name}", remedy=did_you_mean(str(name), names))
        return cls(**value)


def _arguments(value: object) -> TrainingArguments:
    return TrainingArguments.of(value)


def _data(value: object) -> DataParams:
    return DataParams.of(value)


def _lora(value: object) -> LoraConfig | None:
    return None if value is None else LoraConfig.of(value)


def _texts(value: object, field: str, example: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
        remedy = f'Write {field}=["{example}"].'
        raise RequestError("must be a list of texts", field=field, value=value, remedy=remedy)
    return tuple(value)


def _prompts(value: object) -> tuple[str, ...]:
    return _texts(value, "sample_prompts", "What is a tuple?")


def _callbacks(value: object) -> tuple[str, ...]:
    return _texts(value, "callbacks", "my_package:MyCallback")


def _rewrite(keywords: dict[str, object]) -> dict[str, object]:
    """The KEP's flat spelling: any field of TrainingArguments, `peft_config`, `transformerClass`."""
    aliases = {"peft_config": "lora_config", "transformerClass": "transformer_class"}
    own = [a.name for a in attrs.fields(HuggingFaceTrainParams)]
    flat = known_fields("TrainingArguments")
    result: dict[str, object] = {}
    loose: dict[str, object] = {}
    for given, value in keywords.items():
        name = aliases.get(given, given)
        if name not in own and name not in flat:
            field = f"HuggingFaceTrainParams.{given}"
            raise RequestError("is not a field", field=field, remedy=did_you_mean(given, [*own, *aliases, *flat]))
        if name in result:
            problem = f"means the same as {name!r}, and both are given"
            raise RequestError(problem, field=given, remedy="Give one of them.")
        (result if name in own else loose)[name] = value
    if loose:
        result["training_parameters"] = _merged(TrainingArguments.of(result.get("training_parameters", {})), loose)
    return result


def _merged(arguments: TrainingArguments, loose: Mapping[str, object]) -> TrainingArguments:
    if twice := sorted(set(arguments) & set(loose)):
        problem = "is given twice, here and in training_parameters"
        raise RequestError(problem, field=twice[0], value=loose[twice[0]], remedy="Give it once.")
    return TrainingArguments(**arguments, **loose)


@accept_keywords(_rewrite)
@attrs.frozen(kw_only=True)
class HuggingFaceTrainParams(TrainerProvider):
    """The trainer `hf`: causal language models, with transformers' Trainer and PEFT.

    The fields of TrainingArguments may also be given directly, and `peft_config` for `lora_config`:
    `HuggingFaceTrainParams(learning_rate=1e-4, peft_config={})`.

    Attributes:
        training_parameters: fields of `transformers.TrainingArguments`: a TrainingArguments, of ours or the real one, or
            a dict.
        lora_config: fields of `peft.LoraConfig`, likewise; {} is LoRA with defaults on all linear layers, None is full
            fine-tuning.
        data: how rows become samples.
        transformer_class: the transformers Trainer class to use.
        attn_implementation: "auto": flash-attn 2 where it is installed and there is a GPU for it, else attention by
            sample ("segments") where the model works with it, else what transformers chooses. Or any name that
            transformers knows ("sdpa", "eager", "flash_attention_2", "flex_attention", …).
        fused_layers: compute LoRA layers and the loss in a faster way with the same results, where the model is known.
        trust_remote_code: whether Python code that comes with the model may run.
        early_stopping_patience: end after so many evaluations without a better `metric_for_best_model` (by default the
            loss), and take the best checkpoint as the result. None: never.
        callbacks: names of `transformers.TrainerCallback` classes: entry points of the group "tunewright.hf.callbacks",
            or "module:Class", in the trainer's image.
        sample_prompts: prompts that the trained model answers at the end, as `sample` events.
        merge: save the whole model with the adapter merged into it, instead of the adapter.
        hub_token: token for `push_to_hub`; it reaches the containers as HF_TOKEN.

    Raises:
        RequestError: a field is unknown or has the wrong type.
    """

    extra: ClassVar[str | None] = "train"

    training_parameters: TrainingArguments = attrs.field(default=TrainingArguments(), converter=_arguments)
    lora_config: LoraConfig | None = attrs.field(default=None, converter=_lora)
    data: DataParams = attrs.field(default=DataParams(), converter=_data)
    transformer_class: str = attrs.field(default="Trainer", validator=_is_a(str))
    attn_implementation: str = attrs.field(default="auto", validator=_is_a(str))
    fused_layers: bool = attrs.field(default=True, validator=_is_a(bool))
    trust_remote_code: bool = attrs.field(default=False, validator=_is_a(bool))
    early_stopping_patience: int | None = attrs.field(default=None, validator=_is_a(int, type(None)))
    callbacks: tuple[str, ...] = attrs.field(default=(), converter=_callbacks)
    sample_prompts: tuple[str, ...] = attrs.field(default=(), converter=_prompts)
    merge: bool = attrs.field(default=False, validator=_is_a(bool))
    hub_token: str | SecretRef | None = secret(env="HF_TOKEN")

    @early_stopping_patience.validator
    def _check_patience(self, attribute: attrs.Attribute[int | None], value: int | None) -> None:
        if value is not None and value < 1:
            remedy = "Give a number of evaluations, or leave it out."
            raise RequestError("must be at least 1", field=attribute.name, value=value, remedy=remedy)

    @merge.validator
    def _check_merge(self, attribute: attrs.Attribute[bool], value: bool) -> None:
        if value and self.lora_config is None:
            remedy = "Give lora_config={}, or leave merge out."
            raise RequestError("has no adapter to merge", field=attribute.name, value=value, remedy=remedy)

    def check_inputs(self, *, model: Path | None, dataset: Path | None, eval_dataset: Path | None) -> None:
        """Refuse a folder that is no model, an empty dataset, and a dataset without the columns that are named."""
        from tunewright_hf.inputs import check_dataset, check_model

        if model is not None:
            check_model(model)
        for field, folder in (("dataset", dataset), ("eval_dataset", eval_dataset)):
            if folder is not None:
                check_dataset(folder, self.data, field)

    def check(self, run: TrainRun) -> None:
        """Build everything that can be built without a GPU and without weights; see `tunewright_hf.check`."""
        from tunewright_hf.check import check

        check(self, run)

    def preview(self, run: TrainRun) -> Iterator[Preview]:
        """Samples as they will be trained on; see `tunewright_hf.preview`."""
        from tunewright_hf.preview import preview

        return preview(self, run)

    def train(self, run: TrainRun) -> None:
        """Train, on every rank; see `tunewright_hf.trainer`."""
        from tunewright_hf.trainer import train

        train(self, run)
