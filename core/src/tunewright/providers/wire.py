"""The wire format, in which the client sends a provider to a container: as a file, never as an argument.

    {"api": 1, "distribution": "tunewright-s3", "kind": "model", "params": {…}, "provider": "s3", "version": "0.1.0"}

It is canonical JSON (sorted keys, no spaces, UTF-8), so that equal requests give equal bytes. It contains no secrets.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin

import attrs

from tunewright._canonical import digest, dumps
from tunewright._markers import API
from tunewright.errors import ExitCode, FetchError, RequestError, did_you_mean
from tunewright.events import Json
from tunewright.plan.secrets import SecretRef, SecretValue, refuse_literal_tokens
from tunewright.providers.fields import secret_fields

if TYPE_CHECKING:
    from cattrs import Converter

_T = TypeVar("_T")

# Fields of `SourceProvider` that say how to fetch rather than what.
_MANNER = ("policy", "verify")

CLIENT_ONLY = "tunewright.client_only"
"""Metadata key that marks a provider's field as used only on the client. Such a field is not sent to the container."""


@attrs.frozen(kw_only=True)
class WireDocument:
    """A provider, as it is sent to a container.

    Attributes:
        kind: "model", "dataset" or "trainer".
        provider: registry name of the plugin.
        distribution: the plugin's distribution on the client.
        version: version of that distribution. The launcher refuses any other.
        params: the provider's fields that differ from their defaults, without secrets.
    """

    kind: str = attrs.field(validator=attrs.validators.instance_of(str))
    provider: str = attrs.field(validator=attrs.validators.instance_of(str))
    distribution: str = attrs.field(validator=attrs.validators.instance_of(str))
    version: str = attrs.field(validator=attrs.validators.instance_of(str))
    params: Mapping[str, Json] = attrs.field(validator=attrs.validators.instance_of(dict))

    def dumps(self) -> str:
        """Return the document as canonical JSON."""
        return dumps({"api": API, **attrs.asdict(self, recurse=False)})

    def request_digest(self) -> str:
        """Return a digest of what is requested, as 64 hexadecimal digits, to compare slots and shared folders.

        It covers the provider, the distribution and the params. Secrets, versions, `policy` and `verify` are left out, as
        they do not change what is fetched.
        """
        manner = () if self.kind == "trainer" else _MANNER
        params = {k: v for k, v in self.params.items() if k not in manner}
        return digest({"provider": self.provider, "distribution": self.distribution, "params": params})

    @classmethod
    def loads(cls, text: str) -> WireDocument:
        """Parse the output of `dumps`.

        Raises:
            FetchError: the text is not such a document, or was written for another API version.
        """
        try:
            document = dict(json.loads(text))
            api = document.pop("api")
            if api != API:
                versions = f"The client wrote API version {api!r}, and this image supports API version {API}."
                raise FetchError(
                    "The job's configuration has an unsupported version.",
                    remedy=f"{versions} Use the same release of tunewright on both sides.",
                    code=ExitCode.USAGE,
                )
            return cls(**document)
        except (ValueError, KeyError, TypeError) as error:
            cause = f"The job's configuration is not a wire document: {error!r}."
            raise FetchError(cause, remedy="Submit the job again.", code=ExitCode.BAD_DATA) from error


def unstructure(provider: attrs.AttrsInstance, field: str) -> dict[str, Json]:
    """Return a provider's params as JSON values: the fields that differ from their defaults.

    Secret fields and `CLIENT_ONLY` fields are left out.

    Args:
        provider: the instance.
        field: what the user calls it ("model"), for the message.

    Raises:
        RequestError: a field is not JSON-serializable, does not have its declared type, or contains a literal token.
    """
    changed = [a for a in _sent(type(provider)) if _default(a, provider) != getattr(provider, a.name)]
    params = _values(provider, changed, field)
    _typed(params, type(provider))  # refuse here what the container would refuse
    return params


def field_values(provider: attrs.AttrsInstance, field: str) -> dict[str, Json]:
    """Return all fields of a provider that may be sent, as JSON values; raises as `unstructure`."""
    return _values(provider, _sent(type(provider)), field)


def _sent(cls: type[attrs.AttrsInstance]) -> list[attrs.Attribute[object]]:
    hidden = secret_fields(cls)
    return [a for a in attrs.fields(cls) if a.name not in hidden and CLIENT_ONLY not in a.metadata]


def _values(provider: attrs.AttrsInstance, attributes: list[attrs.Attribute[object]], field: str) -> dict[str, Json]:
    hidden = ", ".join(secret_fields(type(provider)))
    return {a.name: _plain(getattr(provider, a.name), f"{field}.{a.name}", hidden) for a in attributes}


def _plain(value: object, field: str, hidden: str) -> Json:
    """Return a field's value as JSON gives it back; raise as `unstructure`."""
    remedy = f"Pass secrets in {hidden or 'a field declared with secret()'}, or use a SecretRef to a Kubernetes Secret."
    try:
        sent = _converter().unstructure(value)
        refuse_literal_tokens(sent, field, remedy)
        plain: Json = json.loads(dumps({"": sent}).encode())[""]
    except _SecretInParamsError as error:
        raise RequestError("contains a secret, but is not a secret field", field=field, remedy=remedy) from error
    except (TypeError, ValueError, RecursionError) as error:
        remedy = "Use only strings, numbers, booleans, None, and lists and dicts of them."
        raise RequestError(f"is not JSON-serializable: {error}", field=field, remedy=remedy) from error
    return plain


