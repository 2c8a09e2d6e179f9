"""Fields of a provider: secrets, patterns and flags, and the validators that refuse bad values."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

import attrs

from tunewright.errors import RequestError
from tunewright.plan.secrets import REDACTED, SecretRef, SecretValue, refuse_literal_tokens

Attribute: TypeAlias = "attrs.Attribute[Any]"

_Class = TypeVar("_Class", bound=type)

_METADATA_KEY = "tunewright.secret.env"

_T = TypeVar("_T")


def one_of(*choices: str) -> Callable[[object, Attribute, object], None]:
    """A validator: one of these words."""

    def check(instance: object, attribute: Attribute, value: object) -> None:
        if value not in choices:
            field, remedy = (
                f"{type(instance).__name__}.{attribute.name}",
                f"Write one of {', '.join(map(repr, choices))}.",
            )
            raise RequestError("is not known", field=field, value=value, remedy=remedy)

    return check


def accept_keywords(rewrite: Callable[[dict[str, object]], dict[str, object]]) -> Callable[[_Class], _Class]:
    """Class decorator, above `@attrs.frozen`: let a provider be constructed with other spellings of its keywords.

    Args:
        rewrite: gets the keywords as given and returns those of the class.
    """

    def decorate(cls: _Class) -> _Class:
        original = cls.__init__  # type: ignore[misc]

        @functools.wraps(original)
        def __init__(self: object, **keywords: object) -> None:  # noqa: N807 - it is one
            original(self, **rewrite(keywords))

        cls.__init__ = __init__  # type: ignore[misc]
        return cls

    return decorate


def renamed(**names: str) -> Callable[[dict[str, object]], dict[str, object]]:
    """A rewrite for `accept_keywords`: `renamed(model="uri")` takes `model=` for `uri=`."""

    def rewrite(keywords: dict[str, object]) -> dict[str, object]:
        for old, new in names.items():
            if old in keywords and new in keywords:
                raise RequestError(
                    f"means the same as {new!r}, and both are given", field=old, remedy="Give one of them."
                )
        return {names.get(k, k): v for k, v in keywords.items()}

    return rewrite


def secret(*, env: str) -> Any:  # attrs' own field() is typed so, for class bodies
    """Declare a provider's field as a secret.

        token: str | SecretRef | None = secret(env="ACME_TOKEN")

    The user gives a literal or a `SecretRef`. The field's value shows in no repr, log, wire document, manifest or argv.
    In the container it arrives in the environment variable `env` of that provider's own container alone, and
    `load_config` puts it back into the field as a `str`.
    """
    return attrs.field(
        default=None,
        repr=lambda value: "None" if value is None else repr(value) if isinstance(value, SecretRef) else REDACTED,
        validator=_check_secret,
        metadata={_METADATA_KEY: env},
    )


def _check_secret(instance: object, attribute: attrs.Attribute[object], value: object) -> None:
    field = f"{type(instance).__name__}.{attribute.name}"
    remedy = 'Give the secret itself as a string, or SecretRef(name="…", key="…") for a Kubernetes Secret.'
    if value is not None and not isinstance(value, str | SecretRef):
        raise RequestError(f"must be a string or a SecretRef, not {type(value).__name__}", field=field, remedy=remedy)
    if isinstance(value, str) and (not value or value != value.strip()):
        raise RequestError("is empty or begins or ends with white space", field=field, remedy=remedy)


def secret_fields(cls: type) -> dict[str, str]:
    """The secret fields of an attrs class: field name → environment variable."""
    return {a.name: a.metadata[_METADATA_KEY] for a in attrs.fields(cls) if _METADATA_KEY in a.metadata}


def secret_env(instance: attrs.AttrsInstance) -> dict[str, SecretRef | SecretValue]:
    """The environment variables that carry the secrets given to `instance`."""
    values = ((env, getattr(instance, name)) for name, env in secret_fields(type(instance)).items())
    return {env: v if isinstance(v, SecretRef) else SecretValue(v) for env, v in values if v is not None}


def patterns(value: str | Iterable[str] | None) -> tuple[str, ...]:
    """Converter of an attrs field: one pattern, several, or None for none."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def check_patterns(instance: object, attribute: attrs.Attribute[tuple[str, ...]], value: tuple[object, ...]) -> None:
    """Validator of an attrs field: each pattern is text."""
    for pattern in value:
        if not isinstance(pattern, str) or not pattern:
            remedy = 'Give patterns of relative paths, as in a shell: "*.safetensors".'
            raise RequestError("is not a pattern", field=_name(instance, attribute), value=pattern, remedy=remedy)


