"""The plan: everything about a job that a backend needs, in Kubernetes' words.

Everything that is exported here is public.
"""

from __future__ import annotations

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
    Scheduling,
    Volume,
    VolumeSource,
)
from tunewright.plan.resources import Resources
from tunewright.plan.secrets import EnvValue, SecretRef, SecretValue

__all__ = [
    "ContainerSpec",
    "EmptyDir",
    "EnvValue",
    "EphemeralClaim",
    "ExistingClaim",
    "INPUT_SLOTS",
    "JobPlan",
    "Manifests",
    "Mount",
    "NewClaim",
    "OUTPUT_SLOT",
    "Resources",
    "Scheduling",
    "SecretRef",
    "SecretValue",
    "Volume",
    "VolumeSource",
]
