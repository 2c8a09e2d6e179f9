"""Load the client's providers from wire documents, the files of the job's configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from tunewright.environment import INPUT_SLOTS, kind_of_slot
from tunewright.errors import ExitCode, FetchError
from tunewright.plugins.registry import Plugin
from tunewright.providers.base import DatasetProvider, ModelProvider, Provider, TrainerProvider
from tunewright.providers.mixture import MIXTURE, MixturePart, load_mixture
from tunewright.providers.wire import WireDocument
from tunewright_launcher.step import Step

TRAINER = "trainer"

_P = TypeVar("_P", bound=Provider)


def document_file(step: Step, slot: str) -> Path:
    """Return the file with the document of a slot, or of the trainer."""
    return step.paths.config / f"{slot}.json"


def read_document(step: Step, slot: str) -> WireDocument:
    """Return the document of a slot, or of the trainer.

    Raises:
        FetchError: it is missing, or not a wire document of that kind.
    """
    file = document_file(step, slot)
    try:
        document = WireDocument.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        cause = f"The job's configuration {file} cannot be read: {error}."
        raise FetchError(cause, remedy="Submit the job again.", code=ExitCode.USAGE) from error
    kind = kind_of_slot(slot)
    if document.kind != kind:
        cause = f"The job's configuration {file} is for a {document.kind}, not for a {kind}."
        raise FetchError(cause, remedy="Submit the job again.", code=ExitCode.BAD_DATA)
    return document


def read_mixture(step: Step) -> tuple[MixturePart, ...]:
    """Return the datasets of a mixture, without their folders; none for a job with a single dataset.

    Raises:
        FetchError: the job's configuration is damaged.
    """
    file = document_file(step, MIXTURE)
    try:
        return load_mixture(file.read_text("utf-8")) if file.is_file() else ()
    except (OSError, ValueError, TypeError) as error:
        cause = f"The job's configuration {file} cannot be read: {error}."
        raise FetchError(cause, remedy="Submit the job again.", code=ExitCode.BAD_DATA) from error


def input_slots(step: Step) -> tuple[str, ...]:
    """Return the slots that a job's inputs may be in."""
    return (*INPUT_SLOTS, *dict.fromkeys(part.slot for part in read_mixture(step)))


def load_source(step: Step, document: WireDocument) -> ModelProvider | DatasetProvider:
    """Return the provider of a model or dataset.

    Raises:
        FetchError: the container has another version of the plugin.
        PluginError: the plugin is missing or broken.
        RequestError: the document's params are not those of the provider.
    """
    plugin = _plugin(step, document)
    if document.kind == "model":
        return _load(step, plugin.provider("model"), document.params)
    return _load(step, plugin.provider("dataset"), document.params)


def load_trainer(step: Step) -> TrainerProvider:
    """Return the trainer; raises as `load_source`."""
    document = read_document(step, TRAINER)
    return _load(step, _plugin(step, document).provider("trainer"), document.params)


def _load(step: Step, cls: type[_P], params: Mapping[str, object]) -> _P:
    step.secrets.learn(cls, step.env)
    return cls.load_config(params, step.env)  # type: ignore[arg-type] # JSON values, by the wire's contract


def _plugin(step: Step, document: WireDocument) -> Plugin:
    plugin = step.registry.get(document.provider, dist=document.distribution)
    client = (_normal(document.distribution), document.version)
    if client != (_normal(plugin.dist), plugin.version):
        raise FetchError(
            f"The client uses {document.distribution} {document.version} for {document.provider!r}, but this container "
            f"has {plugin.dist} {plugin.version}.",
            remedy="Install the same version on both sides: upgrade one of them, or choose an image with the client's version.",
            code=ExitCode.USAGE,
        )
    return plugin


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
