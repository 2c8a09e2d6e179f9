"""The Python API: `TrainingClient`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Literal, Unpack, overload

import attrs

from tunewright._client.job import Job
from tunewright._client.job_list import JobList
from tunewright._client.options import CodeOptions, JobOptions, TrainOptions, refuse_unknown
from tunewright._client.planning import plan_for
from tunewright._doing import doing
from tunewright._planning import selection, spellings
from tunewright._planning.mixture import select_datasets, with_provider_options
from tunewright._signatures import documented
from tunewright._views.waiting import told_in_notebook
from tunewright.backends.base import BackendOptions
from tunewright.errors import RequestError, did_you_mean, plugin_code
from tunewright.events import Event
from tunewright.plan.manifests import Manifests
from tunewright.plan.policies import RunPolicy, Scheduling
from tunewright.plugins.registry import Registry
from tunewright.request._validate import texts
from tunewright.request.code import folder_files, function_files, script_files
from tunewright.request.libraries import refuse_missing
from tunewright.request.raw import raw_manifest
from tunewright.request.request import CodeRequest, Request, TrainRequest, generated_name, with_policies
from tunewright.request.update import JobUpdate, UpdateOptions
from tunewright.status.state import JobState
from tunewright.status.status import JobCondition, JobPod, JobStatus

# Their keywords come from the user: the converters and validators of attrs check them.
_train_request: Callable[..., TrainRequest] = TrainRequest
_code_request: Callable[..., CodeRequest] = CodeRequest


class TrainingClient:
    """Train models on Kubernetes, or on this machine.

    Args:
        backend: the name of a backend plugin: "kubernetes" or "local".
        namespace: the Kubernetes namespace; None for the context's.
        config_file: the path of a kubeconfig; None for the default locations.
        context: the context in the kubeconfig; None for the current one.
        kind: of jobs on Kubernetes: "pytorchjob", "trainjob" or "job"; None for the first that the cluster can run.
        registry: the plugins to use; None for all that are installed.
    """

    def __init__(
        self,
        backend: str = "kubernetes",
        *,
        namespace: str | None = None,
        config_file: str | None = None,
        context: str | None = None,
        kind: str | None = None,
        registry: Registry | None = None,
    ) -> None:
        self.registry = registry or Registry()
        options = BackendOptions(namespace=namespace, config_file=config_file, context=context, kind=kind)
        self.backend = self.registry.get(backend, kind="backend").provider("backend").connect(options)

    @overload
    def train(self, *arguments: object, dry_run: Literal[True], **options: Unpack[TrainOptions]) -> Manifests: ...
    @overload
    def train(self, *arguments: object, dry_run: Literal[False] = False, **options: Unpack[TrainOptions]) -> Job: ...
    @overload
    def train(self, *arguments: object, dry_run: bool, **options: Unpack[TrainOptions]) -> Job | Manifests: ...
    @documented(
        TrainOptions,
        *(TrainRequest, Scheduling, RunPolicy),
        shared=JobOptions,
        required=("model", "dataset", "trainer"),
        more=True,
    )
    def train(self, *arguments: object, dry_run: bool = False, **options: object) -> Job | Manifests:
        """Fine-tune a model on a dataset.

            client.train(model="hf://org/name", dataset="s3://bucket/prefix", trainer="hf", num_workers=2)

        Args:
            arguments: the job's name and KEP-2003's arguments, by position; either may be left out.
            dry_run: return the manifests instead of creating anything.
            options: the same arguments by the names that KEP-2003 and kubeflow-training 1.9 have for them.

        Returns:
            The job, or its manifests with `dry_run`.

        Raises:
            RequestError: bad input; nothing was created.
            PluginError: a plugin is missing or broken; nothing was created.
            JobError: the backend refused the job; nothing is left behind.
        """
        with told_in_notebook(), spellings.as_written(options, spellings.TRAIN):
            return self._start(self.train_request(*arguments, dry_run=dry_run, **options), dry_run=dry_run)

    @overload
    def create_job(
        self, name: str | None = None, *, dry_run: Literal[True], **options: Unpack[CodeOptions]
    ) -> Manifests: ...
    @overload
    def create_job(
        self, name: str | None = None, *, dry_run: Literal[False] = False, **options: Unpack[CodeOptions]
    ) -> Job: ...
    @overload
    def create_job(
        self, name: str | None = None, *, dry_run: bool, **options: Unpack[CodeOptions]
    ) -> Job | Manifests: ...
    @documented(CodeOptions, CodeRequest, Scheduling, RunPolicy, shared=JobOptions, more=True)
    def create_job(self, name: str | None = None, *, dry_run: bool = False, **options: object) -> Job | Manifests:
        """Run your own code under torchrun, an image that starts itself, or a job whose manifest you wrote.

            client.create_job(train_func=train, parameters={"lr": 1e-3}, num_workers=2, packages_to_install=["einops"])

        Give one of `train_func`, `script`, `base_image` by itself, and `manifest`.

        Args:
            name: the job's name; generated if left out.
            dry_run: return the manifests instead of creating anything.
            options: the same arguments by the names that kubeflow-training 1.9 has for them, and `job` for `manifest`.

        Returns:
            The job, or its manifests with `dry_run`.

        Raises:
            RequestError: bad input; nothing was created.
            PluginError: a plugin is missing or broken; nothing was created.
            JobError: the backend refused the job; nothing is left behind.
        """
        with told_in_notebook(), spellings.as_written(options, spellings.CREATE_JOB):
            if _has_manifest(options):
                return self._start_raw(name, spellings.create_job_keywords(options), dry_run=dry_run)
            return self._start(self.code_request(name, **options), dry_run=dry_run)

    def train_request(self, *arguments: object, dry_run: bool = False, **options: object) -> TrainRequest:
        """Return the checked request that `train()` makes of its arguments; see there."""
        with spellings.as_written(options, spellings.TRAIN):
            given = spellings.train_keywords(arguments, options)
            refuse_unknown(given, TrainOptions)
            folder = given.pop("base_folder", None) or Path.cwd()
            base = Path(str(folder)) if dry_run or self.backend.shares_client_filesystem else None
            return self._train_request(given, base)

    def _train_request(self, given: dict[str, object], base: Path | None) -> TrainRequest:
        name = given.pop("name", None)
        doing("loading the plugins of the trainer, the model and the dataset")
        trainer = selection.select_trainer(self.registry, given.pop("trainer", None))
        model, dataset, evaluation = (given.pop(slot, None) for slot in ("model", "dataset", "eval_dataset"))
        for field, value in (("model", model), ("dataset", dataset)):
            if value is None:
                remedy = 'Give a URI such as "hf://org/name" or "s3://bucket/prefix", or a path such as "./folder".'
                raise RequestError("is missing", field=field, remedy=remedy)
        chosen, parts = select_datasets(self.registry, dataset, base)
        own = selection.select_eval_dataset(chosen) if chosen else None
        if own and evaluation is not None:
            problem = "is given both to train() and to the dataset's provider"
            raise RequestError(problem, field="eval_dataset", remedy="Give one of them.")
        target = selection.select_output(self.registry, given.pop("output", None), base)
        source = selection.select_model(self.registry, model, base)
        adapter = given.pop("adapter", None)
        own_adapter = None if adapter is None else selection.select_model(self.registry, adapter, base, "adapter")
        if evaluation is not None:
            own = selection.select_dataset(self.registry, evaluation, base, "eval_dataset")
        methods = "for_model(), for_adapter(), for_datasets() or for_part()"
        with plugin_code(trainer.plugin.name, trainer.plugin.dist, methods):
            told = trainer.provider.for_model(source.provider)
            told = (told.for_adapter(own_adapter.provider) if own_adapter else told).for_datasets(
                chosen.provider if chosen else None, own.provider if own else None
            )
            mixture = with_provider_options(told, parts)
        request = _train_request(
            name=generated_name("train") if name is None else name,
            model=source,
            adapter=own_adapter,
            dataset=chosen and attrs.evolve(chosen, provider=attrs.evolve(chosen.provider, eval_dataset=None)),
            mixture=mixture,
            eval_dataset=own,
            trainer=attrs.evolve(trainer, provider=told),
            output=None if target is None else target.provider.uri,
            output_target=target,
            upload_checkpoints=given.pop("upload_checkpoints", None),
            always=self.registry.always(),
            **with_policies(_given(given)),
        )
        if mixture:
            with plugin_code(trainer.plugin.name, trainer.plugin.dist, "check_mixture()"):
                told.check_mixture([resolved.part for resolved in mixture])
        return request

    def code_request(self, name: str | None = None, **options: object) -> CodeRequest:
        """Return the checked request that `create_job()` makes of its arguments; there is none for a manifest."""
        with spellings.as_written(options, spellings.CREATE_JOB):
            given = spellings.create_job_keywords(options)
            refuse_unknown(given, CodeOptions)
            if given.pop("manifest", None) is not None:
                remedy = "Show what would be created: tunewright train JOB_FILE --dry-run"
                raise RequestError("is submitted as it is, without a request", field="manifest", remedy=remedy)
            code, command, arguments = _code(given)
            image = _image(given)
        with spellings.as_written(options, {**spellings.CREATE_JOB, "base_image": "image"}):
            return _code_request(
                name=generated_name("job") if name is None else name,
                code=code,
                command=command,
                arguments=arguments,
                image=image,
                packages_to_install=given.pop("packages_to_install", None),
                pip_index_url=given.pop("pip_index_url", None),
                always=self.registry.always(),
                **with_policies(_given(given)),
            )

    def _start_raw(self, name: str | None, given: dict[str, object], *, dry_run: bool) -> Job | Manifests:
        manifest = raw_manifest(name, given.pop("manifest"), given)
        if dry_run:
            return self.backend.render_raw(manifest)
        doing(f"submitting {manifest.name}")
        self.backend.submit_raw(manifest)
        return Job(manifest.name, self.backend)

    def _start(self, request: Request, *, dry_run: bool) -> Job | Manifests:
        if isinstance(request, TrainRequest) and self.backend.shares_client_filesystem:
            doing("checking the model and the dataset")
            request.check_local_inputs()
            if not dry_run:
                refuse_missing(request.missing_libraries())
        plan = plan_for(self.backend, request)
        if dry_run:
            return self.backend.render(plan)
        doing(f"submitting {plan.name}")
        self.backend.submit(plan)
        return Job(plan.name, self.backend)

    def get_job(self, name: str) -> Job:
        """Return the job of that name.

        Raises:
            JobError: there is no such job.
        """
        self.backend.get(name)
        return Job(name, self.backend)

    def list_jobs(self, labels: Mapping[str, str] | None = None, *, all_namespaces: bool = False) -> JobList:
        """Return all jobs, newest first; with `labels`, those that have all of them; `all_namespaces` of the cluster, or one."""
        found = self.backend.list_everywhere(labels) if all_namespaces else self.backend.list(labels)
        return JobList(Job(s.name, self.backend.at(s.namespace) if all_namespaces else self.backend) for s in found)

    def get_job_logs(
        self, name: str, *, follow: bool = False, container: str | None = None, worker: int | None = None
    ) -> Iterator[str]:
        """Iterate over the log of a job, without its events."""
        return self.get_job(name).logs(follow=follow, container=container, worker=worker)

    def get_job_pods(self, name: str) -> list[JobPod]:
        """Return the pods of a job, by worker; none if its workers are not pods."""
        return self.backend.pods(name)

    def get_job_events(self, name: str, *, follow: bool = False) -> Iterator[Event]:
        """Iterate over the events of a job."""
        return self.get_job(name).events(follow=follow)

    def get_job_conditions(self, name: str) -> list[JobCondition]:
        """Return the states that a job has been in, oldest first, with their times."""
        return list(self.backend.record(name).conditions)

    def wait_for_job_conditions(
        self,
        name: str,
        expected_conditions: Collection[str] = (JobState.SUCCEEDED,),
        *,
        wait_timeout: float = 600,
        callback: Callable[[JobStatus], None] | None = None,
    ) -> JobStatus:
        """Wait until a job is in one of the states; see `Job.wait`."""
        states = _states(expected_conditions)
        return self.get_job(name).wait(states, timeout=wait_timeout, callback=callback)

    def is_job_created(self, name: str) -> bool:
        """Return whether the job is Created."""
        return self.get_job(name).state is JobState.CREATED

    def is_job_running(self, name: str) -> bool:
        """Return whether the job is Running."""
        return self.get_job(name).state is JobState.RUNNING

    def is_job_restarting(self, name: str) -> bool:
        """Return whether the job is Restarting."""
        return self.get_job(name).state is JobState.RESTARTING

    def is_job_succeeded(self, name: str) -> bool:
        """Return whether the job has Succeeded."""
        return self.get_job(name).state is JobState.SUCCEEDED

    def is_job_failed(self, name: str) -> bool:
        """Return whether the job has Failed."""
        return self.get_job(name).state is JobState.FAILED

    @documented(UpdateOptions, JobUpdate)
    def update_job(self, name: str, **options: Unpack[UpdateOptions]) -> None:
        """Change a submitted job: its labels, annotations and ttl at any time, the rest while it is suspended.

            client.update_job("llama-sft", labels={"team": "b", "old": None}, ttl=3600)

        Args:
            name: the job's name.
            options: what to change.

        Raises:
            RequestError: something cannot be changed, or a value is wrong.
            JobError: there is no such job, or it is too late to change that.
        """
        self.get_job(name).update(**options)

    def suspend_job(self, name: str) -> None:
        """Stop the processes of a job and keep its files."""
        self.get_job(name).suspend()

    def resume_job(self, name: str) -> None:
        """Start a suspended or interrupted job again."""
        self.get_job(name).resume()

    def delete_job(self, name: str, *, with_result: bool = False) -> None:
        """Stop a job and delete it with everything that it owns, also if a client died while submitting it; see `Job.delete`."""
        Job(name, self.backend).delete(with_result=with_result)


def _code(given: dict[str, object]) -> tuple[dict[str, str], tuple[str, ...], tuple[str, ...]]:
    """Return what a code job runs: files, a command, and arguments."""
    train_func, script, parameters = (given.pop(k, None) for k in ("train_func", "script", "parameters"))
    folder = given.pop("script_folder", None)
    command = texts(given.pop("command", None), "command", '["./start", "--fast"]')
    arguments = texts(given.pop("args", None), "args", '["--lr", "1e-3"]')
    if train_func is not None and script is not None:
        raise RequestError("cannot be given with script", field="train_func", remedy="Give one of them.")
    if parameters is not None and train_func is None:
        remedy = "Give args=[…] to a script or an image."
        raise RequestError("are arguments of a function", field="parameters", remedy=remedy)
    if folder is not None and script is None:
        remedy = "Give script=, the file in it to run."
        raise RequestError("is shipped with a script, but there is none", field="script_folder", remedy=remedy)
    if command and (train_func is not None or script is not None):
        remedy = "Leave it out, or give only base_image=."
        raise RequestError("is for an image that starts itself", field="command", remedy=remedy)
    if train_func is not None:
        if arguments:
            remedy = "Give parameters={…} to a function."
            raise RequestError("are arguments of a script or an image", field="args", remedy=remedy)
        return function_files(train_func, parameters), (), ()  # type: ignore[arg-type]
    if script is not None:
        files = script_files(script) if folder is None else folder_files(script, folder)  # type: ignore[arg-type]
        return files, (), arguments
    if given.get("base_image") is None:
        remedy = "Give train_func=, script=, base_image= or manifest=."
        raise RequestError("has nothing to run", field="create_job()", remedy=remedy)
    if arguments and not command:
        remedy = "Give command=[…] too: the image's own entry point is not known here."
        raise RequestError("are arguments of a program", field="args", remedy=remedy)
    return {}, (*command, *arguments), ()


def _has_manifest(options: Mapping[str, object]) -> bool:
    return options.get("manifest") is not None or options.get("job") is not None


def _image(given: dict[str, object]) -> object:
    base_image, image = given.pop("base_image", None), given.pop("image", None)
    if base_image is not None and image is not None:
        raise RequestError(
            "means the same as base_image, and both are given", field="image", remedy="Give one of them."
        )
    return image if base_image is None else base_image


def _states(conditions: Collection[str]) -> tuple[JobState, ...]:
    known = [str(state) for state in JobState]
    given = (conditions,) if isinstance(conditions, str) else tuple(conditions)
    for state in given:
        if state not in known:
            remedy = did_you_mean(str(state), known)
            raise RequestError("is not a state of a job", field="expected_conditions", value=state, remedy=remedy)
    return tuple(JobState(state) for state in given)


def _given(given: Mapping[str, object]) -> Mapping[str, object]:
    # None means "not given" everywhere, so that callers need not build their keywords conditionally.
    return {k: v for k, v in given.items() if v is not None}
