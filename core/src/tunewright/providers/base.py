"""The abstract providers: what a plugin's classes derive from.

A provider is one frozen attrs class. Its fields are what the user passes; its client half shapes a container; its
container half does the work there and imports heavy libraries inside its methods. This is a complete plugin, module
`tunewright_acme.py` of a distribution `tunewright-acme`:

    from pathlib import Path

    import attrs
    from tunewright import DatasetProvider, FetchError, ExitCode, SecretRef, hookimpl, secret


    @attrs.frozen(kw_only=True)
    class AcmeDataset(DatasetProvider):
        token: str | SecretRef | None = secret(env="ACME_TOKEN")
        version: int = 1

        def download_dataset(self, target: Path) -> None:
            import acme  # the container's library: declared in the distribution's extra

            acme.download(self.uri.removeprefix("acme://"), version=self.version, token=self.token, folder=target)


    @hookimpl
    def tunewright_dataset_provider() -> type[DatasetProvider]:
        return AcmeDataset

and in its pyproject.toml:

    [project.entry-points."tunewright.v1"]
    acme = "tunewright_acme"

After `pip install tunewright-acme`, `dataset="acme://sales"` works, on a laptop and on a cluster.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import attrs

from tunewright.errors import RequestError
from tunewright.events import Event, Json
from tunewright.providers.fields import one_of
from tunewright.providers.uris import uri_scheme

if TYPE_CHECKING:
    from tunewright.plan.plan import ContainerSpec


@attrs.frozen(kw_only=True)
class Provider(ABC):  # noqa: B024 - abstract through its subclasses
    """What all providers have.

    Class attributes that a plugin may set:
        image: a pinned image that holds the launcher and this plugin. None: the default image of the step, into which
            the plugin's distribution is pip-installed when the pod starts.
        extra: the extra of the plugin's distribution that the container half needs ("fetch"), for that installation.
    """

    image: ClassVar[str | None] = None
    extra: ClassVar[str | None] = None

    @classmethod
    def load_config(cls, params: Mapping[str, Json], secrets: Mapping[str, str]) -> Self:
        """Rebuild the provider in the container, from the wire's params; called there only.

        Args:
            params: the fields that were given, without secrets, as JSON values.
            secrets: the container's environment, from which each `secret(env=…)` field takes its variable.

        Raises:
            RequestError: a field is unknown or has the wrong type.
        """
        from tunewright.providers.wire import structure

        return structure(cls, params, secrets)


@attrs.frozen(kw_only=True)
class ClaimFolder:
    """A folder of a PersistentVolumeClaim that exists."""

    claim: str
    folder: str = ""


@attrs.frozen(kw_only=True)
class SourceProvider(Provider):
    """What model and dataset providers share.

    Attributes:
        uri: what to fetch, as the user wrote it. Its scheme is the plugin's name.
        policy: "IfNotPresent" uses what a volume holds of the same request without asking anybody; "Always" asks the
            source at each start, and fetches again what has changed.
        verify: how what a volume holds is looked at before it is used: by "size", or in "full", by its contents.
    """

    uri: str = attrs.field()
    policy: str = attrs.field(default="IfNotPresent", validator=one_of("IfNotPresent", "Always"))
    verify: str = attrs.field(default="size", validator=one_of("size", "full"))

    @uri.validator
    def _check_uri(self, attribute: attrs.Attribute[str], value: object) -> None:
        remedy = "Write it as scheme://…, for example hf://org/name or s3://bucket/prefix."
        if not isinstance(value, str) or uri_scheme(value) is None:
            raise RequestError(
                "is not a URI", field=f"{type(self).__name__}.{attribute.name}", value=value, remedy=remedy
            )

    def init_container(self, defaults: ContainerSpec) -> ContainerSpec:
        """The client half: shape the init container that fetches.

        Args:
            defaults: complete: `python -m tunewright_launcher fetch <slot>`, image, mounts, and this provider's
                secrets in the environment. Return it, or `attrs.evolve(defaults, …)`.
        """
        return defaults

    def mounted_claim(self) -> ClaimFolder | None:
        """Where the files lie already on a volume of the cluster: it is mounted, and nothing is fetched."""
        return None

    def local_path(self) -> Path | None:
        """Where the source lies on this very machine, if it does: what can be checked there is checked before submit."""
        return None


@attrs.frozen(kw_only=True)
class ModelProvider(SourceProvider):
    """Brings a model's files into a folder."""

    @abstractmethod
    def download_model(self, target: Path) -> None:
        """The container half: write the model's files into `target`, an empty folder that exists.

        The launcher stages, verifies and commits around it: a failure leaves nothing behind, and what was committed
        before is not fetched again.

        Raises:
            FetchError: with the exit code that fits; UNAVAILABLE and TRY_AGAIN are tried again. Any other exception
                ends the job with its message.
        """


