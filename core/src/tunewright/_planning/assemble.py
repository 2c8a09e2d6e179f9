"""Assembly: turn a request into a plan. Pure: it touches no file, network or cluster, and equal requests give equal plans."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import attrs

from tunewright import environment
from tunewright._planning.bootstrap import NO_WHEELS, RUNNER, bootstrap, install_packages, literal
from tunewright._planning.job_document import job_document
from tunewright._planning.layout import OUTPUT as OUTPUT_VOLUME
from tunewright._planning.layout import VolumeLayout, lay_out
from tunewright._planning.mixture import mixture_document
from tunewright._planning.uploads import TRAIN, refuse_lost_output, upload_env, uploaded_target
from tunewright.environment import OUTPUT_SLOT, kind_of_slot
from tunewright.errors import PluginError, RequestError, plugin_code
from tunewright.plan import images
from tunewright.plan.plan import (
    CODE,
    JOB_FILE,
    MAIN_STEP,
    PREPARED,
    RUNNER_FILE,
    RUNS,
    WORKSPACE,
    ContainerSpec,
    ExistingClaim,
    JobPlan,
    Mount,
    Volume,
)
from tunewright.plan.secrets import SecretRef, SecretValue
from tunewright.plan.valid import container_problem
from tunewright.plugins.wheels import Wheel
from tunewright.providers import wire
from tunewright.providers.base import ClaimFolder
from tunewright.providers.fields import secret_env
from tunewright.request.request import CodeRequest, Origin, Request, TrainRequest
from tunewright.runner.install import WHEELS_FILE
from tunewright.runner.source import runner_source

LAUNCHER = ("python", "-m", "tunewright_launcher")
TORCHRUN = ("torchrun", "--max-restarts=0")

# A worker that joins a running job needs the address of the store that torchrun shares with its ranks, but only the first
# rendezvous publishes it (torch 2.15, dynamic_rendezvous.py, next_rendezvous): all workers would wait for the timeout.
_OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def assemble(request: Request, wheels: Mapping[str, Wheel] = NO_WHEELS) -> JobPlan:
    """Return the plan for a request, after `tunewright_modify_plan` of the selected plugins and the company-wide ones.

    Args:
        request: the request.
        wheels: what is installed where an image lacks it, by distribution; others come from the package index.

    Raises:
        RequestError: parts of the request contradict each other.
        PluginError: a selected plugin breaks the contract of a hook.
    """
    if isinstance(request, TrainRequest):
        return _train_plan(request, wheels)
    if isinstance(request, CodeRequest):
        return _code_plan(request)
    raise TypeError(f"Not a request that can be assembled: {type(request).__name__}")


def _train_plan(request: TrainRequest, wheels: Mapping[str, Wheel]) -> JobPlan:
    documents = {slot: document_of(slot, s.plugin, s.provider) for slot, s in request.sources.items()}
    layout = _layout(request, keys={slot: _key_of(document) for slot, document in documents.items()})
    steps = [_fetch(request, slot, layout) for slot, s in request.sources.items() if s.provider.mounted_claim() is None]
    main, first = _trainer(request, layout), bootstrap(request, wheels)
    plan = attrs.evolve(
        _plan(request, main),
        init_containers=(*steps, _check(request, main)),
        bootstrap=first,
        secret_variables=request.secret_variables,
        files={f"{slot}.json": document.dumps() for slot, document in documents.items()}
        | {"trainer.json": document_of("trainer", request.trainer.plugin, request.trainer.provider).dumps()}
        | mixture_document(request)
        | _output_document(request)
        | _job_document(request)
        | ({RUNNER_FILE: runner_source()} if first else {})
        | ({WHEELS_FILE: json.dumps({wheel.name: wheel.text for wheel in wheels.values()})} if wheels else {}),
        volumes=(*layout.volumes, *_claims(request)),
    )
    return _naming_secrets(_modified(plan, request))


def _code_plan(request: CodeRequest) -> JobPlan:
    layout = _layout(request, keys={})
    main = ContainerSpec(
        name=MAIN_STEP,
        image=request.image or images.trainer(gpus=request.resources_per_worker.gpu),
        command=_code_command(request),
        env={**_run_env(request), **request.env},
        resources=request.resources_per_worker,
        mounts=(_output_mount(layout),),
    )
    plan = attrs.evolve(
        _plan(request, main),
        init_containers=(install_packages(request, main.image),) if request.packages_to_install else (),
        labels={**request.labels, RUNS: CODE},
        self_starting=not request.code,
        files={**_job_document(request), **request.code, RUNNER_FILE: runner_source()},
        volumes=(layout.output,),
    )
    return _naming_secrets(_modified(plan, request))


def _modified(plan: JobPlan, request: Request) -> JobPlan:
    for plugin in request.plugins:
        plan = plugin.modify_plan(plan, request)
    return plan


def _naming_secrets(plan: JobPlan) -> JobPlan:
    """Tell `run` which variables hold secrets, so that it keeps them out of its messages."""

    def naming(container: ContainerSpec) -> ContainerSpec:
        names = ",".join(name for name, value in container.env.items() if not isinstance(value, str))
        return attrs.evolve(container, env={**container.env, environment.SECRETS: names}) if names else container

    return attrs.evolve(
        plan,
        bootstrap=naming(plan.bootstrap) if plan.bootstrap else None,
        init_containers=[naming(c) for c in plan.init_containers],
        main=naming(plan.main),
    )


def _plan(request: Request, main: ContainerSpec) -> JobPlan:
    """Return what the plans of all requests have in common."""
    return JobPlan(
        name=request.name,
        init_containers=(),
        main=main,
        num_workers=request.num_workers,
        num_procs_per_worker=request.processes,
        elastic=request.elastic,
        labels=request.labels,
        annotations=request.annotations,
        scheduling=request.scheduling,
        run_policy=request.run_policy,
        output=request.output,
        pod_overrides=request.pod_overrides,
    )


def _layout(request: Request, keys: Mapping[str, str]) -> VolumeLayout:
    layout = lay_out(
        request.storage,
        job=request.name,
        workers=request.most_workers,
        output=request.output,
        keys=keys,
        ttl=request.run_policy.ttl,
    )
    target = (
        request.output_target.provider.mounted_claim()
        if isinstance(request, TrainRequest) and request.output_target
        else None
    )
    if target is None:
        return layout
    # An output on a claim needs no upload: the job writes there.
    claim = Volume(name=OUTPUT_VOLUME, source=ExistingClaim(claim=target.claim))
    return attrs.evolve(layout, output=claim, output_folder=target.folder)


def document_of(slot: str, plugin: Origin, provider: attrs.AttrsInstance) -> wire.WireDocument:
    """Return the part of a provider that is sent to its container."""
    return wire.WireDocument(
        kind=kind_of_slot(slot),
        provider=plugin.name,
        distribution=plugin.dist,
        version=plugin.version,
        params=wire.unstructure(provider, slot),
    )


def _fetch(request: TrainRequest, slot: str, layout: VolumeLayout) -> ContainerSpec:
    selected = request.sources[slot]
    mount = (
        _prepared_mount(layout)
        if layout.read_only_inputs
        else Mount(volume=layout.inputs.name, path=WORKSPACE, sub_path=layout.folder_of(slot))
    )
    defaults = ContainerSpec(
        name=environment.fetch_container(slot),
        image=selected.provider.image or images.storage(),
        command=(*LAUNCHER, "fetch", slot),
        env={**_prepared_env(request, layout), **request.init_env, **secret_env(selected.provider)},
        mounts=(mount,),
    )
    return _shaped(selected.plugin, selected.provider.init_container, defaults)


def _trainer(request: TrainRequest, layout: VolumeLayout) -> ContainerSpec:
    trainer = request.trainer.provider
    gpus = request.resources_per_worker.gpu
    defaults = ContainerSpec(
        name=MAIN_STEP,
        image=request.image or trainer.image or images.trainer(gpus=gpus),
        command=(*LAUNCHER, "run", "--", *TORCHRUN, *TRAIN),
        env={
            **_run_env(request),
            **_prepared_env(request, layout),
            **upload_env(request, layout),
            **request.env,
            **_main_secrets(request),
        },
        resources=request.resources_per_worker,
        mounts=(*_input_mounts(request, layout), _output_mount(layout)),
    )
    made = _shaped(request.trainer.plugin, trainer.container, defaults)
    refuse_lost_output(request, made)
    return made


def _main_secrets(request: TrainRequest) -> dict[str, SecretRef | SecretValue]:
    """Return the secrets of the trainer and of the upload, which both run in the main container."""
    trainer, target = request.trainer.provider, request.output_target
    own, uploads = secret_env(trainer), secret_env(target.provider) if target else {}
    if clash := [name for name in own if name in uploads and own[name] != uploads[name]]:
        problem = f"gives {clash[0]} a different value from the trainer's, but both run in one container"
        raise RequestError(problem, field="output", remedy="Give the same credential to both.")
    return own | uploads


def _output_document(request: TrainRequest) -> dict[str, str]:
    if (target := uploaded_target(request)) is None:
        return {}
    return {f"{OUTPUT_SLOT}.json": document_of(OUTPUT_SLOT, target.plugin, target.provider).dumps()}


def _job_document(request: Request) -> dict[str, str]:
    # In the user's order, which decides the order of variables.
    return {JOB_FILE: json.dumps(job_document(request), ensure_ascii=False, separators=(",", ":"))}


def _check(request: TrainRequest, main: ContainerSpec) -> ContainerSpec:
    """Return the last init container: the trainer's image and folders without a GPU, so bad input never reaches the ranks."""
    return attrs.evolve(
        main, name="check", command=(*LAUNCHER, "check"), resources=None, env={**request.init_env, **main.env}
    )


