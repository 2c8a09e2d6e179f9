"""The hooks: the contract between Tunewright and a plugin.

A plugin is an installed distribution with an entry point in the group `tunewright.v1`. The name of the entry point is
the plugin's registry name and its URI scheme. The entry point refers to a module (or any other object) whose functions,
marked with `@hookimpl`, implement one or more of the hooks below.

Plugins are always selected by name, so the order of installation does not matter. A plugin is imported the first time
its name is requested. See `tunewright.providers.base` for a complete plugin.
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

    Called on the client when a request selects the plugin for its model, and in the init container that fetches it.

    Returns:
        A frozen attrs class derived from `ModelProvider`. Importing it must not import heavy libraries.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def tunewright_dataset_provider() -> type[DatasetProvider]:
    """Return the class that fetches datasets for `dataset="<name>://…"`.

    Called on the client when a request selects the plugin for a dataset, and in the init container that fetches it.

    Returns:
        A frozen attrs class derived from `DatasetProvider`. Importing it must not import heavy libraries.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def tunewright_trainer_provider() -> type[TrainerProvider]:
    """Return the class that trains the model for `trainer="<name>"`.

    Called on the client, in the init container that checks the inputs, and on every rank.

    Returns:
        A frozen attrs class derived from `TrainerProvider`. Importing it must not import heavy libraries.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def tunewright_backend() -> type[Backend]:
    """Return the class that runs jobs for `TrainingClient(backend="<name>")`.

    Called only on the client.

    Returns:
        A class derived from `tunewright.backends.base.Backend`.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def tunewright_modify_plan(plan: JobPlan, request: Request) -> JobPlan:
    """Return the plan with this plugin's changes, before a backend renders it.

    Called on the client, once for each plugin that the request selected, in this order: the plugins of the model, the
    dataset, the evaluation dataset, the trainer and the output. Then it is called for each company-wide plugin, in the order
    of their names: one whose entry point's module has the line `always = True`. These are called for every job that is
    rendered from a plan: `train()` and `create_job()`, but not for a raw manifest. Other installed plugins are not called.

    The hook must be pure: the same plan and request always give the same plan. The user's `pod_overrides` are applied
    later, when the plan is rendered.

    Args:
        plan: the assembled plan. It is immutable; make a changed copy with `attrs.evolve`.
        request: the user's request.

    Returns:
        The changed plan, or `plan` itself; None is an error, as a forgotten `return` would be no change.

    Raises:
        TunewrightError: the plugin refuses the request; the error reaches the user as it is.
    """
    raise NotImplementedError
