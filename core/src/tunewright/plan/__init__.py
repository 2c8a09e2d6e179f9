"""The plan: everything about a job that a backend needs, in Kubernetes' terms.

Everything exported here is public.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunewright._lazy import lazy_names

if TYPE_CHECKING:
    from tunewright.environment import INPUT_SLOTS, OUTPUT_SLOT
    from tunewright.plan.manifests import Manifests
    from tunewright.plan.plan import (
        ContainerSpec,
        EmptyDir,
        EphemeralClaim,
        ExistingClaim,
        JobPlan,
        Mount,
        NewClaim,
        Volume,
        VolumeSource,
    )
    from tunewright.plan.policies import RunPolicy, Scheduling
    from tunewright.plan.resources import Resources
    from tunewright.plan.secrets import EnvValue, SecretRef, SecretValue

__all__ = [
    "INPUT_SLOTS",
    "OUTPUT_SLOT",
    "ContainerSpec",
    "EmptyDir",
    "EnvValue",
    "EphemeralClaim",
    "ExistingClaim",
    "JobPlan",
    "Manifests",
    "Mount",
    "NewClaim",
    "Resources",
    "RunPolicy",
    "Scheduling",
    "SecretRef",
    "SecretValue",
    "Volume",
    "VolumeSource",
]

__getattr__ = lazy_names(
    __name__,
    {
        "tunewright.environment": ["INPUT_SLOTS", "OUTPUT_SLOT"],
        "tunewright.plan.manifests": ["Manifests"],
        "tunewright.plan.plan": [
            "ContainerSpec",
            "EmptyDir",
            "EphemeralClaim",
            "ExistingClaim",
            "JobPlan",
            "Mount",
            "NewClaim",
            "Volume",
            "VolumeSource",
        ],
        "tunewright.plan.policies": ["RunPolicy", "Scheduling"],
        "tunewright.plan.resources": ["Resources"],
        "tunewright.plan.secrets": ["EnvValue", "SecretRef", "SecretValue"],
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
