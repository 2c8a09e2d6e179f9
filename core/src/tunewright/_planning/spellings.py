"""One adapter for other spellings: KEP-2003's arguments and kubeflow-training 1.9's become those of `TrainingClient`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunewright.errors import RequestError

# KEP-2003's order. Its example puts positional arguments after keywords, which Python refuses; this is the same order.
_KEP_ORDER = ("num_workers", "num_procs_per_worker", "resources_per_worker", "model", "dataset", "trainer")

_TRAIN_NAMES = {
    "model_args": "model",
    "dataset_args": "dataset",
    "parameters": "trainer",
    "model_provider_parameters": "model",
    "dataset_provider_parameters": "dataset",
    "trainer_parameters": "trainer",
    "storage_config": "storage",
}

_COMMON_NAMES = {"queue_name": "queue", "env_vars": "env", "init_env_vars": "init_env"}


def train_keywords(positional: Sequence[object], keywords: Mapping[str, object]) -> dict[str, object]:
    """The keywords of `train()` from whatever the user wrote; the caller's objects are not changed.

    Args:
        positional: [name,] then KEP-2003's arguments in its order.
        keywords: KEP-2003's, kubeflow-training 1.9's or our own.

    Raises:
        RequestError: an argument is given twice, or there are too many.
    """
    named = isinstance(positional[0], str) or positional[0] is None if positional else False
    order = ("name", *_KEP_ORDER) if named else _KEP_ORDER
    if len(positional) > len(order):
        problem = f"{len(positional)} positional arguments, and there are {len(order)}"
        raise RequestError(problem, field="train()", remedy=f"The order is {', '.join(order)}; use keywords.")
    given = _merge(dict(zip(order, positional, strict=False)), _renamed(keywords, _TRAIN_NAMES | _COMMON_NAMES))
    trainer = given.get("trainer")
    if isinstance(trainer, Mapping) and "provider" not in trainer:
        # KEP-2003's `parameters` are key-value pairs for the Hugging Face trainer, and name no provider.
        given["trainer"] = {"provider": "hf", **trainer}
    return given


def create_job_keywords(keywords: Mapping[str, object]) -> dict[str, object]:
    """The keywords of `create_job()` from kubeflow-training 1.9's or our own."""
    return _merge({}, _renamed(keywords, _COMMON_NAMES))


def _renamed(keywords: Mapping[str, object], names: Mapping[str, str]) -> list[tuple[str, str, object]]:
    return [(k, names.get(k, k), _plain_env(v) if k.endswith("env_vars") else v) for k, v in keywords.items()]


def _merge(given: dict[str, object], keywords: Sequence[tuple[str, str, object]]) -> dict[str, object]:
    for written, name, value in keywords:
        if name == "namespace":
            remedy = "Give it to the client: TrainingClient(namespace=…)."
            raise RequestError("is the client's, not the job's", field="namespace", value=value, remedy=remedy)
        if name in given:
            same = f"means the same as {name}" if written != name else "has a position, too"
            raise RequestError(f"{same}, and both are given", field=written, remedy="Give one of them.")
        given[name] = value
    return given


def _plain_env(value: object) -> object:
    """1.9 takes a dict, or a list of V1EnvVar, which have `name` and `value`."""
    if not isinstance(value, list | tuple):
        return value
    pairs = [_pair(item) for item in value]
    if missing := [name for name, item in pairs if item is None]:
        remedy = f"Write env={{{missing[0]!r}: SecretRef(name=…, key=…)}}."
        raise RequestError("has no literal value", field=f"env_vars[{missing[0]!r}]", remedy=remedy)
    return dict(pairs)


def _pair(item: object) -> tuple[object, object]:
    if isinstance(item, Mapping) and "name" in item:
        return item["name"], item.get("value")
    if hasattr(item, "name") and hasattr(item, "value"):
        return item.name, item.value
    remedy = "Write env={NAME: value}."
    raise RequestError(f"holds a {type(item).__name__}, which names no variable", field="env_vars", remedy=remedy)
