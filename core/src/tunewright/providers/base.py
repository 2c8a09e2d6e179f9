"""The abstract base classes of a plugin's providers.

A provider is a frozen attrs class. Its fields are the arguments that the user passes. Its client half shapes a container
of the job; its container half does the work in that container, and imports heavy libraries inside its methods.

This is a complete plugin, the module `tunewright_acme.py` of a distribution `tunewright-acme`:

    from pathlib import Path

    import attrs
    from tunewright import DatasetProvider, FetchError, ExitCode, SecretRef, hookimpl, secret


    @attrs.frozen(kw_only=True)
    class AcmeDataset(DatasetProvider):
        token: str | SecretRef | None = secret(env="ACME_TOKEN")
        version: int = 1

        def download_dataset(self, target: Path) -> None:
            import acme  # a library for the container: declared in an extra of the distribution

            acme.download(self.uri.removeprefix("acme://"), version=self.version, token=self.token, folder=target)


    @hookimpl
    def tunewright_dataset_provider() -> type[DatasetProvider]:
        return AcmeDataset

with this entry point in its pyproject.toml:

    [project.entry-points."tunewright.v1"]
    acme = "tunewright_acme"

After `pip install tunewright-acme`, `dataset="acme://sales"` works.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import attrs

from tunewright._convert import to_dict
from tunewright.errors import RequestError
from tunewright.events import Event, Json
from tunewright.providers.fields import one_of
from tunewright.providers.mixture import MixturePart
from tunewright.providers.preview import Preview
from tunewright.providers.trained import UsableResult
from tunewright.providers.uris import uri_scheme
from tunewright.runner.checkpoints import CHECKPOINTS

if TYPE_CHECKING:
    from tunewright.plan.plan import ContainerSpec


@attrs.frozen(kw_only=True)
class Provider(ABC):  # noqa: B024 - abstract through its subclasses
    """Base class of all providers. Derive from one of its subclasses instead.

    Class attributes:
        image: a pinned image that contains the launcher and this plugin. None uses the default image of the step, and
            installs the plugin's distribution into it with pip when the pod starts: the very build that the client has.
        extra: the extra of the plugin's distribution that the container half requires, such as "fetch". It is installed
            together with the distribution. None if there is none.
    """

    image: ClassVar[str | None] = None
    extra: ClassVar[str | None] = None

    @classmethod
    def load_config(cls, params: Mapping[str, Json], secrets: Mapping[str, str]) -> Self:
        """Rebuild the provider from its JSON parameters. Called only in the container.

        Args:
            params: the fields that differ from their defaults, without secrets, as JSON values.
            secrets: the environment of the container, which holds the variable of each `secret(env=…)` field.

        Returns:
            A provider equal to the one on the client, with its secrets as strings.

        Raises:
            RequestError: a field is unknown, missing or has the wrong type.
        """
        from tunewright.providers.wire import structure

        return structure(cls, params, secrets)


@attrs.frozen(kw_only=True)
class ClaimFolder:
    """A folder on an existing PersistentVolumeClaim.

    Attributes:
        claim: name of the claim.
        folder: path of the folder within the volume; "" for all of the volume.
    """

    claim: str
    folder: str = ""


@attrs.frozen(kw_only=True)
class SourceProvider(Provider):
    """Base class of model and dataset providers.

    Attributes:
        uri: URI of the files to fetch, as the user wrote it. Its scheme is the plugin's name.
        policy: when to contact the source. "IfNotPresent" uses the files of an earlier, equal request that are already on
            the volume, without contacting the source. "Always" contacts the source at every start, and fetches files that
            have changed.
        verify: how to check files that are already on the volume before they are used: "size" compares their sizes,
            "full" also their contents.
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
        """Shape the init container that fetches the files. Called on the client.

        Args:
            defaults: a complete container: the command `python -m tunewright_launcher fetch <slot>`, the image, the
                mounts, and this provider's secrets in the environment.

        Returns:
            `defaults`, or a changed copy: `attrs.evolve(defaults, …)`.
        """
        return defaults

    def mounted_claim(self) -> ClaimFolder | None:
        """Return the claim that already holds the files. It is mounted, and nothing is fetched. None to fetch them."""
        return None

    def current_version(self) -> str | None:
        """Return what identifies the files that a source without snapshots has now; None, if jobs must not share them."""
        return None

    def local_path(self) -> Path | None:
        """Return the path of the source on this machine, which is checked before submission; None if it is elsewhere."""
        return None


