"""The wire format: how a provider travels from the client into a container, as a file and never as an argument.

    {"api": 1, "distribution": "tunewright-s3", "kind": "model", "params": {…}, "provider": "s3", "version": "0.1.0"}

It is canonical JSON (sorted keys, no spaces, UTF-8), so equal requests give equal bytes. Secrets are not in it.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import attrs

from tunewright.errors import ExitCode, FetchError, RequestError
from tunewright.events import Json
from tunewright.hookspecs import API
from tunewright.secret import refuse_literal_tokens, secret_fields

if TYPE_CHECKING:
    from cattrs import Converter

_T = TypeVar("_T")


@attrs.frozen(kw_only=True)
class WireDocument:
    """One provider on its way to a container.

    Attributes:
        kind: "model", "dataset" or "trainer".
        provider: the plugin's registry name.
        distribution: the distribution that the client found the plugin in.
        version: that distribution's version; the launcher refuses another.
        params: the provider's fields that differ from their defaults, without secrets.
    """

    kind: str
    provider: str
    distribution: str
    version: str
    params: Mapping[str, Json]

    def dumps(self) -> str:
        """Canonical JSON."""
        return dumps({"api": API, **attrs.asdict(self, recurse=False)})

    @classmethod
    def loads(cls, text: str) -> WireDocument:
        """Read what `dumps` wrote.

        Raises:
            FetchError: it is of another api, or no such document.
        """
        try:
            document = dict(json.loads(text))
            api = document.pop("api")
            if api != API:
                versions = f"The client wrote api {api!r}, this image understands api {API}."
                raise FetchError(
                    "The job's configuration is of another version.",
                    remedy=f"{versions} Use the same release of tunewright on both sides.",
                    code=ExitCode.USAGE,
                )
            return cls(**document)
        except (ValueError, KeyError, TypeError) as error:
            cause = f"The job's configuration is not a wire document: {error!r}."
            raise FetchError(cause, remedy="Submit the job again.", code=ExitCode.BAD_DATA) from error


def dumps(value: object) -> str:
    """Canonical JSON: the same value gives the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def unstructure(provider: attrs.AttrsInstance, field: str) -> dict[str, Json]:
    """A provider's params: its fields that differ from their defaults, without secrets, as JSON values.

    Args:
        provider: the instance.
        field: what the user calls it ("model"), for messages.

    Raises:
        RequestError: a field holds something that JSON does not have, or a literal token.
    """
    hidden = secret_fields(type(provider))
    given = {a.name: getattr(provider, a.name) for a in attrs.fields(type(provider)) if a.name not in hidden}
    defaults = {a.name: a.default for a in attrs.fields(type(provider)) if not isinstance(a.default, attrs.Factory)}  # type: ignore[arg-type]
    params = {k: _converter().unstructure(v) for k, v in given.items() if k not in defaults or defaults[k] != v}
    names = ", ".join(hidden) or "a field declared with secret()"
    refuse_literal_tokens(params, field, f"Secrets go into {names}, or use a SecretRef to a Kubernetes Secret.")
    try:
        return dict(json.loads(dumps(params)))
    except (TypeError, ValueError) as error:
        raise RequestError(f"cannot travel as JSON: {error}", field=field, remedy="Use plain values.") from error


def structure(cls: type[_T], params: Mapping[str, Json], secrets: Mapping[str, str]) -> _T:
    """The inverse of `unstructure`: params, and secrets from the environment, to an instance.

    Raises:
        RequestError: a field is unknown or has the wrong type.
    """
    fields = {a.name: a for a in attrs.fields(attrs.resolve_types(cls))}  # type: ignore[type-var,arg-type]
    values: dict[str, object] = {k: secrets[env] for k, env in secret_fields(cls).items() if env in secrets}
    for name, value in params.items():
        if name not in fields:
            raise RequestError("is not a field of " + cls.__name__, field=name, remedy=did_you_mean(name, fields))
        values[name] = _structure_field(value, fields[name], cls)
    return cls(**values)


def _structure_field(value: Json, attribute: attrs.Attribute[object], cls: type) -> object:
    # A converter takes raw values by definition: it is the class's own way in.
    if attribute.converter is not None or attribute.type is None:
        return value
    try:
        return _converter().structure(value, attribute.type)
    except Exception as error:  # cattrs raises many kinds; all mean: not that type
        problem = f"is not a {getattr(attribute.type, '__name__', attribute.type)}"
        raise RequestError(problem, field=f"{cls.__name__}.{attribute.name}", value=value, remedy=str(error)) from error


def did_you_mean(name: str, known: Mapping[str, object] | list[str]) -> str:
    """The question whether a close name was meant, or the list of what there is."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(sorted(known))}."


@functools.cache
def _converter() -> Converter:
    from cattrs.preconf.json import make_converter
    from cattrs.strategies import configure_union_passthrough

    converter = make_converter(omit_if_default=True)
    configure_union_passthrough(str | int | float | bool | None, converter)
    return converter