@attrs.frozen(kw_only=True)
class DatasetProvider(SourceProvider):
    """Brings a dataset's files into a folder.

    Attributes:
        eval_dataset: URI of the dataset to evaluate on, fetched by the same provider with the same credentials.
    """

    eval_dataset: str | None = None

    @abstractmethod
    def download_dataset(self, target: Path) -> None:
        """The container half: write the dataset's files into `target`; as `ModelProvider.download_model`."""


@attrs.frozen(kw_only=True)
class TrainRun:
    """What a trainer gets on every rank.

    Attributes:
        model: the model's folder, read-only; None if the job has none.
        dataset: the dataset's folder, read-only; None if the job has none.
        eval_dataset: the evaluation dataset's folder, read-only; None if the job has none.
        output: the output folder, the same for all ranks of a pod. Checkpoints go to `checkpoints`, the result to
            `result`.
        rank: this process among all, 0 to world_size - 1.
        local_rank: this process within its pod.
        world_size: processes in the job.
        resume_from: the newest complete checkpoint, or None for a fresh start.
        emit: sends an event to the client.
    """

    model: Path | None = None
    dataset: Path | None = None
    eval_dataset: Path | None = None
    output: Path
    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    resume_from: Path | None = None
    emit: Callable[[Event], None]

    @property
    def checkpoints(self) -> Path:
        """Folder of the folders `checkpoint-<step>`; one counts once `mark_checkpoint` was called on it."""
        return self.output / "checkpoints"

    @property
    def result(self) -> Path:
        """Folder of the finished model: what is uploaded, and what the user is shown."""
        return self.output / "model"


@attrs.frozen(kw_only=True)
class Preview:
    """A sample as a trainer sees it.

    Attributes:
        pieces: its text in pieces, each with whether it is learnt.
        tokens: tokens in the sample.
        learnt: those of them that are learnt.
        cut: tokens that were cut off because the sample was too long.
    """

    pieces: tuple[tuple[str, bool], ...]
    tokens: int
    learnt: int
    cut: int = 0


@attrs.frozen(kw_only=True)
class TrainerProvider(Provider):
    """Trains a model on a dataset: `train` runs on every rank, under torchrun."""

    def container(self, defaults: ContainerSpec) -> ContainerSpec:
        """The client half: shape the main container; as `SourceProvider.init_container`.

        `defaults.command` is `python -m tunewright_launcher run -- torchrun --max-restarts=0 -m tunewright_launcher
        train`. A trainer with an entry point of its own names another torchrun target in its place.
        """
        return defaults

    def for_model(self, model: ModelProvider) -> Self:  # noqa: ARG002 - for those that do
        """This trainer, with what the model's provider was told about the model beyond where its files lie.

        Called on the client, once, before anything else is asked of the trainer. A trainer takes up the fields of those
        providers that it knows.

        Raises:
            RequestError: the provider was told something else than the trainer.
        """
        return self

    def check_inputs(self, *, model: Path | None, dataset: Path | None, eval_dataset: Path | None) -> None:
        """Refuse inputs that cannot be trained on. Quick, and without heavy libraries: it may run on the client.

        Called on the client for those inputs that lie on its machine, with None for the others, and in an init
        container for all of them.

        Raises:
            RequestError: naming the field, the value and the remedy.
        """

    def check(self, run: TrainRun) -> None:
        """Everything that can be refused before the ranks start; runs once, in an init container with this trainer's image.

        Raises:
            RequestError: naming the field, the value and the remedy.
        """
        self.check_inputs(model=run.model, dataset=run.dataset, eval_dataset=run.eval_dataset)

    def preview(self, run: TrainRun) -> Iterator[Preview]:  # noqa: ARG002 - for those that do
        """What the trainer makes of the dataset, sample by sample, for `tunewright preview`; runs on the client's machine.

        Raises:
            RequestError: the inputs do not allow it, or the trainer shows nothing.
        """
        remedy = "Ask its author to implement TrainerProvider.preview()."
        raise RequestError("shows no samples", field="trainer", value=type(self).__name__, remedy=remedy)

    @abstractmethod
    def train(self, run: TrainRun) -> None:
        """The container half, on every rank: train, keep checkpoints, and leave the model in `run.result`.

        Raises:
            RequestError, FetchError: final; the job fails with the message. Any other exception: the workers are
                started again from the newest complete checkpoint, at most `max_restarts` times.
        """


def uris_of(provider: SourceProvider) -> list[tuple[str, str]]:
    """A provider's own URI and, where it has one, its `eval_dataset`, each with the field's name for messages."""
    given = ((name, getattr(provider, name, None)) for name in ("uri", "eval_dataset"))
    return [(f"{type(provider).__name__}.{name}", uri) for name, uri in given if uri is not None]
