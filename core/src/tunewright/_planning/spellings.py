"""The adapter for other spellings: KEP-2003's arguments and kubeflow-training 1.9's become those of `TrainingClient`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tunewright.errors import RequestError, TunewrightError
from tunewright.providers.base import DatasetProvider, ModelProvider, TrainerProvider

# KEP-2003's order. Its example puts positional arguments after keywords, which Python refuses; this is the same order.
_KEP_ORDER = ("num_workers", "num_procs_per_worker", "resources_per_worker", "model", "dataset", "trainer")

_OF_TYPE: Final[Mapping[str, type]] = {"model": ModelProvider, "dataset": DatasetProvider, "trainer": TrainerProvider}

_COMMON = {"queue_name": "queue", "env_vars": "env", "init_env_vars": "init_env"}

TRAIN: Final[Mapping[str, str]] = {
    **_COMMON,
    "model_args": "model",
    "dataset_args": "dataset",
    "parameters": "trainer",
    "model_provider_parameters": "model",
    "dataset_provider_parameters": "dataset",
    "trainer_parameters": "trainer",
    "storage_config": "storage",
}
"""Other spellings of the keywords of `train()` → ours."""

CREATE_JOB: Final[Mapping[str, str]] = {**_COMMON, "job": "manifest"}
"""Other spellings of the keywords of `create_job()` → ours."""


OTHER_WORDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("base_model", "model_name", "model_name_or_path", "model_id", "model_uri"), "model"),
    **dict.fromkeys(("adapters", "adapter_name_or_path", "lora_path", "peft_model", "lora_adapter"), "adapter"),
    **dict.fromkeys(("data", "train_dataset", "dataset_name", "datasets", "train_data"), "dataset"),
    **dict.fromkeys(("eval", "val_dataset", "validation_dataset", "test_dataset"), "eval_dataset"),
    **dict.fromkeys(("output_dir", "output_uri", "output_path", "save_to"), "output"),
    **dict.fromkeys(("workers", "nodes", "num_nodes", "nnodes", "replicas"), "num_workers"),
    **dict.fromkeys(("procs", "nproc_per_node", "num_proc", "num_procs", "processes"), "num_procs_per_worker"),
    **dict.fromkeys(("gpus", "gpu", "num_gpus", "resources", "memory", "cpu"), "resources_per_worker"),
    **dict.fromkeys(("timeout", "max_runtime", "active_deadline_seconds"), "deadline"),
    **dict.fromkeys(("ttl_seconds_after_finished", "cleanup_after"), "ttl"),
    **dict.fromkeys(("environment", "envs"), "env"),
    **dict.fromkeys(("restarts", "retries", "backoff_limit"), "max_restarts"),
    **dict.fromkeys(("lora", "lora_config", "peft", "peft_config"), "trainer.lora_config"),
    **dict.fromkeys(("training_arguments", "training_parameters", "training_args"), "trainer.training_parameters"),
    **dict.fromkeys(("learning_rate", "lr"), "trainer.learning_rate"),
    **dict.fromkeys(("epochs", "num_epochs", "num_train_epochs"), "trainer.num_train_epochs"),
    **dict.fromkeys(("batch_size", "per_device_train_batch_size"), "trainer.per_device_train_batch_size"),
    **dict.fromkeys(("max_steps", "steps"), "trainer.max_steps"),
}
"""What other programs call the keywords of `train()` → ours, for "did you mean"."""


def train_keywords(positional: Sequence[object], keywords: Mapping[str, object]) -> dict[str, object]:
    """Return the keywords of `train()` for whatever the user wrote. The caller's objects are not changed.

    Args:
        positional: the name, if one is given, and KEP-2003's arguments in its order.
        keywords: KEP-2003's, kubeflow-training 1.9's or our own.

    Raises:
        RequestError: an argument is given twice, or there are too many.
    """
    objects, positional = _by_type(positional)
    named = isinstance(positional[0], str) or positional[0] is None if positional else False
    order: tuple[str, ...] = ("name", *_KEP_ORDER) if named else _KEP_ORDER
    order = tuple(name for name in order if name not in objects)
    if len(positional) > len(order):
        problem = f"takes {len(order)} positional arguments, but {len(positional)} were given"
        raise RequestError(problem, field="train()", remedy=f"The order is {', '.join(order)}; use keywords.")
    given = _merge({**objects, **dict(zip(order, positional, strict=False))}, _renamed(keywords, TRAIN))
    trainer = given.get("trainer")
    if isinstance(trainer, Mapping) and "provider" not in trainer:
        # KEP-2003's `parameters` are key-value pairs for the Hugging Face trainer, and do not name a provider.
        given["trainer"] = {"provider": "hf", **trainer}
    return given


def _by_type(positional: Sequence[object]) -> tuple[dict[str, object], list[object]]:
    """Split off provider objects, whose types say which arguments they are: KEP-2003's examples have them in any place.

    Returns:
        Keyword → object, and the other arguments in their order.

    Raises:
        RequestError: there are two of one type.
    """
    found: dict[str, object] = {}
    others: list[object] = []
    for value in positional:
        kind = next((name for name, cls in _OF_TYPE.items() if isinstance(value, cls)), None)
        if kind is None:
            others.append(value)
        elif kind in found:
            problem = f"is given twice: a {type(found[kind]).__name__} and a {type(value).__name__}"
            raise RequestError(problem, field=kind, remedy="Give one of them, or name what it is: eval_dataset=.")
        else:
            found[kind] = value
    return found, others


def create_job_keywords(keywords: Mapping[str, object]) -> dict[str, object]:
    """Return the keywords of `create_job()` for kubeflow-training 1.9's or our own."""
    return _merge({}, _renamed(keywords, CREATE_JOB))


