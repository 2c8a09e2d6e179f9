"""The plan of a job before any plugin has changed it, with a literal secret that no plugin may show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest import mock

import attrs

from tunewright._client.client import TrainingClient
from tunewright._planning.assemble import assemble
from tunewright.plan.plan import JobPlan
from tunewright.plan.secrets import SecretValue
from tunewright.plugins.registry import Plugin
from tunewright.request.request import Request

SECRET = "a-literal-for-the-kit"  # noqa: S105 - it opens nothing


def plan_before(job: Mapping[str, Any]) -> tuple[Request, JobPlan]:
    """Return the request of a job, given by the keywords of `train()` or `create_job()`, and its plan before any hook."""
    client = TrainingClient("kubernetes")
    make = client.train_request if "trainer" in job else client.code_request
    request: Request = make(**dict(job))
    with mock.patch.object(Plugin, "modify_plan", lambda _, plan, __: plan):
        plan = assemble(request)
    main = attrs.evolve(plan.main, env={**plan.main.env, "KIT_SECRET": SecretValue(SECRET)})
    return request, attrs.evolve(plan, main=main)
