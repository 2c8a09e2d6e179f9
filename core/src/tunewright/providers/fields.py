"""Declare and validate the fields of a provider: secrets, file patterns, flags and text."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

import attrs

from tunewright import environment
from tunewright.errors import RequestError
from tunewright.plan.secrets import REDACTED, SecretRef, SecretValue, refuse_literal_tokens

Attribute: TypeAlias = "attrs.Attribute[Any]"

_Class = TypeVar("_Class", bound=type)

_METADATA_KEY = "tunewright.secret.env"

# Variables by which Python, the shell, the launcher and torchrun find what they need.
_OF_THE_LAUNCHER = [
    text for text in vars(environment).values() if isinstance(text, str) and text.startswith("TUNEWRIGHT_")
]
_OF_OTHERS = re.compile(
    rf"PATH|HOME|USER|SHELL|PWD|TMPDIR|LANG|LC_.*|LD_.*|PYTHON.*|{environment.LAUNCHERS_OWN}|{'|'.join(_OF_THE_LAUNCHER)}"
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_T = TypeVar("_T")


def one_of(*choices: str) -> Callable[[object, Attribute, object], None]:
    """Return a validator of an attrs field that accepts only these values."""
    return _OneOf(choices)


@attrs.frozen
class _OneOf:
    """A validator whose choices the JSON schema of the class can list."""

    choices: tuple[str, ...]

    def __call__(self, instance: object, attribute: Attribute, value: object) -> None:
        if value not in self.choices:
            field, remedy = _name(instance, attribute), f"Write one of {', '.join(map(repr, self.choices))}."
            raise RequestError("is not a valid choice", field=field, value=value, remedy=remedy)


def accept_keywords(
    rewrite: Callable[[dict[str, object]], dict[str, object]], *, spellings: Iterable[str] = ()
) -> Callable[[_Class], _Class]:
    """Return a class decorator that lets a provider accept other spellings of its keywords.

    Apply it above `@attrs.frozen`:

        @accept_keywords(renamed(model="uri"))
        @attrs.frozen(kw_only=True)
        class AcmeModel(ModelProvider): ...

    Args:
        rewrite: receives the keywords that the user passed, and returns those of the class.
        spellings: the keywords that it accepts besides those of the class, for the JSON schema of job files. Those of
            `renamed` are known.
    """
    others = (*spellings, *getattr(rewrite, "spellings", ()))

    def decorate(cls: _Class) -> _Class:
        original = cls.__init__  # type: ignore[misc]

        @functools.wraps(original)
        def __init__(self: object, **keywords: object) -> None:  # noqa: N807 - it is one
            original(self, **rewrite(keywords))

        cls.__init__ = __init__  # type: ignore[misc]
        cls.__other_spellings__ = others  # type: ignore[attr-defined]
        return cls

    return decorate


def renamed(**names: str) -> Callable[[dict[str, object]], dict[str, object]]:
    """Return a `rewrite` for `accept_keywords` that renames keywords: `renamed(model="uri")` turns `model=` into `uri=`.

    The `rewrite` raises RequestError if a keyword is passed under both names.
    """

    def rewrite(keywords: dict[str, object]) -> dict[str, object]:
        for old, new in names.items():
            if old in keywords and new in keywords:
                raise RequestError(
                    f"means the same as {new!r}, and both are given", field=old, remedy="Pass only one of them."
                )
        return {names.get(k, k): v for k, v in keywords.items()}

    vars(rewrite)["spellings"] = tuple(names)
    return rewrite


def secret(*, env: str) -> Any:  # typed like attrs.field(), for use in class bodies
    """Declare a field of a provider as a secret.

        token: str | SecretRef | None = secret(env="ACME_TOKEN")

    The user passes a literal or a `SecretRef`. The value never appears in a repr, log, wire document, manifest or command
    line. It reaches the container as the environment variable `env`, which only the provider's own container receives.
    There, `load_config` restores the field as a `str`.

    Args:
        env: name of the environment variable.

    Raises:
        ValueError: no variable can have that name, or another program in the container reads it.
    """
    if not _VARIABLE.fullmatch(env) or _OF_OTHERS.fullmatch(env):
        raise ValueError(
            f"secret(env={env!r}): name it after your service, such as ACME_TOKEN, in letters, digits and underscores."
        )
    return attrs.field(
        default=None,
        repr=lambda value: "None" if value is None else repr(value) if isinstance(value, SecretRef) else REDACTED,
        validator=_check_secret,
        metadata={_METADATA_KEY: env},
    )


def _check_secret(instance: object, attribute: attrs.Attribute[object], value: object) -> None:
    field = f"{type(instance).__name__}.{attribute.name}"
    remedy = 'Pass the secret itself as a string, or SecretRef(name="…", key="…") for a Kubernetes Secret.'
    if value is not None and not isinstance(value, str | SecretRef):
        raise RequestError(f"must be a string or a SecretRef, not {type(value).__name__}", field=field, remedy=remedy)
    if isinstance(value, str) and (not value or value != value.strip()):
        raise RequestError("is empty, or has leading or trailing whitespace", field=field, remedy=remedy)


def secret_fields(cls: type) -> dict[str, str]:
    """Return the secret fields of an attrs class: field name → environment variable."""
    return {a.name: a.metadata[_METADATA_KEY] for a in attrs.fields(cls) if _METADATA_KEY in a.metadata}


def secret_env(instance: attrs.AttrsInstance) -> dict[str, SecretRef | SecretValue]:
    """Return the environment variables that carry the secrets of `instance`; secrets that are None are left out."""
    values = ((env, getattr(instance, name)) for name, env in secret_fields(type(instance)).items())
    return {env: v if isinstance(v, SecretRef) else SecretValue(v) for env, v in values if v is not None}


def patterns(value: str | Iterable[str] | None) -> tuple[str, ...]:
    """Convert an attrs field to a tuple of patterns: from one pattern, from several, or from None for no patterns."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def check_patterns(instance: object, attribute: attrs.Attribute[tuple[str, ...]], value: tuple[object, ...]) -> None:
    """Check that each pattern is a string that is not empty. For use as the validator of an attrs field."""
    for pattern in value:
        if not isinstance(pattern, str) or not pattern:
            remedy = 'Pass shell patterns of relative paths: "*.safetensors".'
            raise RequestError("is not a pattern", field=_name(instance, attribute), value=pattern, remedy=remedy)