def _input_mounts(request: TrainRequest, layout: VolumeLayout) -> tuple[Mount, ...]:
    """Mount each input by itself and read-only: a trainer cannot damage what other jobs share."""
    found = {slot: s.provider.mounted_claim() for slot, s in request.sources.items()}
    mounts = [_slot_mount(slot, claim, layout) for slot, claim in found.items()]
    return tuple(dict.fromkeys(mounts))


def _slot_mount(slot: str, existing: ClaimFolder | None, layout: VolumeLayout) -> Mount:
    path = f"{WORKSPACE}/{slot}"
    if existing is not None:
        return Mount(volume=_claim_volume(slot), path=path, sub_path=existing.folder, read_only=True)
    if layout.read_only_inputs:
        return _prepared_mount(layout)
    return Mount(volume=layout.inputs.name, path=path, sub_path=layout.path_of(slot), read_only=True)


def _prepared_mount(layout: VolumeLayout) -> Mount:
    """Mount the volume as a whole: a kubelet waits forever for a folder that a read-only volume lacks."""
    return Mount(volume=layout.inputs.name, path=PREPARED, read_only=True)


def _prepared_env(request: TrainRequest, layout: VolumeLayout) -> dict[str, str]:
    """Return the variables that say where the inputs are on a volume that was filled before."""
    if not layout.read_only_inputs:
        return {}
    fetched = [slot for slot, s in request.sources.items() if s.provider.mounted_claim() is None]
    return {environment.slot_variable(slot): f"{PREPARED}/{layout.path_of(slot)}" for slot in fetched}


