"""What a job uploads, and when."""

from __future__ import annotations

from tunewright import environment
from tunewright._planning.layout import VolumeLayout
from tunewright.errors import RequestError
from tunewright.plan.plan import ContainerSpec, EphemeralClaim
from tunewright.providers.base import ModelProvider
from tunewright.request.request import ResolvedProvider, TrainRequest

TRAIN = ("-m", "tunewright_launcher", "train")
"""The target of torchrun that trains, and then uploads."""


def uploaded_target(request: TrainRequest) -> ResolvedProvider[ModelProvider] | None:
    """Return where the result is uploaded to; None for no output, and for a claim, which the job writes to by itself."""
    target = request.output_target
    return None if target is None or target.provider.mounted_claim() is not None else target


def upload_env(request: TrainRequest, layout: VolumeLayout) -> dict[str, str]:
    """Upload checkpoints if they would be lost with the pod, unless the user says otherwise."""
    wanted = request.upload_checkpoints
    if wanted is None:
        wanted = isinstance(layout.output.source, EphemeralClaim)
    return {environment.UPLOAD_CHECKPOINTS: "1"} if wanted and request.output_target else {}


def refuse_lost_output(request: TrainRequest, main: ContainerSpec) -> None:
    """Refuse an upload that would never happen: only the launcher's `train` uploads.

    Raises:
        RequestError: the trainer starts something else.
    """
    if uploaded_target(request) is not None and main.command[-len(TRAIN) :] != TRAIN:
        name = request.trainer.plugin.name
        problem = (
            f"would never be uploaded to: the trainer {name!r} starts a program of its own, which does not do that"
        )
        remedy = "Leave output out: the result stays on the job's volume, and `tunewright push` uploads it."
        raise RequestError(problem, field="output", value=request.output, remedy=remedy)