def _default(attribute: attrs.Attribute[object], provider: attrs.AttrsInstance) -> object:
    default: Any = attribute.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return default.factory(provider) if default.takes_self else default.factory()
    return default


class _SecretInParamsError(Exception):
    """A SecretValue or SecretRef in a field that is not secret."""


def _refuse_secret(_: object) -> Json:
    raise _SecretInParamsError


def structure(cls: type[_T], params: Mapping[str, Json], secrets: Mapping[str, str]) -> _T:
    """Return an instance made from params and from the secrets in the environment: the inverse of `unstructure`.

    Raises:
        RequestError: a field is unknown, missing or has the wrong type.
    """
    # A Secret that was made of a file ends in the file's last line break, which belongs to no credential.
    given = {name: secrets[env].rstrip("\r\n") for name, env in secret_fields(cls).items() if env in secrets}
    values: dict[str, object] = {**given}
    values |= _typed(params, cls)
    try:
        return cls(**values)
    except TypeError as error:  # a field without a default is missing
        problem = f"cannot be created: {error}"
        raise RequestError(problem, field=cls.__name__, remedy="Pass the missing field.") from error


def _typed(params: Mapping[str, Json], cls: type) -> dict[str, object]:
    """Convert the params to the types of the class's fields."""
    try:
        fields = {a.name: a for a in attrs.fields(attrs.resolve_types(cls))}
    except NameError as error:
        remedy = "Its author must import the names in its annotations at run time, not only under TYPE_CHECKING."
        raise RequestError(
            f"has an annotation that cannot be resolved: {error}", field=cls.__name__, remedy=remedy
        ) from error
    values: dict[str, object] = {}
    for name, value in params.items():
        if name not in fields:
            raise RequestError("is not a field of " + cls.__name__, field=name, remedy=did_you_mean(name, fields))
        values[name] = _structure_field(value, fields[name], cls)
    return values


def _structure_field(value: Json, attribute: attrs.Attribute[object], cls: type) -> object:
    # A field with a converter accepts raw values by definition.
    if attribute.converter is not None or attribute.type is None:
        return value
    if _is_plainly(value, attribute.type):
        return value
    try:
        return _converter().structure(value, attribute.type)
    except Exception as error:  # cattrs raises many classes, all of which mean that the type is wrong
        if unknown := _unknown_key(error):
            name, known = unknown
            field = f"{cls.__name__}.{attribute.name}.{name}"
            problem = f"is not a field of {known.__name__}"
            raise RequestError(problem, field=field, remedy=did_you_mean(name, attrs.fields_dict(known))) from error
        expected = attribute.type.__name__ if type(attribute.type) is type else str(attribute.type)
        field, remedy = f"{cls.__name__}.{attribute.name}", f"Pass a value of type {expected}."
        if _is_unsupported(error):
            remedy = "Its author has to choose one of the types that the plugin contract lists."
            raise RequestError(f"has the type {expected}, which cannot be sent", field=field, remedy=remedy) from error
        raise RequestError(f"is not of type {expected}", field=field, value=value, remedy=remedy) from error


def _unknown_key(error: BaseException) -> tuple[str, type[attrs.AttrsInstance]] | None:
    """Return a key that a nested class does not have, and the class, if that is what cattrs refuses."""
    from cattrs import ForbiddenExtraKeysError

    if isinstance(error, ForbiddenExtraKeysError) and attrs.has(error.cl):
        return min(map(str, error.extra_fields)), error.cl
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return next(filter(None, map(_unknown_key, inner)), None)


def _is_unsupported(error: BaseException) -> bool:
    from cattrs import StructureHandlerNotFoundError

    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return isinstance(error, StructureHandlerNotFoundError) or any(map(_is_unsupported, inner))


def _is_plainly(value: Json, kind: Any) -> bool:
    """Return whether a value already has its plain type. Most fetches need no more, which saves 8 ms to import cattrs."""
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return type(value) in (str, bool, int, float) and type(value) in kinds


@functools.cache
def _converter() -> Converter:
    from cattrs.preconf.json import make_converter
    from cattrs.strategies import configure_union_passthrough

    converter = make_converter(omit_if_default=True, forbid_extra_keys=True)
    configure_union_passthrough(str | int | float | bool | None, converter)
    for secret in (SecretValue, SecretRef):
        converter.register_unstructure_hook(secret, _refuse_secret)
    # Sets have no order, but equal requests must give equal bytes.
    converter.register_unstructure_hook_func(
        _is_set, lambda items: sorted((converter.unstructure(item) for item in items), key=dumps)
    )
    # cattrs would convert "3" to 3, and "no" to True.
    for kind, taken in {bool: (bool,), int: (int,), float: (float, int), str: (str,)}.items():
        converter.register_structure_hook(kind, functools.partial(_exactly, taken))
    converter.register_structure_hook_func(_is_any_json, lambda value, _: value)
    return converter


def _is_any_json(kind: Any) -> bool:
    # `Json` is a recursive type, which cattrs does not support.
    parts = get_args(kind)
    scalars, groups = {type(None), bool, int, float, str}, {list, dict}
    return kind is object or (scalars <= set(parts) and groups <= {get_origin(part) for part in parts})


def _is_set(kind: Any) -> bool:
    return kind in (set, frozenset) or get_origin(kind) in (set, frozenset)


def _exactly(types: tuple[type, ...], value: object, _: type) -> Any:
    if type(value) not in types:
        raise TypeError(f"it is a {type(value).__name__}")
    return value
