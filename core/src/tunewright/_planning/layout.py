"""The layout of the volumes: which claims hold the inputs and the output, and in which folders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from tunewright.errors import RequestError
from tunewright.plan.plan import EphemeralClaim, ExistingClaim, NewClaim, Volume, VolumeSource
from tunewright.request.storage import ROX, RWO, RWX, Storage

INPUTS: Final = "inputs"
OUTPUT: Final = "output"
SHARED: Final = "workspace"


@attrs.frozen(kw_only=True)
class VolumeLayout:
    """The volumes of a job.

    Attributes:
        inputs: the volume with the inputs.
        output: the volume with the output; the same as `inputs` if one claim holds both.
        inputs_folder: folder of the inputs within `inputs`.
        own_folders: input → its own folder, if each is named by what is fetched.
        output_folder: folder of the output within `output`.
        read_only_inputs: the inputs were prepared beforehand; nothing can be fetched into them.
    """

    inputs: Volume
    output: Volume
    inputs_folder: str = ""
    own_folders: Mapping[str, str] = attrs.field(factory=dict)
    output_folder: str = OUTPUT
    read_only_inputs: bool = False

    def folder_of(self, slot: str) -> str:
        """Return the folder within `inputs` that contains an input."""
        return self.own_folders.get(slot, self.inputs_folder)

    def path_of(self, slot: str) -> str:
        """Return the folder within `inputs` that is an input."""
        return f"{self.folder_of(slot)}/{slot}".removeprefix("/")

    @property
    def volumes(self) -> tuple[Volume, ...]:
        """Each volume once."""
        return (self.inputs,) if self.inputs == self.output else (self.inputs, self.output)


def lay_out(
    storage: Storage, *, job: str, workers: int, output: str | None, keys: Mapping[str, str], ttl: int | None
) -> VolumeLayout:
    """Choose the volumes for a job.

    Args:
        storage: what the user asked for.
        job: the job's name, which is the folder of the result in a claim that several jobs share.
        workers: pods, at most.
        output: URI that the result is uploaded to.
        keys: input → its folder with `key="auto"`.
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
    return VolumeLayout(inputs=volume, output=volume)


def _existing(
    storage: Storage,
    claim: str,
    *,
    job: str,
    workers: int,
    output: str | None,
    keys: Mapping[str, str],
    ttl: int | None,
) -> VolumeLayout:
    auto = storage.key == "auto"
    folder, own = ("", keys) if auto else ((storage.key or "").removesuffix("/"), {})
    mode = storage.mode or RWO
    if mode == ROX:
        inputs = Volume(name=INPUTS, source=ExistingClaim(claim=claim, read_only=True))
        outside = _output_beside(storage, workers=workers, output=output, ttl=ttl)
        return VolumeLayout(inputs=inputs, output=outside, inputs_folder=folder, own_folders=own, read_only_inputs=True)
    if mode == RWO and workers > 1:
        problem = f"is a {RWO} claim, which {workers} workers on different nodes cannot mount"
        remedy = (
            f"Use a {RWX} claim (say so: access_modes=[{RWX!r}]), or leave claim= out and give output=, and each worker "
            "gets a volume of its own."
        )
        raise RequestError(problem, field="storage.claim", value=claim, remedy=remedy)
    volume = Volume(name=SHARED, source=ExistingClaim(claim=claim))
    result = f"jobs/{job}/{OUTPUT}"
    return VolumeLayout(inputs=volume, output=volume, inputs_folder=folder, own_folders=own, output_folder=result)


def _ephemeral(storage: Storage, *, workers: int, output: str | None) -> VolumeLayout:
    if output is None:
        what = "ephemeral volumes" if storage.ephemeral or not storage.access_modes else f"a {RWO} claim"
        problem = (
            f"{workers} worker(s) with {what} have no storage for the result and the checkpoints that outlasts a pod"
        )
        remedy = f'Give output="s3://bucket/prefix", or storage={{"access_modes": [{RWX!r}]}} if the cluster has such a class.'
        raise RequestError(problem, field="storage", remedy=remedy)
    claim = EphemeralClaim(size=storage.size, storage_class=storage.storage_class)
    volume = Volume(name=SHARED, source=claim)
    return VolumeLayout(inputs=volume, output=volume)


def _output_beside(storage: Storage, *, workers: int, output: str | None, ttl: int | None) -> Volume:
    if workers == 1:
        _refuse_losing_result(storage, output=output, ttl=ttl)
        return Volume(name=OUTPUT, source=_new_claim(storage, RWO, output))
    if output is None:
        problem = (
            f"{workers} workers read {ROX} claim {storage.claim!r} and have no shared storage to write the result to"
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
        problem = f"the claim holds the only copy of the result and is deleted with the job, {when}"
        remedy = 'Give output="s3://bucket/prefix", or leave out keep to keep the claim.'
        raise RequestError(problem, field="storage.keep", value=False, remedy=remedy)
