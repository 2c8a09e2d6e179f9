"""From a request to its plan, with what only the client has: the installed plugins."""

from __future__ import annotations

from tunewright._planning.assemble import assemble
from tunewright._planning.bootstrap import unbundled
from tunewright.backends.base import Backend
from tunewright.plan.plan import JobPlan
from tunewright.plugins.wheels import installed_wheel
from tunewright.request.request import Request, TrainRequest


def plan_for(backend: Backend, request: Request) -> JobPlan:
    """Return the plan of a request; for other machines than this one, with wheels of the plugins that their images lack.

    Raises:
        RequestError: parts of the request contradict each other.
        PluginError: a plugin breaks the contract of a hook, or cannot be installed elsewhere.
    """
    if backend.shares_client_filesystem or not isinstance(request, TrainRequest):
        return assemble(request)
    dists = sorted({plugin.dist for plugin, _ in unbundled(request)})
    found = {dist: installed_wheel(dist) for dist in dists}
    return assemble(request, {dist: wheel for dist, wheel in found.items() if wheel is not None})
