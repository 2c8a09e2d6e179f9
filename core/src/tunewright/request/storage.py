"""Storage: what the user asks for in volumes.

Inputs (model, datasets) and output (result, checkpoints, attempts) are separate mounts. The output must outlast a pod,
or a restarted worker has nothing to resume from: it needs a claim that every pod can mount, or an `output=` URI.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from tunewright._convert import to_tuple
from tunewright.errors import RequestError
from tunewright.plan._names import is_object_name
from tunewright.plan._quantity import check_quantity
from tunewright.providers.uris import path_problem

RWO: Final = "ReadWriteOnce"
RWX: Final = "ReadWriteMany"
ROX: Final = "ReadOnlyMany"
RWOP: Final = "ReadWriteOncePod"
_MODES = (RWO, ROX, RWX, RWOP)


def _modes(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else to_tuple(value)


@attrs.frozen(kw_only=True)
class Storage:
    """Where a job keeps its files.

    Attributes:
        size: capacity of a new claim, as a Kubernetes quantity.
        storage_class: storage class of a new claim; None for the cluster's default, "" for none at all.
        access_modes: access modes of the claim, new or existing: "ReadWriteOnce", "ReadWriteMany" or "ReadOnlyMany". By
            default one worker gets a ReadWriteOnce claim, and several get ephemeral volumes.
        claim: an existing claim to use instead of a new one.
        key: folder within the claim for the inputs. "auto" names a folder for each input after what is fetched, so that
            jobs with the same model or dataset share one download.
        ephemeral: use a volume for each pod, which is deleted with the pod.
        keep: whether a new claim outlives the job. None: it does if it holds the only copy of the result.
    """

    size: str = "50Gi"
    storage_class: str | None = None
    access_modes: tuple[str, ...] = attrs.field(default=(), converter=_modes)
    claim: str | None = None
    key: str | None = None
    ephemeral: bool = False
    keep: bool | None = None

    def __attrs_post_init__(self) -> None:
        """Refuse what Kubernetes would refuse, and options that contradict each other."""
        check_quantity(self.size, field="storage.size")
        self._check_words()
        self._check_key()
        if self.ephemeral and (self.claim or self.keep):
            problem = "deletes the volume with its pod, which contradicts claim= and keep=True"
            raise RequestError(problem, field="storage.ephemeral", value=True, remedy="Give one of them.")
        if self.mode == ROX and not self.claim:
            remedy = 'Give claim="…", or a writable mode.'
            raise RequestError(
                "needs an existing claim that already holds files",
                field="storage.access_modes",
                value=[ROX],
                remedy=remedy,
            )

    def _check_words(self) -> None:
        # In Kubernetes, the storage class "" means none at all.
        names = {"claim": self.claim, "storage_class": self.storage_class or None}
        for field, name in names.items():
            if name is not None and not is_object_name(name):
                problem, remedy = "is not a valid Kubernetes name", "Write it as the cluster spells it: my-claim."
                raise RequestError(problem, field=f"storage.{field}", value=name, remedy=remedy)
        for field, flag in {"ephemeral": self.ephemeral, "keep": self.keep}.items():
            if flag is not None and not isinstance(flag, bool):
                raise RequestError(
                    "must be True or False", field=f"storage.{field}", value=flag, remedy="Write True or False."
                )
        for mode in self.access_modes:
            if mode not in _MODES:
                problem, remedy = "is not an access mode", f"Use one of {', '.join(_MODES)}."
                raise RequestError(problem, field="storage.access_modes", value=mode, remedy=remedy)

    def _check_key(self) -> None:
        if self.key is None:
            return
        remedy = 'Give claim="…" with it, and a relative folder or "auto".'
        problem = path_problem(self.key) if isinstance(self.key, str) and self.key else "is not a folder"
        if not self.claim:
            problem = "needs an existing claim"
        if problem:
            raise RequestError(problem, field="storage.key", value=self.key, remedy=remedy)

    @property
    def mode(self) -> str | None:
        """The access mode that counts: the widest writable one, else ReadOnlyMany, else None."""
        for mode in (RWX, RWO, RWOP, ROX):
            if mode in self.access_modes:
                return RWO if mode == RWOP else mode
        return None

    @property
    def new_mode(self) -> str:
        """The access mode of a new claim."""
        return RWX if self.mode == RWX else RWOP if self.access_modes == (RWOP,) else RWO


def as_storage(value: Any) -> Storage:
    """Convert None or a dict of the fields into a Storage; the dict is not changed."""
    if isinstance(value, Storage):
        return value
    if value is not None and not isinstance(value, Mapping):
        raise RequestError(
            "must be a dict or a Storage", field="storage", value=value, remedy='Write {"size": "100Gi"}.'
        )
    from tunewright.errors import did_you_mean

    given, known = dict(value or {}), attrs.fields_dict(Storage)
    for name in given:
        if name not in known:
            raise RequestError("is not a field of storage", field=f"storage.{name}", remedy=did_you_mean(name, known))
    return Storage(**{k: v for k, v in given.items() if v is not None})