@attrs.frozen(kw_only=True, slots=False)  # without slots it can be mixed into providers, which have theirs
class FilePatterns:
    """Which files of a source are fetched.

    Attributes:
        allow_patterns: shell patterns of relative paths (`*` also matches `/`); none: every file.
        ignore_patterns: what is left out of those. A pattern that ends with `/` means everything below the folder.
    """

    allow_patterns: tuple[str, ...] = attrs.field(default=(), converter=patterns, validator=check_patterns)
    ignore_patterns: tuple[str, ...] = attrs.field(default=(), converter=patterns, validator=check_patterns)

    def selects(self, path: str) -> bool:
        """Whether the file of this relative POSIX path is fetched."""
        return (not self.allow_patterns or _matches(path, self.allow_patterns)) and not self.ignores(path)

    def ignores(self, path: str) -> bool:
        """Whether `ignore_patterns` leave this path out; for a folder, end it with `/`."""
        return _matches(path, self.ignore_patterns)


def _matches(path: str, among: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(path, f"{p}*" if p.endswith("/") else p) for p in among)


def check_http_url(instance: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    """Validator of an attrs field: None, or `http(s)://host[:port][/path]` without user, query and fragment."""
    if value is None:
        return
    field, remedy = _name(instance, attribute), "Write https://host[:port], without credentials."
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        raise RequestError("is not a URL", field=field, remedy=remedy)
    if "@" in value:  # the value stays unsaid: it may be a password
        raise RequestError("has a user name or password in it", field=field, remedy=remedy)
    refuse_literal_tokens(value, field, remedy)
    if not _is_http(value):
        raise RequestError("is not an http or https URL of a server", field=field, value=value, remedy=remedy)


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.scheme in ("http", "https") and parts.hostname and parts.port != 0) and not set("?#") & set(
            url
        )
    except ValueError:  # a port that is no number, or half an IPv6 address
        return False


def check_text(instance: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    """Validator of an attrs field: None, or printable text without spaces around it, which is no option of a program."""
    if value is None:
        return
    field, remedy = _name(instance, attribute), "Give it as text, or leave it out."
    if not isinstance(value, str):
        raise RequestError("is not text", field=field, value=value, remedy=remedy)
    refuse_literal_tokens(value, field, "Secrets have fields of their own.")
    if not value or not value.isprintable() or value != value.strip() or value.startswith("-"):
        problem = "is empty, not printable, has spaces around it or begins with '-'"
        raise RequestError(problem, field=field, value=value, remedy=remedy)


def check_flag(instance: object, attribute: attrs.Attribute[bool], value: object) -> None:
    """Validator of an attrs field: True or False, and nothing that is merely true ("no")."""
    if not isinstance(value, bool):
        remedy = "Write True or False."
        raise RequestError("is not a truth value", field=_name(instance, attribute), value=value, remedy=remedy)


def check_together(provider: object, *names: str) -> None:
    """Refuse a credential of which only some parts are given; the message says which, and no value.

    Raises:
        RequestError: some of the fields are None and others are not.
    """
    missing = [name for name in names if getattr(provider, name) is None]
    if missing and len(missing) < len(names):
        field = f"{type(provider).__name__}.{missing[0]}"
        given = " and ".join(name for name in names if name not in missing)
        raise RequestError(f"is missing, and {given} is given", field=field, remedy="Give both, or neither.")


def check_exclusive(provider: object, *names: str) -> None:
    """Refuse more than one of several ways to say who one is; the message shows no value.

    Raises:
        RequestError: more than one of the fields is given.
    """
    given = [name for name in names if getattr(provider, name) not in (None, False)]
    if len(given) > 1:
        field, others = f"{type(provider).__name__}.{given[0]}", " and ".join(given[1:])
        raise RequestError(f"is given together with {others}", field=field, remedy="Give one of them.")


def _name(instance: object, attribute: attrs.Attribute[_T]) -> str:
    return f"{type(instance).__name__}.{attribute.name}"
