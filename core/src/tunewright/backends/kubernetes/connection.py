"""The way to the API server: a kubeconfig, or the service account of the pod that this process runs in."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tunewright.backends.base import BackendOptions
from tunewright.backends.kubernetes.official import Official, official
from tunewright.errors import RequestError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

_IN_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Connection:
    """A connection that is made on first use, once for all kinds of jobs.

    Args:
        options: what `TrainingClient` was given.
        shared: a connection with other options, whose client to use; None for one of its own.
    """

    def __init__(self, options: BackendOptions, shared: Connection | None = None) -> None:
        self.options = options
        self._shared = shared

    def at(self, namespace: str) -> Connection:
        """Return the same connection for another namespace."""
        return Connection(attrs.evolve(self.options, namespace=namespace), self)

    @property
    def client(self) -> ApiClient:
        """The official client, for its pool of connections and its logins.

        Raises:
            RequestError: there is neither a kubeconfig nor a service account, or the kubeconfig is invalid.
        """
        return self._made[0]

    @property
    def namespace(self) -> str:
        """Where jobs are: as the user says, or else the context or the service account; raises as `client`."""
        return self.options.namespace or self._made[1]

    @functools.cached_property
    def _made(self) -> tuple[ApiClient, str]:
        if self._shared is not None:
            return self._shared._made
        try:
            package = official()
        except ImportError as error:
            problem = "needs the package kubernetes, which is not installed"
            remedy = "Install it: pip install 'tunewright[kubernetes]'"
            raise RequestError(problem, field="backend", value="kubernetes", remedy=remedy) from error
        return _connected(package, self.options)


def _connected(package: Official, options: BackendOptions) -> tuple[ApiClient, str]:
    config = package.config
    explicit = options.config_file is not None or options.context is not None
    try:
        contexts, active = config.list_kube_config_contexts(options.config_file)
        chosen = next((c for c in contexts if c["name"] == options.context), active)
        return config.new_client_from_config(options.config_file, options.context), _namespace(chosen)
    except (config.ConfigException, OSError, KeyError, TypeError) as error:
        if not explicit and _IN_POD.exists():
            settings = package.configuration()
            config.load_incluster_config(client_configuration=settings)
            return package.api_client(settings), _IN_POD.read_text("utf-8").strip()
        problem = f"no usable kubeconfig was found: {str(error).rstrip('.')}"
        remedy = 'Give config_file= and context=, or set KUBECONFIG; without a cluster, use backend="local" (--backend local).'
        field = "context" if options.context else "config_file"
        raise RequestError(problem, field=field, value=options.context or options.config_file, remedy=remedy) from error


def _namespace(context: Mapping[str, Any]) -> str:
    return str(context["context"].get("namespace") or "default")