@contextlib.contextmanager
def as_written(keywords: Mapping[str, object], spellings: Mapping[str, str]) -> Iterator[None]:
    """Make errors about an argument name the keyword that the user wrote.

    Args:
        keywords: the user's.
        spellings: other spellings → ours.

    Raises:
        RequestError: as inside, with the user's keyword as its field.
    """
    written = {ours: name for name, ours in spellings.items() if keywords.get(name) is not None}
    try:
        yield
    except TunewrightError as error:
        error.argument = written.get(error.argument, error.argument)
        if not isinstance(error, RequestError):
            raise
        for ours, name in written.items():
            if error.field == ours or error.field.startswith((f"{ours}.", f"{ours}[")):
                raise error.renamed(name + error.field.removeprefix(ours)) from error.__cause__
        raise


def _renamed(keywords: Mapping[str, object], names: Mapping[str, str]) -> list[tuple[str, str, object]]:
    return [(k, names.get(k, k), _plain_env(v, k) if k.endswith("env_vars") else v) for k, v in keywords.items()]


def _merge(given: dict[str, object], keywords: Sequence[tuple[str, str, object]]) -> dict[str, object]:
    for written, name, value in keywords:
        if name == "namespace":
            remedy = (
                "Give it to the client: TrainingClient(namespace=…). Programs for kubeflow-training 1.9 run as they are with "
                "`from tunewright.kubeflow import TrainingClient`."
            )
            raise RequestError("belongs to the client, not to the job", field="namespace", value=value, remedy=remedy)
        if name in given:
            same = f"means the same as {name}" if written != name else "is a positional argument, too"
            raise RequestError(f"{same}, and both are given", field=written, remedy="Give one of them.")
        given[name] = value
    return given


def _plain_env(value: object, written: str) -> object:
    """Convert 1.9's list of V1EnvVar, which have `name` and `value`, to a dict; 1.9 takes both."""
    if not isinstance(value, list | tuple):
        return value
    pairs = [_pair(item, written) for item in value]
    if missing := [name for name, item in pairs if item is None]:
        remedy = f"Write {written.removesuffix('_vars')}={{{missing[0]!r}: SecretRef(name=…, key=…)}}."
        raise RequestError("has no literal value", field=f"{written}[{missing[0]!r}]", remedy=remedy)
    return dict(pairs)


def _pair(item: object, written: str) -> tuple[object, object]:
    if isinstance(item, Mapping) and "name" in item:
        return item["name"], item.get("value")
    if hasattr(item, "name") and hasattr(item, "value"):
        return item.name, item.value
    remedy = f"Write {written.removesuffix('_vars')}={{NAME: value}}."
    raise RequestError(f"contains a {type(item).__name__}, which names no variable", field=written, remedy=remedy)
