"""Requests: what the user asks for, checked field by field before anything is created."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

import attrs

from tunewright._convert import to_dict, to_tuple
from tunewright.errors import RequestError, plugin_code
from tunewright.events import Json
from tunewright.plan import _checks as common
from tunewright.plan.plan import JobPlan
from tunewright.plan.policies import RunPolicy, Scheduling
from tunewright.plan.resources import Resources, as_resources
from tunewright.plan.secrets import EnvValue, refuse_literal_tokens
from tunewright.providers.base import DatasetProvider, ModelProvider, Provider, TrainerProvider
from tunewright.providers.fields import secret_fields
from tunewright.providers.mixture import MixturePart
from tunewright.request import _validate as check
from tunewright.request.libraries import Missing, missing
from tunewright.request.storage import Storage, as_storage

_T_co = TypeVar("_T_co", bound=Provider, covariant=True)

POLICIES: Final[Mapping[str, type[Any]]] = {"scheduling": Scheduling, "run_policy": RunPolicy}
"""The fields of a request whose own fields are keywords of `train()` and `create_job()`."""


def generated_name(prefix: str) -> str:
    """A name for a job whose user gave none: `train-x7k2m`."""
    alphabet = "bcdfghjklmnpqrstvwxz2456789"  # Kubernetes' own: no vowels, so no words
    return f"{prefix}-{''.join(secrets.choice(alphabet) for _ in range(5))}"


def with_policies(keywords: Mapping[str, object]) -> dict[str, object]:
    """Gather the keywords that are fields of a policy into that policy, once and for the whole way to the manifest.

        with_policies({"num_workers": 2, "ttl": 60})
        → {"num_workers": 2, "scheduling": Scheduling(), "run_policy": RunPolicy(ttl=60)}

    Raises:
        RequestError: a value is refused.
    """
    given = dict(keywords)
    policies = {
        field: policy(**{name: given.pop(name) for name in attrs.fields_dict(policy) if name in given})
        for field, policy in POLICIES.items()
    }
    return {**given, **policies}


class Origin(Protocol):
    """The plugin that a provider came from, as far as a request needs to know it."""

    @property
    def name(self) -> str:
        """Its name in the registry."""

    @property
    def dist(self) -> str:
        """The name of its distribution."""

    @property
    def version(self) -> str:
        """The version of its distribution."""

    def modify_plan(self, plan: JobPlan, request: Request) -> JobPlan:
        """Return the plan as the plugin's `tunewright_modify_plan` leaves it."""


@attrs.frozen(kw_only=True)
class ResolvedProvider(Generic[_T_co]):
    """A provider, and the plugin that it came from."""

    plugin: Origin
    provider: _T_co


@attrs.frozen(kw_only=True)
class ResolvedPart:
    """One dataset of a mixture, and the provider that fetches it."""

    part: MixturePart
    source: ResolvedProvider[DatasetProvider]


