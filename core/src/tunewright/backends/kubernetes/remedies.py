"""What to do about what keeps a pod from running, or ended it. Pure."""

from __future__ import annotations

import re
from typing import Final

_IMAGE = "Check the image's name and tag; for a private registry, give image_pull_secrets=."
_MISSING = "Create what is missing, or correct its name in the job: the pod starts by itself then."
_COMMAND = "The image cannot run this command: check image= and the command, and that the image holds Python 3."

LOST: Final = "Tell your cluster admin, who can have it replaced at once: kubectl delete node"
"""What to do about a pod whose node does not answer."""

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


_OF_MESSAGES = {
    r"persistentvolumeclaim .* not found": _MISSING,
    r"\bunbound|storageclass|StorageClass": "Name a storage class that there is with storage={'storage_class': …}: kubectl get storageclass",
    r"node affinity/selector": "Correct node_selector= or affinity=, or look at the nodes: kubectl get nodes --show-labels",
    r"untolerated taint": "Give tolerations= for nodes that you may use: kubectl describe nodes",
    r"pod (anti-)?affinity": "Correct affinity=: no node satisfies it.",
    r"topology spread": "Correct topology_spread_constraints=: no node satisfies them.",
    r"Insufficient|nodes are available": "Ask for less in resources_per_worker=, or look at the nodes: kubectl describe nodes",
    r"service ?account": "Name one that there is with service_account=: kubectl get serviceaccounts",
    r"(?i)priority ?class": "Name one that there is with priority_class=: kubectl get priorityclasses",
    r"(?i)runtime ?class": "Name one that there is with runtime_class=: kubectl get runtimeclasses",
    r"exceeded quota": "Ask for less, or delete what you no longer need: kubectl describe quota",
    r"(maximum|minimum) .* usage per": "Ask for less, or for more, in resources_per_worker=: kubectl describe limitrange",
    r"violates PodSecurity": "Leave out what the namespace forbids: look at pod_overrides=.",
    r"runAsNonRoot|non-root": "Give the pods another user, or the image one, and leave runAsUser: 0 out of pod_overrides=.",
}
"""A regular expression of Kubernetes' words → what to do. The first that fits counts."""


def remedy_for(reason: str, message: str = "") -> str:
    """Return what to do about what keeps a pod from running; "" if nothing general can be said.

    Args:
        reason: why a container waits, or an event warns, in one word.
        message: Kubernetes' own words.
    """
    fitting = (remedy for words, remedy in _OF_MESSAGES.items() if re.search(words, message))
    return next(fitting, "") or _OF_REASONS.get(reason, "")


def scheduler_words(message: str) -> str:
    """Return the scheduler's words as a clause, without what it says of preemption, and of a missing thing once more."""
    said = re.sub(r"[,.] (no new claims to deallocate, )?preemption: .*", "", message, flags=re.DOTALL)
    return said.rstrip(".").removesuffix(". not found")


def out_of_memory(worker: int, step: str, limit: str) -> tuple[str, str]:
    """Return what happened to a step that reached its memory limit, and what to do."""
    why = f"the memory limit of {limit} is too small for it" if limit else "its node has no more"
    cause = f"Worker {worker}: {step} ran out of memory: {why}."
    remedy = "Give it more with resources_per_worker={'memory': …}, or less to hold: a smaller batch, shorter samples."
    return cause, remedy
