"""Storage: what the user says of volumes, and the volumes that follow from it.

Inputs (model, datasets) and output (result, checkpoints, attempts) are separate mounts. The output must outlast a pod,
or a restarted worker has nothing to resume from: a claim that every pod may mount, or an `output=` URI.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from tunewright._convert import to_tuple
from tunewright._names import is_object_name
from tunewright.errors import RequestError
from tunewright.quantity import check_quantity
from tunewright.specs import EphemeralClaim, ExistingClaim, NewClaim, Volume, VolumeSource
from tunewright.uris import path_problem

RWO: Final = "ReadWriteOnce"
RWX: Final = "ReadWriteMany"
ROX: Final = "ReadOnlyMany"
RWOP: Final = "ReadWriteOncePod"
_MODES = (RWO, ROX, RWX, RWOP)

INPUTS: Final = "inputs"
OUTPUT: Final = "output"
SHARED: Final = "workspace"


def _modes(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else to_tuple(value)


@attrs.frozen(kw_only=True)
class Storage:
    """Where a job keeps its files.

    Attributes:
        size: capacity of a new claim, as a Kubernetes quantity.
        storage_class: of a new claim; None for the cluster's default, "" for none at all.
        access_modes: of the claim, new or existing: "ReadWriteOnce", "ReadWriteMany" or "ReadOnlyMany". Not given: one
            worker gets a ReadWriteOnce claim, several get ephemeral volumes.
        claim: an existing claim to use instead of a new one.
        key: folder within the claim for the inputs; "auto" derives one for each of them from what is fetched, so that jobs
            which need the same model, or the same dataset, share one download of it.
        ephemeral: a volume for each pod, which goes with the pod.
        keep: whether a new claim outlives the job. None: it does, if it holds the only copy of the result.
    """

    size: str = "50Gi"
    storage_class: str | None = None
    access_modes: tuple[str, ...] = attrs.field(default=(), converter=_modes)
    claim: str | None = None
    key: str | None = None
    ephemeral: bool = False
    keep: bool | None = None

    def __attrs_post_init__(self) -> None:
        """Refuse what Kubernetes would refuse, and what contradicts itself."""
        check_quantity(self.size, field="storage.size")
        self._check_words()
        self._check_key()
        if self.ephemeral and (self.claim or self.keep):
            problem = "is a volume that goes with its pod, which cannot go with claim= or keep=True"
            raise RequestError(problem, field="storage.ephemeral", value=True, remedy="Give one of them.")
        if self.mode == ROX and not self.claim:
            remedy = 'Give claim="…", or a mode that can be written.'
            raise RequestError(
                "is for a claim that holds files already", field="storage.access_modes", value=[ROX], remedy=remedy
            )

    def _check_words(self) -> None:
        # "" is a storage class of Kubernetes: none at all.
        names = {"claim": self.claim, "storage_class": self.storage_class or None}
        for field, name in names.items():
            if name is not None and not is_object_name(name):
                problem, remedy = "is not a name that Kubernetes takes", "Write it as the cluster spells it: my-claim."
                raise RequestError(problem, field=f"storage.{field}", value=name, remedy=remedy)
        for field, flag in {"ephemeral": self.ephemeral, "keep": self.keep}.items():
            if flag is not None and not isinstance(flag, bool):
                raise RequestError(
                    "is not a truth value", field=f"storage.{field}", value=flag, remedy="Write true or false."
                )
        for mode in self.access_modes:
            if mode not in _MODES:
                problem, remedy = "is not an access mode", f"Use one of {', '.join(_MODES)}."
                raise RequestError(problem, field="storage.access_modes", value=mode, remedy=remedy)

    def _check_key(self) -> None:
        if self.key is None:
            return
        remedy = 'Give claim="…" with it, and a relative folder or "auto".'
        problem = path_problem(self.key) if isinstance(self.key, str) and self.key else "is no folder"
        if not self.claim:
            problem = "needs an existing claim"
        if problem:
            raise RequestError(problem, field="storage.key", value=self.key, remedy=remedy)

    @property
    def mode(self) -> str | None:
        """The access mode that decides: the widest one that may be written, else ReadOnlyMany, else None."""
        for mode in (RWX, RWO, RWOP, ROX):
            if mode in self.access_modes:
                return RWO if mode == RWOP else mode
        return None

    @property
    def new_mode(self) -> str:
        """The access mode of a new claim."""
        return RWX if self.mode == RWX else RWOP if self.access_modes == (RWOP,) else RWO


def as_storage(value: Any) -> Storage:
    """From a Storage, None, or a dict of its fields; the dict is not changed."""
    if isinstance(value, Storage):
        return value
    if value is not None and not isinstance(value, Mapping):
        raise RequestError(
            "must be a dict or a Storage", field="storage", value=value, remedy='Write {"size": "100Gi"}.'
        )
    from tunewright.wire import did_you_mean

    given, known = dict(value or {}), attrs.fields_dict(Storage)
    for name in given:
        if name not in known:
            raise RequestError("is not a field of storage", field=f"storage.{name}", remedy=did_you_mean(name, known))
    return Storage(**{k: v for k, v in given.items() if v is not None})


@attrs.frozen(kw_only=True)
class Layout:
    """The volumes of a job.

    Attributes:
        inputs: the volume with the input slots.
        output: the volume with the output slot; the same as `inputs` where one claim holds both.
        inputs_folder: folder of the input slots within `inputs`.
        own_folders: slot → the folder of that one, where each is named by what is fetched.
        output_folder: folder of the output slot within `output`.
        read_only_inputs: the inputs were prepared before; nothing can be fetched into them.
    """

    inputs: Volume
    output: Volume
    inputs_folder: str = ""
    own_folders: Mapping[str, str] = attrs.field(factory=dict)
    output_folder: str = OUTPUT
    read_only_inputs: bool = False

    def folder_of(self, slot: str) -> str:
        """The folder within `inputs` that an input slot lies in."""
        return self.own_folders.get(slot, self.inputs_folder)

    def path_of(self, slot: str) -> str:
        """The folder within `inputs` that is an input slot."""
        return f"{self.folder_of(slot)}/{slot}".removeprefix("/")

    @property
    def volumes(self) -> tuple[Volume, ...]:
        """Each volume once."""
        return (self.inputs,) if self.inputs == self.output else (self.inputs, self.output)


def lay_out(
    storage: Storage, *, job: str, workers: int, output: str | None, keys: Mapping[str, str], ttl: int | None
) -> Layout:
    """The volumes for a job; a combination that cannot work is refused with the remedy.

    Args:
        storage: what the user said.
        job: the job's name, under which the result lies in a claim that several jobs share.
        workers: pods, at most.
        output: URI that the result is uploaded to.
        keys: slot → what `key="auto"` stands for.
        ttl: seconds after which the finished job is deleted.

    Raises:
        RequestError: the result would be lost, or a claim cannot be mounted by every worker.
    """
    if storage.claim:
        return _existing(storage, storage.claim, job=job, workers=workers, output=output, keys=keys, ttl=ttl)
    ephemeral = storage.ephemeral or (workers > 1 and storage.mode != RWX)
    if ephemeral:
        return _ephemeral(storage, workers=workers, output=output)
    _refuse_losing_result(storage, output=output, ttl=ttl)
    volume = Volume(name=SHARED, source=_new_claim(storage, storage.new_mode, output))
    return Layout(inputs=volume, output=volume)


def _existing(
    storage: Storage,
    claim: str,
    *,
    job: str,
    workers: int,
    output: str | None,
    keys: Mapping[str, str],
    ttl: int | None,
) -> Layout:
    auto = storage.key == "auto"
    folder, own = ("", keys) if auto else ((storage.key or "").removesuffix("/"), {})
    mode = storage.mode or RWO
    if mode == ROX:
        inputs = Volume(name=INPUTS, source=ExistingClaim(claim=claim, read_only=True))
        outside = _output_beside(storage, workers=workers, output=output, ttl=ttl)
        return Layout(inputs=inputs, output=outside, inputs_folder=folder, own_folders=own, read_only_inputs=True)
    if mode == RWO and workers > 1:
        problem = f"is a {RWO} claim, which {workers} workers on different nodes cannot mount"
        remedy = (
            f"Use a {RWX} claim (say so: access_modes=[{RWX!r}]), or leave claim= out and give output=, and each worker "
            "gets a volume of its own."
        )
        raise RequestError(problem, field="storage.claim", value=claim, remedy=remedy)
    volume = Volume(name=SHARED, source=ExistingClaim(claim=claim))
    result = f"jobs/{job}/{OUTPUT}"
    return Layout(inputs=volume, output=volume, inputs_folder=folder, own_folders=own, output_folder=result)


def _ephemeral(storage: Storage, *, workers: int, output: str | None) -> Layout:
    if output is None:
        what = "ephemeral volumes" if storage.ephemeral or not storage.access_modes else f"a {RWO} claim"
        problem = (
            f"{workers} worker(s) with {what} leave no place for the result and the checkpoints that outlasts a pod"
        )
        remedy = f'Give output="s3://bucket/prefix", or storage={{"access_modes": [{RWX!r}]}} if the cluster has such a class.'
        raise RequestError(problem, field="storage", remedy=remedy)
    claim = EphemeralClaim(size=storage.size, storage_class=storage.storage_class)
    volume = Volume(name=SHARED, source=claim)
    return Layout(inputs=volume, output=volume)


def _output_beside(storage: Storage, *, workers: int, output: str | None, ttl: int | None) -> Volume:
    if workers == 1:
        _refuse_losing_result(storage, output=output, ttl=ttl)
        return Volume(name=OUTPUT, source=_new_claim(storage, RWO, output))
    if output is None:
        problem = (
            f"{workers} workers read {ROX} claim {storage.claim!r} and have no common place to write the result to"
        )
        raise RequestError(problem, field="output", remedy='Give output="s3://bucket/prefix".')
    source: VolumeSource = EphemeralClaim(size=storage.size, storage_class=storage.storage_class)
    return Volume(name=OUTPUT, source=source)


def _new_claim(storage: Storage, mode: str, output: str | None) -> NewClaim:
    keep = output is None if storage.keep is None else storage.keep
    return NewClaim(size=storage.size, storage_class=storage.storage_class, access_modes=(mode,), keep=keep)


def _refuse_losing_result(storage: Storage, *, output: str | None, ttl: int | None) -> None:
    if output is None and storage.keep is False:
        when = f"{ttl} seconds after the end" if ttl is not None else "when the job is deleted"
        problem = f"the claim holds the only copy of the result and goes with the job, {when}"
        remedy = 'Give output="s3://bucket/prefix", or leave keep out to keep the claim.'
        raise RequestError(problem, field="storage.keep", value=False, remedy=remedy)
