"""The fields of `HuggingFaceTrainParams` and their validation. Imports no heavy library."""

# ruff: noqa: RUF009 - secret() makes an attrs field
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, cast

import attrs

from tunewright.errors import RequestError, did_you_mean
from tunewright.events import Json
from tunewright.providers import (
    DatasetProvider,
    ModelProvider,
    SecretRef,
    TrainerProvider,
    one_of,
    schema_of_class,
    secret,
)
from tunewright_hf.config.data_params import DROP, FORMATS, REFUSE, TEXT_UNITS, DataParams, is_a
from tunewright_hf.config.dataset_part import DatasetPart, with_eval_part, with_part
from tunewright_hf.config.library_arguments import BitsAndBytesConfig, LoraConfig, TrainingArguments
from tunewright_hf.config.library_fields import known_fields
from tunewright_hf.config.other_words import OF_TRAINER
from tunewright_hf.config.saving import DTYPES, SHORT_DTYPES, dtype_name
from tunewright_hf.config.tasks import (
    CAUSAL,
    CLASSIFICATION,
    TASKS,
    Task,
    check_class_name,
    check_num_labels,
    class_name,
)

CONTINUE = "continue"
MERGE = "merge"

RANDOM_START = "pissa_niter"
"""How values of init_lora_weights begin that take a random part from the model's weights, which an adapter does not tell."""


def _arguments(value: object) -> TrainingArguments:
    return TrainingArguments.of(value)


def _data(value: object) -> DataParams:
    return DataParams.of(value)


def _lora(value: object) -> LoraConfig | None:
    return None if value is None else LoraConfig.of(value)


def _quantization(value: object) -> BitsAndBytesConfig | None:
    return None if value is None else BitsAndBytesConfig.of(value)