@attrs.frozen(kw_only=True, slots=False)  # two base classes with slots cannot be combined, and providers have them
class FilePatterns:
    """Select the files of a source to fetch. Mix it into a provider.

    Attributes:
        allow_patterns: shell patterns of the relative paths to fetch, in which `*` also matches `/`. Empty for all files.
        ignore_patterns: shell patterns of the relative paths to leave out. A pattern that ends with `/` stands for
            everything below that folder.
    """

    allow_patterns: tuple[str, ...] = attrs.field(default=(), converter=patterns, validator=check_patterns)
    ignore_patterns: tuple[str, ...] = attrs.field(default=(), converter=patterns, validator=check_patterns)

    def selects(self, path: str) -> bool:
        """Return whether to fetch the file with this relative POSIX path."""
        return (not self.allow_patterns or _matches(path, self.allow_patterns)) and not self.ignores(path)

    def ignores(self, path: str) -> bool:
        """Return whether `ignore_patterns` leave out this relative POSIX path. The path of a folder ends with `/`."""
        return _matches(path, self.ignore_patterns)


def _matches(path: str, among: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(path, f"{p}*" if p.endswith("/") else p) for p in among)


def check_http_url(instance: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    """Check that a value is None, or `http(s)://host[:port][/path]` without a user name, query or fragment.

    For use as the validator of an attrs field.
    """
    if value is None:
        return
    field, remedy = _name(instance, attribute), "Write https://host[:port], without credentials."
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        raise RequestError("is not a URL", field=field, remedy=remedy)
    if "@" in value:  # the message omits the value, which may be a password
        raise RequestError("contains a user name or password", field=field, remedy=remedy)
    refuse_literal_tokens(value, field, remedy)
    if not _is_http(value):
        raise RequestError("is not the http or https URL of a server", field=field, value=value, remedy=remedy)


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.scheme in ("http", "https") and parts.hostname and parts.port != 0) and not set("?#") & set(
            url
        )
    except ValueError:  # a port that is not a number, or an incomplete IPv6 address
        return False


def check_text(instance: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    """Check that a value is None or printable text, without surrounding spaces, that does not look like an option.

    For use as the validator of an attrs field.
    """
    if value is None:
        return
    field, remedy = _name(instance, attribute), "Pass it as a string, or leave it out."
    if not isinstance(value, str):
        raise RequestError("is not a string", field=field, value=value, remedy=remedy)
    refuse_literal_tokens(value, field, "Use the provider's field for secrets.")
    if not value or not value.isprintable() or value != value.strip() or value.startswith("-"):
        problem = "is empty, is not printable, has leading or trailing spaces, or starts with '-'"
        raise RequestError(problem, field=field, value=value, remedy=remedy)


def check_flag(instance: object, attribute: attrs.Attribute[bool], value: object) -> None:
    """Check that a value is True or False, and not merely truthy, such as "no".

    For use as the validator of an attrs field.
    """
    if not isinstance(value, bool):
        remedy = "Write True or False."
        raise RequestError("is not a boolean", field=_name(instance, attribute), value=value, remedy=remedy)


def check_together(provider: object, *names: str) -> None:
    """Refuse a credential that is only partly given. The message names the missing part, and shows no value.

    Args:
        provider: the provider.
        *names: the fields that belong together.

    Raises:
        RequestError: some of the fields are None and others are not.
    """
    missing = [name for name in names if getattr(provider, name) is None]
    if missing and len(missing) < len(names):
        field = f"{type(provider).__name__}.{missing[0]}"
        given = " and ".join(name for name in names if name not in missing)
        raise RequestError(f"is missing, but {given} was given", field=field, remedy="Pass both, or neither.")


def check_exclusive(provider: object, *names: str) -> None:
    """Refuse more than one of several ways to authenticate. The message shows no value.

    Args:
        provider: the provider.
        *names: the fields of which at most one may be given. None and False count as not given.

    Raises:
        RequestError: more than one of the fields is given.
    """
    given = [name for name in names if getattr(provider, name) not in (None, False)]
    if len(given) > 1:
        field, others = f"{type(provider).__name__}.{given[0]}", " and ".join(given[1:])
        raise RequestError(f"cannot be combined with {others}", field=field, remedy="Pass only one of them.")


def _name(instance: object, attribute: attrs.Attribute[_T]) -> str:
    return f"{type(instance).__name__}.{attribute.name}"