@attrs.frozen(kw_only=True)
class Request:
    """What every kind of job takes; `TrainRequest` and `CodeRequest` add what it runs.

    Attributes:
        name: the job's name.
        resources_per_worker: what each worker gets, e.g. {"gpu": 1, "cpu": 8, "memory": "16Gi"}.
        num_workers: number of workers; each is a pod.
        num_procs_per_worker: number of processes (ranks) in each worker; "auto" is one for each GPU.
        storage: where inputs and output are kept: a Storage, or a dict of its fields.
        output: URI that the result is uploaded to.
        env: environment variables of the main container.
        init_env: environment variables of the init containers.
        labels: labels of the job and its pods.
        annotations: annotations of the job and its pods.
        image: image of the main container, in place of the default.
        elastic: (least, most) workers, where their number may change while the job runs.
        scheduling: where and when the pods may run; each of its fields is a keyword.
        run_policy: how often and how long the job may run; each of its fields is a keyword.
        pod_overrides: a strategic merge patch of the pod template, applied last.
        always: the company-wide plugins, which have the last word on the plan of every job.
    """

    name: str = attrs.field(validator=check.check_name)
    resources_per_worker: Resources = attrs.field(default=None, converter=as_resources)
    num_workers: int = attrs.field(
        default=1, validator=common.at_least(1, "Give the number of pods to train on: num_workers=1.")
    )
    num_procs_per_worker: int | str = attrs.field(
        default=1, converter=check.to_processes, validator=check.check_processes
    )
    storage: Storage = attrs.field(default=None, converter=as_storage)
    output: str | None = attrs.field(default=None, validator=check.check_output)
    env: Mapping[str, EnvValue] = attrs.field(
        default=None, converter=common.to_mapping, validator=[common.check_mapping, check.check_env, check.check_limits]
    )
    init_env: Mapping[str, EnvValue] = attrs.field(
        default=None, converter=common.to_mapping, validator=[common.check_mapping, check.check_env, check.check_limits]
    )
    labels: Mapping[str, str] = attrs.field(
        default=None, converter=common.to_mapping, validator=[common.check_mapping, common.check_labels]
    )
    annotations: Mapping[str, str] = attrs.field(
        default=None, converter=common.to_mapping, validator=[common.check_mapping, common.check_labels]
    )
    image: str | None = attrs.field(default=None, validator=check.check_image)
    elastic: tuple[int, int] | None = attrs.field(default=None, converter=check.to_range, validator=check.check_elastic)
    scheduling: Scheduling = attrs.field(factory=Scheduling, validator=attrs.validators.instance_of(Scheduling))
    run_policy: RunPolicy = attrs.field(factory=RunPolicy, validator=attrs.validators.instance_of(RunPolicy))
    pod_overrides: Mapping[str, Json] = attrs.field(
        default=None, converter=common.to_mapping, validator=[common.check_mapping, common.check_manifest]
    )
    always: tuple[Origin, ...] = attrs.field(default=(), converter=to_tuple)

    @property
    def plugins(self) -> tuple[Origin, ...]:
        """The plugins whose `tunewright_modify_plan` is called, in that order: each once, the company-wide ones last."""
        return self.always

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
        model: the provider that fetches the model.
        adapter: the provider that fetches an adapter of the model, to continue training from.
        dataset: the provider that fetches the dataset; None for a mixture.
        mixture: the datasets of a mixture, and the providers that fetch them; empty for a single dataset.
        eval_dataset: the provider that fetches the evaluation dataset.
        trainer: the provider that trains.
        output_target: the provider behind `output`: an `OutputTarget`, or one whose claim is mounted.
        upload_checkpoints: whether checkpoints are uploaded to `output` too, so that a pod on another node resumes
            from them. None: they are if the pod's own volume is deleted with the pod.
    """

    model: ResolvedProvider[ModelProvider] | None = None
    adapter: ResolvedProvider[ModelProvider] | None = None
    dataset: ResolvedProvider[DatasetProvider] | None = None
    mixture: tuple[ResolvedPart, ...] = attrs.field(default=(), converter=to_tuple)
    eval_dataset: ResolvedProvider[DatasetProvider] | None = None
    trainer: ResolvedProvider[TrainerProvider]
    output_target: ResolvedProvider[ModelProvider] | None = None
    upload_checkpoints: bool | None = attrs.field(default=None, validator=attrs.validators.optional(common.check_flag))

    @property
    def sources(self) -> dict[str, ResolvedProvider[ModelProvider] | ResolvedProvider[DatasetProvider]]:
        """The inputs that the request names: input → provider."""
        mixed = {resolved.part.slot: resolved.source for resolved in self.mixture}
        before = {"model": self.model, "adapter": self.adapter, "dataset": self.dataset}
        slots = {**before, **mixed, "eval_dataset": self.eval_dataset}
        return {slot: selected for slot, selected in slots.items() if selected is not None}

    @property
    def plugins(self) -> tuple[Origin, ...]:
        """Those that the request selected, and the company-wide ones."""
        target = [self.output_target] if self.output_target else []
        selected = {s.plugin.name: s.plugin for s in (*self.sources.values(), self.trainer, *target)}
        last = {plugin.name for plugin in self.always}
        return (*(plugin for name, plugin in selected.items() if name not in last), *self.always)

    @property
    def secret_variables(self) -> tuple[str, ...]:
        """The environment variables that the providers read secrets from, whether or not the user gave any."""
        target = [self.output_target] if self.output_target else []
        chosen = [selected.provider for selected in (*self.sources.values(), self.trainer, *target)]
        return tuple(sorted({name for provider in chosen for name in secret_fields(type(provider)).values()}))

    def missing_libraries(self) -> list[Missing]:
        """Return what the providers lack in this Python environment, where the steps of a job on this machine run."""
        chosen: dict[str, ResolvedProvider[Any]] = {"trainer": self.trainer}
        chosen |= {slot: s for slot, s in self.sources.items() if s.provider.local_path() is None}
        if self.output_target is not None:
            chosen["output"] = self.output_target
        found = (missing(slot, s.plugin.dist, s.provider.extra) for slot, s in chosen.items())
        return [item for item in found if item is not None]

    def check_local_inputs(self) -> None:
        """Check the inputs that are files on this machine, where the job reads them from here.

        Raises:
            RequestError: one does not exist, or the trainer refuses it.
        """
        paths = {slot: selected.provider.local_path() for slot, selected in self.sources.items()}
        for slot, path in paths.items():
            if path is not None and not path.exists():
                remedy = "Give the path of a file or folder."
                raise RequestError("does not exist", field=self.written(slot), value=str(path), remedy=remedy)
        trainer, plugin = self.trainer.provider, self.trainer.plugin
        with plugin_code(plugin.name, plugin.dist, "check_inputs() or check_mixture()"):
            trainer.check_inputs(
                model=paths.get("model"), dataset=paths.get("dataset"), eval_dataset=paths.get("eval_dataset")
            )
            if self.mixture:
                parts = (resolved.part for resolved in self.mixture)
                trainer.check_mixture([attrs.evolve(part, folder=paths[part.slot]) for part in parts])

    def written(self, slot: str) -> str:
        """Return the argument that an input comes from: "model", or "dataset[0]" for the first dataset of a mixture."""
        slots = [resolved.part.slot for resolved in self.mixture]
        return f"dataset[{slots.index(slot)}]" if slot in slots else slot


@attrs.frozen(kw_only=True)
class CodeRequest(Request):
    """What `create_job()` asks for: code, or an image that starts itself.

    Attributes:
        code: file name → text of what torchrun starts, the entry point first; empty for an image's own command.
        command: program and arguments, in place of `code`. If both are empty, the image's own entry point runs.
        arguments: arguments of the entry point of `code`.
        packages_to_install: pip requirements that are installed before the code starts.
        pip_index_url: the package index to install them from.
    """

    code: Mapping[str, str] = attrs.field(factory=dict, converter=to_dict)
    command: tuple[str, ...] = attrs.field(default=(), converter=to_tuple)
    arguments: tuple[str, ...] = attrs.field(default=(), converter=to_tuple)
    packages_to_install: tuple[str, ...] = attrs.field(
        default=(), converter=common.to_list, validator=common.check_list_of(str, '["einops==0.8.1"]')
    )
    pip_index_url: str | None = attrs.field(
        default=None, validator=attrs.validators.optional(check.check_text("https://host/simple"))
    )

    def __attrs_post_init__(self) -> None:
        """Refuse what nobody would see, a step's failure or the progress of code of one's own, and secrets that everyone could."""
        if self.scheduling.progress_account is not None:
            problem, remedy = "is for train(): your own code writes no progress into its job", "Leave it out."
            raise RequestError(problem, field="progress_account", value=self.scheduling.progress_account, remedy=remedy)
        if self.packages_to_install and not self.code and not self.command:
            # Only `run` reads the verdict of a failed step; without it the job would go on without the packages.
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