def _texts(value: object, field: str, example: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
        remedy = f'Write {field}=["{example}"].'
        raise RequestError("must be a list of strings", field=field, value=value, remedy=remedy)
    return tuple(value)


def _own_arguments(value: object) -> Mapping[str, Any]:
    field = "transformer_class_arguments"
    if not isinstance(value, Mapping):
        raise RequestError("must be a dict", field=field, value=value, remedy=f'Write {field}={{"beta": 0.1}}.')
    known = known_fields("TrainingArguments")
    for name in value:
        if name in known:
            remedy = "Give it as one of training_parameters."
            raise RequestError("is a field of TrainingArguments", field=f"{field}.{name}", remedy=remedy)
    return dict(value)


def _prompts(value: object) -> tuple[str, ...]:
    prompts = _texts(value, "sample_prompts", "What is a tuple?")
    if "" in prompts:
        remedy = "Write a prompt, or leave it out: the tokenizer may have no token to start an answer from."
        raise RequestError("contains an empty prompt", field="sample_prompts", value=value, remedy=remedy)
    return prompts


def _callbacks(value: object) -> tuple[str, ...]:
    return _texts(value, "callbacks", "my_package:MyCallback")


_ALIASES = {"peft_config": "lora_config", "transformerClass": "transformer_class"}


def rewrite_keywords(keywords: dict[str, object]) -> dict[str, object]:
    """Translate the KEP's flat spelling: any field of TrainingArguments, `peft_config`, `transformerClass`."""
    aliases = _ALIASES
    own = [a.name for a in attrs.fields(TrainParams)]
    flat = known_fields("TrainingArguments")
    result: dict[str, object] = {}
    loose: dict[str, object] = {}
    for given, value in keywords.items():
        name = aliases.get(given, given)
        if name not in own and name not in flat:
            field = f"HuggingFaceTrainParams.{given}"
            raise RequestError(
                "is not a field", field=field, remedy=did_you_mean(given, [*own, *aliases, *flat], OF_TRAINER)
            )
        if name in result:
            problem = f"means the same as {name!r}, and both are given"
            raise RequestError(problem, field=given, remedy="Give only one of them.")
        (result if name in own else loose)[name] = value
    if loose:
        result["training_parameters"] = _merged(TrainingArguments.of(result.get("training_parameters", {})), loose)
    return result


def _merged(arguments: TrainingArguments, loose: Mapping[str, object]) -> TrainingArguments:
    if twice := sorted(set(arguments) & set(loose)):
        problem = "is given twice: directly and in training_parameters"
        raise RequestError(problem, field=twice[0], value=loose[twice[0]], remedy="Give it once.")
    return TrainingArguments(**arguments, **loose)


def _for_task(data: DataParams, task: Task) -> DataParams:
    if data.format == "auto" and len(task.formats) == 1:
        return attrs.evolve(data, format=task.formats[0])
    return data


def _check_task(params: TrainParams) -> None:
    task, data = params.task, params.data
    lora = params.lora_config.get("task_type") if params.lora_config is not None else None
    wanted = {name: t.auto_class for t in TASKS.values() for name in (*t.formats, t.lora)}

    def refuse(field: str, value: object, remedy: str) -> None:
        problem = f"does not work with {task.auto_class}, which loads {task.models}"
        raise RequestError(problem, field=field, value=value, remedy=remedy)

    if data.format not in ("auto", *task.formats):
        refuse("DataParams.format", data.format, f"Give transformer_type={wanted[data.format]!r}, or another format.")
    if lora not in (None, task.lora):
        other = f", or give transformer_type={wanted[lora]!r}" if lora in wanted else ""
        refuse("LoraConfig.task_type", lora, f"Leave it out{other}.")
    params.check_format(data.format)
    if data.packing and (task is not CAUSAL or data.format == "preference"):
        refuse("DataParams.packing", True, "Leave packing out: each of its samples is a row of its own.")
    if data.chat_template is not None and task is not CAUSAL:
        refuse("DataParams.chat_template", data.chat_template[:80], "Leave it out: it renders conversations.")
    if params.attn_implementation == "segments" and task is not CAUSAL:
        refuse("attn_implementation", "segments", "Leave it out: it only computes causal attention.")
    if params.num_labels is not None and task is not CLASSIFICATION:
        refuse(
            "num_labels", params.num_labels, f"Give transformer_type={CLASSIFICATION.auto_class!r}, or leave it out."
        )
    if params.sample_prompts and not task.writes:
        refuse("sample_prompts", params.sample_prompts, "Leave it out: a classifier does not generate text.")


def _check_streaming(params: TrainParams) -> None:
    """Refuse what does not work with streamed data."""
    given = params.training_parameters

    def refuse(field: str, value: object, problem: str, remedy: str) -> None:
        raise RequestError(f"{problem} with DataParams(streaming=True)", field=field, value=value, remedy=remedy)

    if params.task is CLASSIFICATION:
        remedy = "Leave streaming out: the labels of all rows must be known before the first step."
        refuse("transformer_type", params.transformer_type, "does not work", remedy)
    steps = given.get("max_steps")
    if not isinstance(steps, int) or steps < 1:
        remedy = "Give the number of training steps: the number of samples is not known in advance."
        refuse("max_steps", steps, "must be a positive number", remedy)
    if (workers := given.get("dataloader_num_workers")) not in (None, 0, 1):
        refuse("dataloader_num_workers", workers, "must be 0 or 1", "Give 1 to read ahead in a separate process.")
    if (order := given.get("train_sampling_strategy")) not in (None, "random", "sequential"):
        refuse(
            "train_sampling_strategy", order, "must be random or sequential", "Leave it out, or leave streaming out."
        )
    for name in ("auto_find_batch_size", "ignore_data_skip"):
        if given.get(name):
            refuse(name, given[name], "does not work", "Leave it out.")
    loading = given.get("accelerator_config")
    if isinstance(loading, Mapping) and loading.get("split_batches"):
        refuse(
            "accelerator_config.split_batches", True, "does not work", "Leave it out: each rank reads its own batches."
        )


def _check_arguments(params: TrainParams) -> None:
    """Refuse arguments that transformers accepts, but that fail or break a guarantee of ours far into a run."""
    given, own = params.training_parameters, params.transformer_class_arguments
    found = given.get("accelerator_config")
    loading = found if isinstance(found, Mapping) else {}

    def refuse(field: str, value: object, problem: str, remedy: str = "Leave it out.") -> None:
        raise RequestError(problem, field=field, value=value, remedy=remedy)

    if (order := given.get("train_sampling_strategy")) == "group_by_length":
        problem = "shuffles differently on each rank and after a restart, which repeats some samples and skips others"
        remedy = "Leave it out, and give DataParams(packing=True), which avoids padding; or give 'batch_rebalance'."
        refuse("train_sampling_strategy", order, problem, remedy)
    begun = params.lora_config.get("init_lora_weights") if params.lora_config is not None else None
    if str(begun).startswith(RANDOM_START) and not params.merge:
        problem = "takes a random part from the model's weights, so nobody could load the adapter on the same ones"
        remedy = "Give pissa, which computes that part exactly, or merge: true."
        refuse("lora_config.init_lora_weights", begun, problem, remedy)
    names = given.get("label_names")
    if names not in (None, ["labels"]) and ":" not in params.transformer_class:
        refuse("label_names", names, "names a column that samples do not have", "Leave it out: it is labels.")
    if given.get("max_steps") == 0:
        refuse("max_steps", 0, "would train nothing", "Give a number of steps, or leave it out.")
    if own.get("predict_with_generate"):
        problem = "does not work: evaluations only compute the loss"
        refuse("transformer_class_arguments.predict_with_generate", True, problem)
    if loading.get("dispatch_batches"):
        refuse(
            "accelerator_config.dispatch_batches",
            True,
            "does not work",
            "Leave it out: each rank reads its own batches.",
        )
    exact = "would keep a restarted job from reproducing the same bits"
    if loading.get("use_seedable_sampler") is False:
        refuse("accelerator_config.use_seedable_sampler", False, exact)
    if given.get("dataloader_persistent_workers"):
        refuse("dataloader_persistent_workers", True, exact)


@attrs.frozen(kw_only=True)
class TrainParams(TrainerProvider):
    """The fields of `HuggingFaceTrainParams`, without the code that runs in the containers.

    Attributes:
        training_parameters: fields of `transformers.TrainingArguments`, as a TrainingArguments (ours or the real one) or a
            dict.
        lora_config: fields of `peft.LoraConfig`, likewise. {} is LoRA with default settings on all linear layers; None is
            full fine-tuning.
        quantization_config: fields of `transformers.BitsAndBytesConfig`, likewise, for QLoRA: the frozen weights are
            quantised to 4 or 8 bits. {} is 4-bit NF4. Needs bitsandbytes in the trainer's image.
        data: how rows become samples.
        transformer_type: the Auto class of transformers that loads the model, and so the task: "AutoModelForCausalLM",
            "AutoModelForSeq2SeqLM" or "AutoModelForSequenceClassification", by name or as the class itself. None: the
            model provider's, or else AutoModelForCausalLM.
        num_labels: number of labels of a sequence classifier; 1 is regression. None: the model provider's, or else as
            many as the dataset has.
        transformer_class: the Trainer class: the name of one in transformers, or "module:Class" for a subclass of
            `transformers.Trainer` in the trainer's image.
        transformer_class_arguments: fields of that class's own arguments that `training_parameters` does not have.
        attn_implementation: "auto" is FlashAttention 2 if it is installed and the GPU supports it, else "segments" (attention
            within each sample, without padding) if the model supports it, else the default of transformers. Any name that
            transformers knows is accepted ("sdpa", "eager", "flash_attention_2", "flex_attention", …).
        fused_layers: compute LoRA layers and the loss with faster kernels of equal results, for models that are recognised.
        trust_remote_code: whether Python code that comes with the model may run.
        early_stopping_patience: stop after this many evaluations without a better `metric_for_best_model` (by default the
            loss), and keep the best checkpoint as the result. None: never.
        callbacks: names of `transformers.TrainerCallback` classes in the trainer's image: entry points of the group
            "tunewright.hf.callbacks", or "module:Class".
        sample_prompts: prompts that the trained model answers at the end, as `sample` events.
        merge: save the whole model with the adapter merged into it, instead of the adapter.
        adapter_mode: what becomes of the job's `adapter`. "continue" trains it on, with its own configuration. "merge" merges it into
            the model's weights first: then `lora_config` trains a new adapter, which needs `merge`, or all weights are trained.
        save_dtype: dtype of the saved weights: "float32", "bfloat16" or "float16". None: that of the model's own files, and
            for an adapter the one that it is trained in.
        hub_token: token for `push_to_hub`; it reaches the containers as HF_TOKEN.
    """

    training_parameters: TrainingArguments = attrs.field(default=TrainingArguments(), converter=_arguments)
    lora_config: LoraConfig | None = attrs.field(default=None, converter=_lora)
    quantization_config: BitsAndBytesConfig | None = attrs.field(default=None, converter=_quantization)
    data: DataParams = attrs.field(default=DataParams(), converter=_data)
    transformer_type: str | None = attrs.field(default=None, converter=class_name, validator=check_class_name)
    num_labels: int | None = attrs.field(default=None, validator=check_num_labels)
    transformer_class: str = attrs.field(default="Trainer", validator=is_a(str))
    transformer_class_arguments: Mapping[str, Any] = attrs.field(factory=dict, converter=_own_arguments, hash=False)
    attn_implementation: str = attrs.field(default="auto", validator=is_a(str))
    fused_layers: bool = attrs.field(default=True, validator=is_a(bool))
    trust_remote_code: bool = attrs.field(default=False, validator=is_a(bool))
    early_stopping_patience: int | None = attrs.field(default=None, validator=is_a(int, type(None)))
    callbacks: tuple[str, ...] = attrs.field(default=(), converter=_callbacks)
    sample_prompts: tuple[str, ...] = attrs.field(default=(), converter=_prompts)
    merge: bool = attrs.field(default=False, validator=is_a(bool))
    adapter_mode: str = attrs.field(default=CONTINUE, validator=one_of(CONTINUE, MERGE))
    save_dtype: str | None = attrs.field(default=None, converter=dtype_name)
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

    @quantization_config.validator
    def _check_quantization(
        self, attribute: attrs.Attribute[BitsAndBytesConfig | None], value: BitsAndBytesConfig | None
    ) -> None:
        if value is not None and self.lora_config is None:
            remedy = "Give lora_config={}, or leave quantization_config out: quantised weights cannot be trained."
            raise RequestError("has no adapter to train", field=attribute.name, remedy=remedy)
        if value is not None and self.merge:
            remedy = (
                "Leave merge out, and merge the adapter into the unquantised model afterwards, with merge_and_unload()."
            )
            raise RequestError("does not work with quantised weights", field="merge", value=True, remedy=remedy)

    def __attrs_post_init__(self) -> None:
        """Set the data's format by the task, and refuse what does not work with the task."""
        object.__setattr__(self, "data", _for_task(self.data, self.task))
        _check_task(self)
        if self.data.streaming:
            _check_streaming(self)
        _check_arguments(self)

    @classmethod
    def json_schema(cls) -> dict[str, Json]:
        """Return the JSON schema of what a job file says under `trainer`, for editors."""
        flat = cast("dict[str, dict[str, Json]]", TrainingArguments.json_schema()["properties"])
        loose = {name: {k: v for k, v in schema.items() if k != "description"} for name, schema in flat.items()}
        schema = schema_of_class(cls, also={"transformerClass": {"type": "string"}, **loose})
        properties = cast("dict[str, dict[str, Json]]", schema["properties"])
        properties["peft_config"] = properties["lora_config"]
        data = cast("dict[str, dict[str, Json]]", properties["data"]["properties"])
        properties["save_dtype"] |= {"enum": [*DTYPES, *SHORT_DTYPES, None]}
        choices = {"format": FORMATS, "text_unit": (*TEXT_UNITS, None), "on_bad_row": (REFUSE, DROP)}
        for name, values in choices.items():
            data[name] = {**{k: v for k, v in data[name].items() if k != "type"}, "enum": [*values]}
        return schema

    @property
    def task(self) -> Task:
        """The task that the model is trained for."""
        return TASKS[self.transformer_type] if self.transformer_type else CAUSAL

    def for_model(self, model: ModelProvider) -> Self:
        """Return this trainer with the `transformer_type` and `num_labels` of the model's provider, if it has them."""
        changed: dict[str, Any] = {}
        for name in ("transformer_type", "num_labels"):
            theirs, own = getattr(model, name, None), getattr(self, name)
            if theirs is not None and own is not None and own != theirs:
                problem, remedy = f"differs from the model provider's, {theirs!r}", "Give only one of them."
                raise RequestError(problem, field=f"HuggingFaceTrainParams.{name}", value=own, remedy=remedy)
            changed[name] = theirs if own is None else own
        return attrs.evolve(self, **changed)

    def for_datasets(self, dataset: DatasetProvider | None, eval_dataset: DatasetProvider | None) -> Self:
        """Return this trainer with the configuration, the splits and the rows that the datasets' providers name."""
        data = self.data
        if dataset is not None:
            self.check_single()
        part, evaluated = (getattr(provider, "part", None) for provider in (dataset, eval_dataset))
        if isinstance(part, DatasetPart):
            data = with_part(data, part, has_eval_dataset=eval_dataset is not None)
        if isinstance(evaluated, DatasetPart):
            data = with_eval_part(data, evaluated)
        return attrs.evolve(self, data=data)

    def check_adapter_mode(self, *, given: bool) -> None:
        """Refuse an `adapter_mode` that does not fit the other parameters; `given`: whether the job has an adapter."""
        if self.adapter_mode == CONTINUE:
            return
        if not given:
            remedy = "Give the job's adapter: adapter: hf://org/name or ./folder; or leave adapter_mode out."
            raise RequestError("has no adapter to merge", field="adapter_mode", value=self.adapter_mode, remedy=remedy)
        if self.quantization_config is not None:
            remedy = "Merge it first with `tunewright merge`, and give the merged model."
            problem = "does not work with quantised weights, which cannot take an adapter exactly"
            raise RequestError(problem, field="adapter_mode", value=self.adapter_mode, remedy=remedy)
        if self.lora_config is not None and not self.merge:
            remedy = "Give merge: true, so that the result is a whole model; or continue the adapter."
            problem = "would leave an adapter for merged weights that are not saved anywhere"
            raise RequestError(problem, field="adapter_mode", value=self.adapter_mode, remedy=remedy)

    def check_single(self) -> None:
        """Refuse what only a list of datasets gives a meaning to, for a single one."""
        if self.data.mix_by != attrs.fields(DataParams).mix_by.default:
            problem = "shares a training out among several datasets, and there is one"
            remedy = "Leave it out, or give a list of several datasets."
            raise RequestError(problem, field="DataParams.mix_by", value=self.data.mix_by, remedy=remedy)

    def check_format(self, form: str | None) -> None:
        """Refuse preference pairs if the data is streamed, or if the Trainer class cannot train on them.

        The Trainer classes of transformers train on single answers, so only another library's class can.
        """
        if form == "preference" and self.data.streaming:
            problem, remedy = "does not work with preference pairs", "Leave it out: the Trainer class tokenises them."
            raise RequestError(problem, field="DataParams.streaming", value=True, remedy=remedy)
        if form == "preference" and ":" not in self.transformer_class:
            problem = "trains on single answers, but the dataset has preference pairs"
            remedy = 'Name a class that trains on pairs, such as "trl:DPOTrainer", or another DataParams(format=…).'
            raise RequestError(problem, field="transformer_class", value=self.transformer_class, remedy=remedy)
