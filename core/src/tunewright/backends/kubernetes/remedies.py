"""What to do about what keeps a pod from running, or ended it. Pure."""

from __future__ import annotations

from typing import Final

_IMAGE = "Check the image's name and tag; for a private registry, give image_pull_secrets=."
_MISSING = "Create what is missing, or correct its name in the job: the pod starts by itself then."
_COMMAND = "The image cannot run this command: check image= and the command, and that the image holds Python 3."

UNSCHEDULABLE: Final = "Ask for less in resources_per_worker=, or look at the nodes: kubectl describe nodes"
"""What to do about a pod for which there is no node."""

_OF_REASONS = {
    "ErrImagePull": _IMAGE,
    "ImagePullBackOff": _IMAGE,
    "InvalidImageName": _IMAGE,
    "ErrImageNeverPull": _IMAGE,
    "CreateContainerConfigError": _MISSING,
    "CreateContainerError": _COMMAND,
    "RunContainerError": _COMMAND,
    "StartError": _COMMAND,
    "ContainerCannotRun": _COMMAND,
    "FailedMount": _MISSING,
    "FailedAttachVolume": "Another node may still hold the volume: wait until it is released, or look at its claim.",
    "FailedCreatePodSandBox": "Tell your cluster admin: the node cannot give the pod a network.",
}


def remedy_for(reason: str) -> str:
    """Return what to do about a reason for which a container waits or an event warns; "" if nothing general can be said."""
    return _OF_REASONS.get(reason, "")


def out_of_memory(worker: int, step: str, limit: str) -> tuple[str, str]:
    """Return what happened to a step that reached its memory limit, and what to do."""
    why = f"the memory limit of {limit} is too small for it" if limit else "its node has no more"
    cause = f"Worker {worker}: {step} ran out of memory: {why}."
    remedy = "Give it more with resources_per_worker={'memory': …}, or less to hold: a smaller batch, shorter samples."
    return cause, remedy