@attrs.frozen(kw_only=True)
class ModelProvider(SourceProvider):
    """Base class of providers that fetch models."""

    @abstractmethod
    def download_model(self, target: Path) -> None:
        """Write the model's files into a folder. Called in the init container.

        The launcher verifies the files and moves them into place once this method returns. A failure leaves nothing
        behind, and files already in place are not fetched again.

        Args:
            target: an existing, empty folder.

        Raises:
            FetchError: the files could not be fetched. Its `code` says what happens next: UNAVAILABLE and TRY_AGAIN are
                retried, all others end the job. Any other exception ends the job, too, with its message.
        """


@attrs.frozen(kw_only=True)
class DatasetProvider(SourceProvider):
    """Base class of providers that fetch datasets.

    Attributes:
        eval_dataset: URI of the dataset to evaluate on, fetched by the same provider with the same credentials.
            None for no such dataset.
    """

    eval_dataset: str | None = None

    @abstractmethod
    def download_dataset(self, target: Path) -> None:
        """Write the dataset's files into a folder. Called in the init container, like `ModelProvider.download_model`.

        Args:
            target: an existing, empty folder.

        Raises:
            FetchError: the files could not be fetched; see `ModelProvider.download_model`.
        """


@attrs.frozen(kw_only=True)
class TrainRun:
    """The inputs of `TrainerProvider.train` on each rank.

    Attributes:
        model: read-only folder of the model; None if the job has none.
        adapter: read-only folder of an adapter of the model, to continue training from; None if the job has none.
        dataset: read-only folder of the dataset; None if the job has none, or a mixture.
        mixture: the datasets of a mixture, with their folders; empty for a single dataset.
        eval_dataset: read-only folder of the evaluation dataset; None if the job has none.
        uris: URI of each input, as the user wrote it, by the name of its folder: "model", "adapter", "dataset", "dataset_1", …
        output: the output folder, shared by all ranks of a pod. Write checkpoints to `checkpoints`, and the finished
            model to `result`.
        rank: rank of this process in the job, from 0 to `world_size` - 1.
        local_rank: rank of this process within its pod.
        world_size: number of processes in the job.
        resume_from: folder of the newest complete checkpoint; None to start from the model.
        emit: sends an event to the client.
    """

    model: Path | None = None
    adapter: Path | None = None
    dataset: Path | None = None
    mixture: tuple[MixturePart, ...] = ()
    eval_dataset: Path | None = None
    uris: Mapping[str, str] = attrs.field(factory=dict, converter=to_dict)
    output: Path
    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    resume_from: Path | None = None
    emit: Callable[[Event], None]

    @property
    def checkpoints(self) -> Path:
        """Folder for the checkpoints, `checkpoint-<step>` each. A checkpoint is complete once it is passed to `mark_checkpoint`."""
        return self.output / CHECKPOINTS

    @property
    def result(self) -> Path:
        """Folder for the finished model, which is uploaded, and reported to the user as the result."""
        return self.output / "model"


