"""What every job gets, where this plugin is installed: a label that says who pays, and the team's nodes."""

from __future__ import annotations

import attrs
from tunewright import JobPlan, Request, hookimpl

always = True  # for every job; without it, for the jobs that use this plugin's providers

_LABELS = {"policy.example/cost-centre": "1234"}
_NODES = {"policy.example/pool": "training"}


@hookimpl
def tunewright_modify_plan(plan: JobPlan, request: Request) -> JobPlan:
    """Add labels and a node selector; what the user wrote comes first."""
    del request
    selector = {**_NODES, **plan.scheduling.node_selector}
    return attrs.evolve(
        plan,
        labels={**_LABELS, **plan.labels},
        scheduling=attrs.evolve(plan.scheduling, node_selector=selector),
    )
