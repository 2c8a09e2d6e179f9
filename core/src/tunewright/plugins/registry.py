"""The registry: find a plugin by its name or by a URI, and load that one plugin.

A broken, conflicting or outdated plugin is reported when it is requested, and never affects the others.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal, cast, overload

import attrs
import pluggy

from tunewright import _markers
from tunewright.errors import (
    ENDINGS,
    PluginConflict,
    PluginError,
    PluginLoadError,
    PluginNotFound,
    RequestError,
    TunewrightError,
    described,
    similar_name,
)
from tunewright.plan import images
from tunewright.plugins import hookspecs
from tunewright.plugins.company import says_always
from tunewright.plugins.kinds import HOOKS, Kind, class_problem
from tunewright.providers.base import DatasetProvider, ModelProvider, TrainerProvider
from tunewright.providers.uris import uri_scheme

if TYPE_CHECKING:
    from tunewright.backends.base import Backend
    from tunewright.plan.plan import JobPlan
    from tunewright.request.request import Request

_ANY_GROUP = "tunewright.v"  # prefix of the entry point group of every API version
_MODIFY_PLAN = "tunewright_modify_plan"

# A name that nobody has registered could be anybody's tomorrow: only packages that are known are suggested.
_PACKAGES = {
    **{dist.removeprefix("tunewright-"): dist for dist in images.BUNDLED if dist != "tunewright"},
    "https": "tunewright-http",  # a package with two plugins
}


@attrs.frozen(kw_only=True)
class Plugin:
    """A loaded plugin.

    Attributes:
        name: name of its entry point.
        dist: name of its distribution.
        version: version of its distribution.
    """

    name: str
    dist: str
    version: str
    _manager: pluggy.PluginManager = attrs.field(repr=False, eq=False)

    @overload
    def provider(self, kind: Literal["model"]) -> type[ModelProvider]: ...
    @overload
    def provider(self, kind: Literal["dataset"]) -> type[DatasetProvider]: ...
    @overload
    def provider(self, kind: Literal["trainer"]) -> type[TrainerProvider]: ...
    @overload
    def provider(self, kind: Literal["backend"]) -> type[Backend]: ...
    @overload
    def provider(self, kind: Kind) -> type: ...
    def provider(self, kind: Kind) -> type:
        """Return the plugin's class of the given kind.

        Raises:
            PluginError: the plugin does not provide this kind.
            PluginLoadError: the hook fails, or does not return such a class.
        """
        if kind not in self.kinds():
            provided = ", ".join(self.kinds()) or "nothing"
            message = f"Plugin {self.name!r} does not provide a {kind}; it provides {provided}. Choose another plugin."
            raise PluginError(message, name=self.name, dist=self.dist)
        cls = self._call(HOOKS[kind])
        if problem := class_problem(kind, cls):
            raise _breaks_contract(self, problem)
        return cast("type", cls)

    @property
    def always(self) -> bool:
        """Whether the plugin is company-wide: its module says `always = True`, and its hook is called for every job."""
        return getattr(self._manager.get_plugin(self.name), "always", False) is True

    def kinds(self) -> list[Kind]:
        """Return the kinds that the plugin provides, any of "model", "dataset", "trainer" and "backend"."""
        return [kind for kind, hook in HOOKS.items() if self._has(hook)]

    def check(self) -> None:
        """Load every class that the plugin provides.

        Raises:
            PluginLoadError: a hook fails, or does not return a class of its kind; or the plugin is company-wide without the
                hook that would be called.
        """
        for kind in self.kinds():
            self.provider(kind)
        if self.always and not self._has(_MODIFY_PLAN):
            raise _breaks_contract(self, f"it says `always = True`, but has no hook {_MODIFY_PLAN}")

    def modify_plan(self, plan: JobPlan, request: Request) -> JobPlan:
        """Return the plan as changed by this plugin's `tunewright_modify_plan`, or unchanged without such a hook.

        Raises:
            PluginLoadError: the hook fails, or does not return a valid plan.
            TunewrightError: the hook refuses the request.
        """
        from tunewright.plan.plan import JobPlan
        from tunewright.plan.valid import plan_problem, shown_secret

        if not self._has(_MODIFY_PLAN):
            return plan
        changed = self._call(_MODIFY_PLAN, plan=plan, request=request)
        if not isinstance(changed, JobPlan):
            hint = "; it has to return the plan, changed or not" if changed is None else ""
            problem = f"its hook {_MODIFY_PLAN} returned {type(changed).__name__}, not a JobPlan{hint}"
            raise _breaks_contract(self, problem)
        if problem := plan_problem(changed):
            raise _breaks_contract(self, f"its hook {_MODIFY_PLAN} returned a plan that no cluster accepts: {problem}")
        if variable := shown_secret(plan, changed):
            problem = f"its hook {_MODIFY_PLAN} returned a plan that shows the secret of the variable {variable} as plain text"
            raise _breaks_contract(self, problem)
        return changed

    def _has(self, hook: str) -> bool:
        return bool(getattr(self._manager.hook, hook).get_hookimpls())

    def _call(self, hook: str, **arguments: object) -> object:
        try:
            return getattr(self._manager.hook, hook)(**arguments)
        except TunewrightError as error:
            if arguments:  # it refuses the request
                raise
            raise _breaks_contract(self, f"its hook {hook} raised {described(error)}") from error
        except BaseException as error:  # as in _load: a hook may import the class that it returns
            if type(error) in ENDINGS:
                raise
            raise _breaks_contract(self, f"its hook {hook} raised {described(error)}") from error


class Registry:
    """The installed plugins.

    The list of entry points is read once, on first use. Each plugin is loaded on its own first use.

    Args:
        entry_points: the entry points to search; by default those of all installed distributions.
    """

    def __init__(self, entry_points: Iterable[importlib.metadata.EntryPoint] | None = None) -> None:
        self._given = None if entry_points is None else list(entry_points)
        self._index: Mapping[str, list[importlib.metadata.EntryPoint]] | None = None
        self._loaded: dict[str, Plugin] = {}

    def names(self, *, of_any_api: bool = False) -> list[str]:
        """Return all registry names, sorted, without loading any plugin, whether it is usable or not.

        Args:
            of_any_api: include plugins that were made for another version of the plugin API.
        """
        found = self._entry_points().items()
        return sorted(name for name, points in found if of_any_api or any(_of_this_api(p) for p in points))

    def distributions(self) -> dict[str, str]:
        """Return the distributions that provide plugins, sorted: name → version, without loading any plugin."""
        found = {p.dist for points in self._entry_points().values() for p in points if p.dist is not None}
        return dict(sorted({d.name: d.version or "0" for d in found if d.name}.items()))

    def always(self) -> list[Plugin]:
        """Load the company-wide plugins, sorted by name: `tunewright_modify_plan` of each is called for every job.

        Other plugins are not imported: each one's source is searched for the line `always = True`.

        Raises:
            PluginError: one of them cannot be loaded. It is not passed over, as it may be there to enforce a rule.
        """
        found = self._entry_points().items()
        names = sorted(name for name, points in found if any(says_always(p) for p in points))
        return [plugin for plugin in map(self.get, names) if plugin.always]

    def get(self, name: str, *, kind: Kind | None = None, dist: str | None = None) -> Plugin:
        """Load a plugin by its name.

        Args:
            name: registry name of the plugin.
            kind: what it is wanted for, if known: an error then names the plugins that provide it.
            dist: the distribution that should provide it, if known. If it is installed and registers the name, no other
                distribution is searched.

        Raises:
            PluginNotFound: no installed distribution registers the name. The message says what to install.
            PluginConflict: several distributions register the name.
            PluginLoadError: the plugin cannot be imported, violates the hooks' contract, or was made for another version
                of the plugin API.
        """
        if name not in self._loaded:
            self._loaded[name] = _load(self._find_in(dist, name) or self._find(name, kind))
        return self._loaded[name]

    def for_uri(self, uri: str, field: str) -> Plugin:
        """Load the plugin that a URI's scheme selects.

        Args:
            uri: the URI, as the user wrote it.
            field: what the user calls it, for the message.

        Raises:
            RequestError: the URI has no scheme.
            PluginError: as in `get`.
        """
        scheme = uri_scheme(uri)
        if scheme is None:
            remedy = "Write it as scheme://…, for example hf://org/name, s3://bucket/prefix or ./folder."
            raise RequestError("is not a URI", field=field, value=uri, remedy=remedy)
        return self.get(scheme)

    def from_module(self, module: str) -> Iterator[Plugin]:
        """Load and yield the plugins whose entry point is in the same top-level package as `module`."""
        package = module.partition(".")[0]
        for name in self.names():
            if any(_of_this_api(p) and _package(p) == package for p in self._entry_points()[name]):
                yield self.get(name)

    def _find_in(self, dist: str | None, name: str) -> importlib.metadata.EntryPoint | None:
        if not dist or self._given is not None:
            return None
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            points = importlib.metadata.distribution(dist).entry_points
            return next((p for p in points if p.name == name and _of_this_api(p)), None)
        return None

    def _find(self, name: str, kind: Kind | None) -> importlib.metadata.EntryPoint:
        points = self._entry_points().get(name, [])
        current = [p for p in points if _of_this_api(p)]
        if len(current) == 1:
            return current[0]
        if current:
            dists = ", ".join(sorted(_dist_name(p) for p in current))
            message = f"Plugin {name!r} is registered by several distributions: {dists}. Uninstall all but one."
            raise PluginConflict(message, name=name, dist=dists)
        if points:
            raise _wrong_api(name, points[0])
        raise self._not_found(name, kind)

    def _not_found(self, name: str, kind: Kind | None) -> PluginNotFound:
        names, what = (self._providing(kind), kind) if kind else (self.names(), "plugin")
        meant = similar_name(name, names)
        hint = f"Did you mean {meant!r}? Otherwise install" if meant else "Install"
        package = f": `pip install {_PACKAGES[name]}`" if name in _PACKAGES else ", which its documentation names"
        message = (
            f"No installed {what} is named {name!r}. {hint} the package that provides it{package}. "
            f"Installed {what}s: {', '.join(names)}."
        )
        return PluginNotFound(message, name=name)

    def _providing(self, kind: Kind) -> list[str]:
        found = []
        for name in self.names():
            with contextlib.suppress(PluginError):
                if kind in self.get(name).kinds():
                    found.append(name)
        return found

    def _entry_points(self) -> Mapping[str, list[importlib.metadata.EntryPoint]]:
        if self._index is None:
            points = _installed() if self._given is None else self._given
            index: dict[str, dict[tuple[str, str, str], importlib.metadata.EntryPoint]] = {}
            for point in points:
                if point.group.startswith(_ANY_GROUP):
                    index.setdefault(point.name, {})[point.group, _dist_name(point), point.value] = point
            self._index = {name: list(found.values()) for name, found in index.items()}
        return self._index


def _installed() -> list[importlib.metadata.EntryPoint]:
    """Return our entry points of all distributions; of two versions of one, those of the version that imports first."""
    found: dict[str, list[importlib.metadata.EntryPoint]] = {}
    for dist in importlib.metadata.distributions():
        with contextlib.suppress(Exception):  # metadata that cannot be read; whose plugins they are, nobody can say
            if points := [p for p in dist.entry_points if p.group.startswith(_ANY_GROUP)]:
                found.setdefault(dist.name or "", points)
    return [point for points in found.values() for point in points]


def _load(point: importlib.metadata.EntryPoint) -> Plugin:
    name, dist = point.name, _dist_name(point)
    manager = pluggy.PluginManager(_markers.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(point.load(), name=name)
        manager.check_pending()
    except BaseException as error:  # an import may raise SystemExit, as kaggle does, or the panic of a library in Rust
        if type(error) in ENDINGS:
            raise
        message = (
            f"Plugin {name!r} of distribution {dist} could not be loaded: {described(error)}. "
            f"{_install('Reinstall', '--force-reinstall', dist)}, or uninstall it. Other plugins are not affected."
        )
        raise PluginLoadError(message, name=name, dist=dist) from error
    return Plugin(name=name, dist=dist, version=(point.dist and point.dist.version) or "0", manager=manager)


def _breaks_contract(plugin: Plugin, problem: str) -> PluginLoadError:
    message = (
        f"Plugin {plugin.name!r} of distribution {plugin.dist} violates the plugin contract: {problem}. "
        "Report this to the plugin's author."
    )
    return PluginLoadError(message, name=plugin.name, dist=plugin.dist)


def _install(verb: str, option: str, dist: str) -> str:
    """Say how to install a distribution; pip is only suggested for those whose owner on the public index is known."""
    if dist in ("tunewright", *_PACKAGES.values()):
        return f"{verb} it: `pip install {option} {dist}`"
    return f"{verb} {dist} from where you have it"


def _wrong_api(name: str, point: importlib.metadata.EntryPoint) -> PluginLoadError:
    dist, theirs = _dist_name(point), point.group.removeprefix("tunewright.")
    older = theirs.removeprefix("v").isdecimal() and int(theirs.removeprefix("v")) < _markers.API
    upgrade = dist if older else "tunewright"
    message = (
        f"Plugin {name!r} of distribution {dist} was made for plugin API {theirs}, and this version of tunewright has "
        f"plugin API v{_markers.API}. {_install('Upgrade', '--upgrade', upgrade)}."
    )
    return PluginLoadError(message, name=name, dist=dist)


def _of_this_api(point: importlib.metadata.EntryPoint) -> bool:
    return point.group == _markers.GROUP


def _dist_name(point: importlib.metadata.EntryPoint) -> str:
    return (point.dist and point.dist.name) or "(no distribution)"


def _package(point: importlib.metadata.EntryPoint) -> str:
    return point.value.partition(":")[0].partition(".")[0].strip()
