"""Requests: what the user asks for, checked field by field before anything is created."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

import attrs

from tunewright._convert import to_dict, to_tuple
from tunewright.errors import RequestError
from tunewright.events import Json
from tunewright.plan.plan import JobPlan
from tunewright.plan.resources import Resources, as_resources
from tunewright.plan.secrets import EnvValue, refuse_literal_tokens
from tunewright.providers.base import DatasetProvider, ModelProvider, Provider, TrainerProvider
from tunewright.providers.fields import secret_fields
from tunewright.request import _validate as check
from tunewright.request.storage import Storage, as_storage

_T_co = TypeVar("_T_co", bound=Provider, covariant=True)


def generated_name(prefix: str) -> str:
    """A name for a job whose user gave none: `train-x7k2m`."""
    alphabet = "bcdfghjklmnpqrstvwxz2456789"  # Kubernetes' own: no vowels, so no words
    return f"{prefix}-{''.join(secrets.choice(alphabet) for _ in range(5))}"


class Origin(Protocol):
    """The plugin that a provider came from, as far as a request needs to know it."""

    @property
    def name(self) -> str:
        """Its registry name."""

    @property
    def dist(self) -> str:
        """The name of its distribution."""

    @property
    def version(self) -> str:
        """The version of its distribution."""

    def modify_plan(self, plan: JobPlan, request: Request) -> JobPlan:
        """Return the plan as its `tunewright_modify_plan` leaves it."""


@attrs.frozen(kw_only=True)
class ResolvedProvider(Generic[_T_co]):
    """A provider, and the plugin that it came from."""

    plugin: Origin
    provider: _T_co


@attrs.frozen(kw_only=True)
class Request:
    """What every job takes, whatever it runs; `TrainRequest` and `CodeRequest` say what that is.

    Attributes:
        name: the job's name.
        resources_per_worker: what each worker gets, e.g. {"gpu": 1, "cpu": 8, "memory": "16Gi"}.
        num_workers: pods.
        num_procs_per_worker: processes (ranks) in each worker; "auto" is one for each GPU.
        storage: where inputs and output are kept.
        output: URI that the result is uploaded to.
        env: variables of the main container.
        init_env: variables of the init containers.
        labels: of the job and its pods.
        annotations: of the job and its pods.
        queue: Kueue's local queue.
        priority_class: the pods' PriorityClass.
        node_selector: node labels to match.
        tolerations: Kubernetes Toleration objects.
        affinity: a Kubernetes Affinity object.
        runtime_class: the pods' RuntimeClass.
        scheduling_policy: the PyTorchJob's schedulingPolicy, for gang scheduling.
        service_account: the pods' service account.
        image: for the main container, in place of the default.
        image_pull_secrets: names of Secrets.
        elastic: (least, most) workers.
        max_restarts: restarts without a new checkpoint before the job fails.
        ttl: seconds after which the finished job is deleted.
        deadline: seconds that the job may take.
        suspend: create it suspended.
        pod_overrides: a strategic patch of the pod template: the last word.
    """

    name: str = attrs.field(validator=check.check_name)
    resources_per_worker: Resources = attrs.field(default=None, converter=as_resources)
    num_workers: int = attrs.field(
        default=1, validator=check.at_least(1, "Give the number of pods to train on: num_workers=1.")
    )
    num_procs_per_worker: int | str = attrs.field(
        default=1, converter=check.to_processes, validator=check.check_processes
    )
    storage: Storage = attrs.field(default=None, converter=as_storage)
    output: str | None = attrs.field(default=None, validator=check.check_output)
    env: Mapping[str, EnvValue] = attrs.field(
        default=None, converter=check.to_mapping, validator=[check.check_mapping, check.check_env, check.check_limits]
    )
    init_env: Mapping[str, EnvValue] = attrs.field(
        default=None, converter=check.to_mapping, validator=[check.check_mapping, check.check_env, check.check_limits]
    )
    labels: Mapping[str, str] = attrs.field(
        default=None, converter=check.to_mapping, validator=[check.check_mapping, check.check_labels]
    )
    annotations: Mapping[str, str] = attrs.field(
        default=None, converter=check.to_mapping, validator=[check.check_mapping, check.check_labels]
    )
    queue: str | None = attrs.field(default=None, validator=check.check_object_name)
    priority_class: str | None = attrs.field(default=None, validator=check.check_object_name)
    node_selector: Mapping[str, str] = attrs.field(
        default=None, converter=check.to_mapping, validator=[check.check_mapping, check.check_labels]
    )
    tolerations: tuple[Mapping[str, Json], ...] = attrs.field(
        default=(),
        converter=check.to_list,
        validator=[check.check_list_of(dict, '[{"key": "gpu", "operator": "Exists"}]'), check.check_manifest],
    )
    affinity: Mapping[str, Json] | None = attrs.field(
        default=None, converter=check.copied, validator=check.check_object
    )
    runtime_class: str | None = attrs.field(default=None, validator=check.check_object_name)
    scheduling_policy: Mapping[str, Json] | None = attrs.field(
        default=None, converter=check.copied, validator=check.check_object
    )
    service_account: str | None = attrs.field(default=None, validator=check.check_object_name)
    image: str | None = attrs.field(default=None, validator=check.check_image)
    image_pull_secrets: tuple[str, ...] = attrs.field(
        default=(), converter=check.to_list, validator=check.check_list_of(str, '["registry-login"]')
    )
    elastic: tuple[int, int] | None = attrs.field(default=None, converter=check.to_range, validator=check.check_elastic)
    max_restarts: int = attrs.field(default=3, validator=check.at_least(0, "Write 0 to fail at the first crash."))
    ttl: int | None = attrs.field(default=None, validator=attrs.validators.optional(check.at_least(0, "Give seconds.")))
    deadline: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(check.at_least(1, "Give seconds."))
    )
    suspend: bool = attrs.field(default=False, validator=check.check_flag)
    pod_overrides: Mapping[str, Json] = attrs.field(
        default=None, converter=check.to_mapping, validator=[check.check_mapping, check.check_manifest]
    )

    @property
    def processes(self) -> int:
        """Processes in each worker, as a number: `auto` is resolved."""
        return self.resources_per_worker.gpu if self.num_procs_per_worker == "auto" else int(self.num_procs_per_worker)

    @property
    def most_workers(self) -> int:
        """Pods, at most."""
        return self.elastic[1] if self.elastic else self.num_workers


@attrs.frozen(kw_only=True)
class TrainRequest(Request):
    """What `train()` asks for: providers.

    Attributes:
        model: fetches the model.
        dataset: fetches the dataset.
        eval_dataset: fetches the dataset to evaluate on.
        trainer: trains.
        output_target: takes in what `output` names: an `OutputTarget`, or one whose claim is mounted.
        upload_checkpoints: whether checkpoints are uploaded to `output`, too, so that a pod on another node resumes
            from there. None: they are where the pod's own volume goes with it.
    """

    model: ResolvedProvider[ModelProvider] | None = None
    dataset: ResolvedProvider[DatasetProvider] | None = None
    eval_dataset: ResolvedProvider[DatasetProvider] | None = None
    trainer: ResolvedProvider[TrainerProvider]
    output_target: ResolvedProvider[ModelProvider] | None = None
    upload_checkpoints: bool | None = attrs.field(default=None, validator=attrs.validators.optional(check.check_flag))

    @property
    def sources(self) -> dict[str, ResolvedProvider[ModelProvider] | ResolvedProvider[DatasetProvider]]:
        """The input slots that the request fills: slot → provider."""
        slots = {"model": self.model, "dataset": self.dataset, "eval_dataset": self.eval_dataset}
        return {slot: selected for slot, selected in slots.items() if selected is not None}

    @property
    def secret_variables(self) -> tuple[str, ...]:
        """The variables in which the providers take their secrets, whether they were given some or not."""
        target = [self.output_target] if self.output_target else []
        chosen = [selected.provider for selected in (*self.sources.values(), self.trainer, *target)]
        return tuple(sorted({name for provider in chosen for name in secret_fields(type(provider)).values()}))

    def check_local_inputs(self) -> None:
        """Look at those inputs that lie on this machine, where they are read from here.

        Raises:
            RequestError: one is not there, or the trainer refuses it.
        """
        paths = {slot: selected.provider.local_path() for slot, selected in self.sources.items()}
        for slot, path in paths.items():
            if path is not None and not path.exists():
                remedy = "Give the path of a file or folder."
                raise RequestError("does not exist", field=slot, value=str(path), remedy=remedy)
        self.trainer.provider.check_inputs(
            model=paths.get("model"), dataset=paths.get("dataset"), eval_dataset=paths.get("eval_dataset")
        )


@attrs.frozen(kw_only=True)
class CodeRequest(Request):
    """What `create_job()` asks for: code, or an image that starts itself.

    Attributes:
        code: file name → text of what torchrun starts, its entry point first; empty for an image's own command.
        command: program and arguments, in place of `code`. Both empty: the image's own entry point.
        arguments: arguments for the entry point of `code`.
        packages_to_install: pip requirements, installed before the code starts.
        pip_index_url: where from.
    """

    code: Mapping[str, str] = attrs.field(factory=dict, converter=to_dict)
    command: tuple[str, ...] = attrs.field(default=(), converter=to_tuple)
    arguments: tuple[str, ...] = attrs.field(default=(), converter=to_tuple)
    packages_to_install: tuple[str, ...] = attrs.field(
        default=(), converter=check.to_list, validator=check.check_list_of(str, '["einops==0.8.1"]')
    )
    pip_index_url: str | None = attrs.field(
        default=None, validator=attrs.validators.optional(check.check_text("https://host/simple"))
    )

    def __attrs_post_init__(self) -> None:
        """Refuse secrets where everybody can read them, and a step whose failure nobody would see."""
        if self.packages_to_install and not self.code and not self.command:
            # Only `run` reads what a failed step leaves, and the job would go on without the packages.
            problem = "cannot be installed for an image's own entry point, which would start even if that failed"
            remedy = "Give command=[…], the program that the image starts, or build the packages into the image."
            raise RequestError(problem, field="packages_to_install", remedy=remedy)
        for fields, where in (
            (("arguments", "command"), "env"),
            (("packages_to_install", "pip_index_url"), "init_env"),
        ):
            remedy = f"Give it as an environment variable: {where}={{…: SecretRef(…)}}."
            for field in fields:
                refuse_literal_tokens(getattr(self, field) or "", "args" if field == "arguments" else field, remedy)
