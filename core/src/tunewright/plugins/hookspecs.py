"""The hooks: the contract between Tunewright and a plugin.

A plugin is an installed distribution with an entry point in the group `tunewright.v1`. The entry point's name is the
plugin's registry name and its URI scheme; it points to a module (or any object) whose functions marked with `@hookimpl`
implement some of the hooks below. A plugin is loaded when its name is asked for, and not before; it is always selected
by name, so the order of installation has no meaning. `tunewright.providers.base` shows a complete plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunewright._markers import hookspec

if TYPE_CHECKING:
    from tunewright.backends.base import Backend
    from tunewright.plan.plan import JobPlan
    from tunewright.providers.base import DatasetProvider, ModelProvider, TrainerProvider
    from tunewright.request.request import Request


@hookspec(firstresult=True)
def tunewright_model_provider() -> type[ModelProvider]:
    """Return the class that fetches models for `model="<name>://…"`.

    Called on the client when a request names the plugin as its model's, and in the init container. The class is a
    frozen attrs class that derives from `ModelProvider`; importing it must not import heavy libraries.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def tunewright_dataset_provider() -> type[DatasetProvider]:
    """Return the class that fetches datasets for `dataset="<name>://…"`; otherwise as `tunewright_model_provider`."""
    raise NotImplementedError


@hookspec(firstresult=True)
def tunewright_trainer_provider() -> type[TrainerProvider]:
    """Return the class that trains for `trainer="<name>"`.

    Called on the client, in the init container that checks the inputs, and on every rank; otherwise as
    `tunewright_model_provider`.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def tunewright_backend() -> type[Backend]:
    """Return the class that runs plans for `TrainingClient(backend="<name>")`. Called on the client alone."""
    raise NotImplementedError


@hookspec(firstresult=True)
def tunewright_modify_plan(plan: JobPlan, request: Request) -> JobPlan:
    """Return the plan as this plugin wants it: the last word before a backend renders it.

    Called on the client, for the plugins that the request selected and no others: the model's, the dataset's, the
    evaluation dataset's, the trainer's, the output's, each once, in this order. It must be pure: the same plan and request give the
    same plan. The user's `pod_overrides` are applied after it, when the plan is rendered.

    Args:
        plan: what was assembled; change it with `attrs.evolve`.
        request: what the user asked for.
    """
    raise NotImplementedError
