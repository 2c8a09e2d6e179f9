"""The keywords of `TrainingClient`'s methods, for type checkers and for `help()`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict

from tunewright._planning import spellings
from tunewright._planning.selection import ProviderLike
from tunewright.errors import RequestError, did_you_mean, similar_name
from tunewright.events import Json
from tunewright.plan.resources import Resources
from tunewright.plan.secrets import EnvValue
from tunewright.request.storage import Storage


class JobOptions(TypedDict, total=False):
    """The keywords that `train()` and `create_job()` share: the fields of `Request`, `Scheduling` and `RunPolicy`."""

    num_workers: int
    num_procs_per_worker: int | Literal["auto"]
    resources_per_worker: Mapping[str, object] | Resources
    storage: Mapping[str, object] | Storage
    env: Mapping[str, EnvValue]
    init_env: Mapping[str, EnvValue]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    queue: str
    priority_class: str
    node_selector: Mapping[str, str]
    tolerations: Collection[Mapping[str, Json]]
    affinity: Mapping[str, Json]
    topology_spread_constraints: Collection[Mapping[str, Json]]
    runtime_class: str
    runtime: str
    scheduling_policy: Mapping[str, Json]
    host_network: bool
    shm_size: str | int
    tmp_size: str | int
    service_account: str
    progress_account: str
    image: str
    image_pull_secrets: Collection[str]
    elastic: tuple[int, int]
    max_restarts: int
    ttl: int | str
    deadline: int | str
    wait_for: int | str
    suspend: bool
    pod_overrides: Mapping[str, Json]


class TrainOptions(JobOptions, total=False):
    """The keywords of `train()`.

    Attributes:
        name: the job's name, unless it is the first argument; generated if left out.
        model: where the model comes from: a URI, a path, a dict {"provider": …, "uri": …}, or a provider object.
        dataset: where the dataset comes from, likewise; or a list of datasets to mix, in which a dict may also have the keys
            of `MixturePart`: "weight", "name", "repeat" and "data", and a provider object as its "provider".
        eval_dataset: where the evaluation dataset comes from, likewise.
        adapter: where an adapter of the model comes from, likewise, to continue training from it.
        trainer: what trains: the name of a provider, a dict {"provider": …}, or a provider object.
        output: where the result is uploaded to: a writable URI, a dict {"provider": …, "uri": …}, or a provider object.
        base_folder: the folder that relative paths start from; by default the working directory.
    """

    name: str
    model: ProviderLike
    dataset: ProviderLike | Sequence[ProviderLike]
    eval_dataset: ProviderLike
    adapter: ProviderLike
    trainer: ProviderLike
    output: ProviderLike
    upload_checkpoints: bool
    base_folder: str | Path


class CodeOptions(JobOptions, total=False):
    """The keywords of `create_job()`.

    Attributes:
        train_func: a function to run under torchrun; its source is shipped.
        parameters: the arguments of `train_func`.
        script: the path of a Python file to run under torchrun.
        script_folder: a folder to ship with `script`.
        args: the arguments of `script`, or of `command`.
        base_image: the image to run in. Without `train_func` and `script`, it starts itself.
        command: the program that an image without `train_func` and `script` starts, in place of its own entry point.
        manifest: a job object to submit as it is: a dict, an object of a Kubernetes client, or the path of a YAML file. Only
            `name` and `dry_run` may be given with it.
    """

    train_func: Callable[..., object]
    parameters: Mapping[str, Json]
    script: str | Path
    script_folder: str | Path
    args: Collection[object]
    base_image: str
    command: Collection[str]
    packages_to_install: Collection[str]
    pip_index_url: str
    output: str
    manifest: object


_OF_CODE = {
    "command": "give base_image too",
    "args": "give script, or base_image and command, too",
    "packages_to_install": "give script or base_image, too",
    "pip_index_url": "give script or base_image, too",
}


def refuse_unknown(given: Mapping[str, object], options: type) -> None:
    """Refuse a keyword that a method does not have.

    Args:
        given: the keywords, in our own spelling.
        options: `TrainOptions` or `CodeOptions`.

    Raises:
        RequestError: there is such a keyword.
    """
    known = list(dict.fromkeys(["name", "dry_run", *options.__annotations__]))
    for name in given:
        if name not in known:
            if options is TrainOptions and name in _OF_CODE:
                remedy = f"It is for a job of your own code: {_OF_CODE[name]}."
                raise RequestError("is not an argument of a training", field=name, remedy=remedy)
            remedy = did_you_mean(name, known, spellings.OTHER_WORDS)
            if options is TrainOptions and similar_name(name, known, spellings.OTHER_WORDS) is None:
                remedy += " What the trainer takes stands below trainer, as in trainer.learning_rate."
            raise RequestError("is not an argument", field=name, remedy=remedy)
