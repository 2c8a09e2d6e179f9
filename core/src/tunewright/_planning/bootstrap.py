"""The init container that installs what an image lacks: plugins of train(), packages of create_job()."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import quote

from tunewright import environment
from tunewright.plan import images
from tunewright.plan.plan import RUNNER_FILE, ContainerSpec
from tunewright.plan.secrets import EnvValue
from tunewright.plugins.wheels import Wheel
from tunewright.providers.base import Provider
from tunewright.request.request import CodeRequest, Origin, TrainRequest
from tunewright.runner.install import WHEELS_FOLDER

RUNNER = ("python3", f"$({environment.CONFIG})/{RUNNER_FILE}")
NO_WHEELS: Mapping[str, Wheel] = MappingProxyType({})


def unbundled(request: TrainRequest) -> list[tuple[Origin, Provider]]:
    """Return the providers whose containers have an image of ours, which lacks their plugin."""
    chosen: list[tuple[Origin, Provider]] = [(s.plugin, s.provider) for s in request.sources.values()]
    if request.image is None:  # the user's own image holds the plugins of the trainer and of the upload
        chosen.append((request.trainer.plugin, request.trainer.provider))
        if request.output_target:
            chosen.append((request.output_target.plugin, request.output_target.provider))
    return [(p, provider) for p, provider in chosen if provider.image is None and p.dist not in images.BUNDLED]


def bootstrap(request: TrainRequest, wheels: Mapping[str, Wheel]) -> ContainerSpec | None:
    """Return the init container that installs the plugins that images lack; None if they lack none."""
    extras: dict[tuple[str, str], set[str]] = {}
    for plugin, provider in unbundled(request):
        extras.setdefault((plugin.dist, plugin.version), set()).update({provider.extra} if provider.extra else ())
    wanted = [_requirement(dist, version, found, wheels.get(dist)) for (dist, version), found in sorted(extras.items())]
    return _pip("install-plugins", images.storage(), wanted, None, request.init_env) if wanted else None


def _requirement(dist: str, version: str, extras: set[str], wheel: Wheel | None) -> str:
    """Return what pip installs: the wheel that the job carries, with its digest, or else this version from the index."""
    name = f"{dist}[{','.join(sorted(extras))}]" if extras else dist
    if wheel is None:
        return f"{name}=={version}"
    return f"{name} @ file://{WHEELS_FOLDER}/{quote(wheel.name)}#sha256={wheel.sha256}"


def install_packages(request: CodeRequest, image: str) -> ContainerSpec:
    """Return the init container that installs the packages of `create_job()`."""
    return _pip("install-packages", image, request.packages_to_install, request.pip_index_url, request.init_env)


def _pip(
    name: str,
    image: str,
    requirements: tuple[str, ...] | list[str],
    index: str | None,
    env: Mapping[str, EnvValue],
) -> ContainerSpec:
    """Return an init container that installs packages. If pip itself were the command, a failure would restart it forever."""
    options = ("--index-url", literal(index)) if index else ()
    target = f"$({environment.PACKAGES})"
    # After `--`, a requirement that begins with a hyphen is not an option.
    command = (
        *RUNNER,
        "--install",
        name,
        "--",
        "python3",
        "-m",
        "pip",
        "install",
        "--no-cache-dir",
        "--target",
        target,
        *options,
        "--",
        *map(literal, requirements),
    )
    return ContainerSpec(name=name, image=image, command=command, env=env)


def literal(word: str) -> str:
    """Escape a word of a command against Kubernetes' expansion of `$(NAME)`."""
    return word.replace("$", "$$")