@attrs.frozen(kw_only=True)
class TrainerProvider(UsableResult, Provider):
    """Base class of providers that train a model on a dataset. `train` runs on every rank, under torchrun."""

    def container(self, defaults: ContainerSpec) -> ContainerSpec:
        """Shape the main container, which trains. Called on the client.

        Args:
            defaults: a complete container. Its command is `python -m tunewright_launcher run -- torchrun
                --max-restarts=0 -m tunewright_launcher train`. To use an entry point of your own, replace the last
                part, `-m tunewright_launcher train`, by another torchrun target. A job with an `output=` is then refused,
                as it is the launcher that uploads.

        Returns:
            `defaults`, or a changed copy: `attrs.evolve(defaults, …)`.
        """
        return defaults

    def import_libraries(self) -> None:
        """Import what `check` and `train` need, and start nothing: a rank that also checks the job does so in a fork of itself."""

    def for_model(self, model: ModelProvider) -> Self:  # noqa: ARG002 - for subclasses
        """Return this trainer with settings taken from the model's provider, such as a transformer type.

        Called once, on the client, before any other method of the trainer. Take over the fields of the provider classes
        that the trainer knows, and ignore all others.

        Args:
            model: provider of the model.

        Returns:
            `self`, or a changed copy.

        Raises:
            RequestError: a setting of the model's provider contradicts one of the trainer.
        """
        return self

    def for_adapter(self, adapter: ModelProvider) -> Self:  # noqa: ARG002 - for subclasses
        """Return this trainer with what it continues an adapter with. By default, jobs with an adapter are refused.

        Called once, on the client, after `for_model`. Compare the adapter with the model in `check`.

        Raises:
            RequestError: the trainer does not continue adapters, or not with its other settings.
        """
        problem = "is given, but this trainer does not continue adapters"
        remedy = "Leave it out, or give a trainer that does, such as hf."
        raise RequestError(problem, field="adapter", remedy=remedy)

    def for_datasets(
        self,
        dataset: DatasetProvider | None,  # noqa: ARG002 - for subclasses
        eval_dataset: DatasetProvider | None,  # noqa: ARG002
    ) -> Self:
        """Return this trainer with settings taken from the datasets' providers, such as the part of a dataset that is meant.

        Called once, on the client, after `for_model` and before any other method of the trainer. Take over the fields of the
        provider classes that the trainer knows, and ignore all others.

        Args:
            dataset: provider of the dataset; None for a mixture, see `for_part`.
            eval_dataset: provider of the dataset to evaluate on; None if there is none.

        Returns:
            `self`, or a changed copy.

        Raises:
            RequestError: a setting of a dataset's provider contradicts one of the trainer.
        """
        return self

    def for_part(
        self,
        part: MixturePart,
        dataset: DatasetProvider,  # noqa: ARG002 - for subclasses
    ) -> MixturePart:
        """Return a dataset of a mixture with options taken from its provider, as `for_datasets` does for a single one.

        Raises:
            RequestError: a setting of the provider contradicts an option.
        """
        return part

    def check_inputs(self, *, model: Path | None, dataset: Path | None, eval_dataset: Path | None) -> None:
        """Refuse inputs that the trainer cannot train on.

        Called on the client with the inputs that are on its machine, and in an init container with all of them. Must be
        quick and must not import heavy libraries.

        Args:
            model: folder of the model; None if it is not on this machine or the job has none.
            dataset: folder of the dataset, or None likewise.
            eval_dataset: folder of the evaluation dataset, or None likewise.

        Raises:
            RequestError: an input is not usable. The error names the field, the value and the remedy.
        """

    def check_mixture(self, parts: Sequence[MixturePart]) -> None:
        """Refuse a list of datasets that the trainer cannot train on: any, unless this is overridden.

        Called like `check_inputs`. Datasets that are not on this machine have no folder.

        Raises:
            RequestError: the mixture is not usable. The error names the field, the value and the remedy.
        """
        problem = f"is a list of {len(parts)} datasets, but this trainer trains on a single one"
        remedy = "Give one dataset, or a trainer that supports mixtures, such as hf."
        raise RequestError(problem, field="dataset", remedy=remedy)

    def check(self, run: TrainRun) -> None:
        """Refuse a job that cannot work, before the ranks start. By default calls `check_inputs` and `check_mixture`.

        Called once, in an init container that uses the trainer's image, so heavy libraries are available.

        Args:
            run: the inputs of the training.

        Raises:
            RequestError: the job cannot work. The error names the field, the value and the remedy.
        """
        self.check_inputs(model=run.model, dataset=run.dataset, eval_dataset=run.eval_dataset)
        if run.mixture:
            self.check_mixture(run.mixture)

    def preview(self, run: TrainRun) -> Iterator[Preview]:  # noqa: ARG002 - for subclasses
        """Yield the samples of the dataset as the trainer sees them, for `tunewright preview`. Called on the client.

        Args:
            run: the inputs of the training.

        Raises:
            RequestError: the inputs cannot be previewed, or the trainer does not support previews.
        """
        remedy = "Ask its author to implement TrainerProvider.preview()."
        problem = "does not support `tunewright preview`"
        raise RequestError(problem, field="trainer", value=type(self).__name__, remedy=remedy)

    @abstractmethod
    def train(self, run: TrainRun) -> None:
        """Train the model, save checkpoints, and write the finished model to `run.result`. Called on every rank.

        Args:
            run: the inputs of the training, and the rank of this process.

        Raises:
            RequestError: the training cannot succeed. The job fails with this message.
            FetchError: likewise. After any other exception the workers restart from the newest complete checkpoint, at
                most `max_restarts` times.
        """


def uris_of(provider: SourceProvider) -> list[tuple[str, str]]:
    """Return a provider's `uri` and, if it is set, its `eval_dataset`: pairs of the field's name, for messages, and the URI."""
    given = ((name, getattr(provider, name, None)) for name in ("uri", "eval_dataset"))
    return [(f"{type(provider).__name__}.{name}", uri) for name, uri in given if uri is not None]
