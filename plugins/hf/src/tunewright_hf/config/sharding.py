"""Sharded checkpoints: refuse plans whose volumes cannot hold them. Imports no heavy library."""

from __future__ import annotations

from tunewright import Request
from tunewright.errors import RequestError
from tunewright.plan import OUTPUT_SLOT, EphemeralClaim, JobPlan
from tunewright_hf.config.library_arguments import TrainingArguments


def check_plan(plan: JobPlan, request: Request, arguments: TrainingArguments) -> None:
    """Refuse sharded checkpoints if each worker writes to an ephemeral volume of its own.

    A checkpoint is uploaded from rank 0's volume, and would lack the other workers' shards.

    Raises:
        RequestError: names the argument that shards checkpoints.
    """
    volumes = {v.name: v.source for v in plan.volumes}
    places = [volumes.get(m.volume) for m in plan.main.mounts if m.path.endswith(f"/{OUTPUT_SLOT}")]
    field = _sharding_field(arguments)
    if field and request.most_workers > 1 and any(isinstance(place, EphemeralClaim) for place in places):
        problem = "shards checkpoints, but each worker has a volume of its own"
        remedy = 'Use storage that all workers share: storage={"access_modes": ["ReadWriteMany"]}, or output="pvc://claim/folder".'
        raise RequestError(problem, field=field, remedy=remedy)


def _sharding_field(arguments: TrainingArguments) -> str | None:
    if arguments.get("deepspeed"):
        return "deepspeed"
    config = arguments.get("fsdp_config")
    kind = config.get("state_dict_type") if isinstance(config, dict) else None
    sharded = arguments.get("fsdp") and "FULL" not in str(kind or "FULL_STATE_DICT").upper()
    return "fsdp_config" if sharded else None