def _output_mount(layout: VolumeLayout) -> Mount:
    return Mount(volume=layout.output.name, path=f"{WORKSPACE}/{OUTPUT_SLOT}", sub_path=layout.output_folder)


def _claims(request: TrainRequest) -> tuple[Volume, ...]:
    found = {slot: s.provider.mounted_claim() for slot, s in request.sources.items()}
    return tuple(
        Volume(name=_claim_volume(slot), source=ExistingClaim(claim=folder.claim, read_only=True))
        for slot, folder in found.items()
        if folder is not None
    )


def _claim_volume(slot: str) -> str:
    return f"source-{slot.replace('_', '-')}"


def _run_env(request: Request) -> dict[str, str]:
    env = {environment.MAX_RESTARTS: str(request.run_policy.max_restarts)}
    if (deadline := request.run_policy.deadline) is not None:
        env[environment.DEADLINE] = str(deadline)
    if request.output is not None:
        env[environment.OUTPUT] = request.output
    if not request.elastic:
        env[environment.WORLD_SIZE] = str(request.num_workers * request.processes)
    if request.most_workers > 1:
        env |= _OWN_STORE
    return env


def _code_command(request: CodeRequest) -> tuple[str, ...]:
    if request.code:
        entry = next(iter(request.code))
        return (
            *RUNNER,
            "--",
            *TORCHRUN,
            f"$({environment.CONFIG})/{literal(entry)}",
            *map(literal, request.arguments),
        )
    # An image's own entry point is unknown here, so nothing can wrap it.
    return (*RUNNER, "--", *request.command) if request.command else ()


def _shaped(plugin: Origin, shape: Callable[[ContainerSpec], ContainerSpec], defaults: ContainerSpec) -> ContainerSpec:
    """Return the container as the provider's method shapes it.

    Raises:
        TunewrightError: the provider refuses the request.
        PluginError: the method fails otherwise, or returns something else.
    """
    method = f"{shape.__name__}()"
    with plugin_code(plugin.name, plugin.dist, method):
        spec: object = shape(defaults)
    if not isinstance(spec, ContainerSpec):
        problem = f"a {type(spec).__name__}, not a ContainerSpec"
    elif wrong := container_problem(spec):
        problem = f"a container that no cluster accepts: {wrong}"
    else:
        return spec
    problem = f"its {method} returned {problem}"
    message = (
        f"Plugin {plugin.name!r} violates the plugin contract: {problem}. Report it to the author of {plugin.dist}."
    )
    raise PluginError(message, name=plugin.name, dist=plugin.dist)


def _key_of(document: wire.WireDocument) -> str:
    """Return the folder of a shared input, named by what is fetched, so that jobs with the same input share it."""
    return document.request_digest()[:16]
