"""The commands of `tunewright` that use the result of a finished job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from tunewright.errors import TunewrightError
from tunewright.events import Json
from tunewright.plugins.registry import Registry
from tunewright.providers.base import TrainerProvider
from tunewright.status.status import JobRecord, JobStatus

DEFAULT_TRAINER = "hf"  # of `tunewright chat` for a folder
_PLACEHOLDER = "YOUR-NAME"


@attrs.frozen(kw_only=True)
class Finished:
    """A job that has succeeded.

    Attributes:
        status: its status.
        record: what its backend keeps of it.
        folder: the folder of its result; None if that is not on this machine.
        command_for: see `Backend.command_for`.
    """

    status: JobStatus
    record: JobRecord
    folder: Path | None
    command_for: Callable[[str], str]

    def commands(self, registry: Registry) -> list[str]:
        """Return what to type next, in order; nothing if the job's trainer is not installed here, or offers nothing."""
        trainer = self._trainer(registry)
        if trainer is None:
            return []
        fitting = trainer.result_commands()
        return self._here(fitting, registry) if self.folder is not None else self._elsewhere(fitting)

    def _trainer(self, registry: Registry) -> TrainerProvider | None:
        """Return the job's trainer with its configuration, without its secrets."""
        document = self._document("trainer")
        try:
            return registry.get(str(document["provider"])).provider("trainer").load_config(_params(document), {})
        except (TunewrightError, KeyError):  # the user's own code; not installed here; or of another version
            return None

    def _here(self, fitting: tuple[str, ...], registry: Registry) -> list[str]:
        name = self.status.name
        found = [self.command_for("chat")] if "chat" in fitting else []
        if "merge" in fitting:
            found.append(f"{self.command_for('merge')} ./{name}-merged")
        if not self._document("output") and DEFAULT_TRAINER in registry.names():
            found.append(f"{self.command_for('push')} hf://{_PLACEHOLDER}/{name}")
        return found

    def _elsewhere(self, fitting: tuple[str, ...]) -> list[str]:
        """Fetch the result first, if its URI says all that is needed for that; and for an adapter, its model."""
        uri, name = self._uri("output"), self.status.name
        if uri is None or uri.startswith("pvc://") or "chat" not in fitting:
            return []
        provider = str(self._document("trainer")["provider"])
        trainer = "" if provider == DEFAULT_TRAINER else f" --trainer {provider}"
        result = f"./{name}/model{trainer}"
        if "merge" not in fitting:
            return [f"tunewright fetch {uri} ./{name}", f"tunewright chat {result}"]
        if (base := self._uri("model")) is None or base.startswith(("pvc://", "file://")):
            return []
        result += f" --model ./{name}-base/model"
        return [
            f"tunewright fetch {uri} ./{name}",
            f"tunewright fetch {base} ./{name}-base",
            f"tunewright chat {result}",
            f"tunewright merge {result} ./{name}-merged",
        ]

    def _uri(self, slot: str) -> str | None:
        """Return the URI of a slot; None if there is none, or if it needs more than that, such as an endpoint."""
        match _params(self._document(slot)):
            case {"uri": str(uri), **rest} if not rest:
                return uri
        return None

    def _document(self, slot: str) -> Mapping[str, Json]:
        document = self.record.documents.get(f"{slot}.json")
        return document if isinstance(document, dict) else {}


def _params(document: Mapping[str, Json]) -> Mapping[str, Json]:
    params = document.get("params")
    return params if isinstance(params, dict) else {}
