"""URIs, paths and patterns: what source plugins share in reading them, and in refusing hostile ones.

Nothing here shows a credential: an error leaves out, or masks, whatever may hold one.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from typing import TypeVar
from urllib.parse import urlsplit

import attrs

from tunewright._validate import one_of as one_of  # noqa: PLC0414 - plugins take it from here
from tunewright.errors import RequestError
from tunewright.providers import SourceProvider, uri_scheme
from tunewright.secret import refuse_literal_tokens

_T = TypeVar("_T")

# A password may hold a `/`, so a credential reaches to the last `@`; a token alone may stand before the host.
_CREDENTIAL = re.compile(r"://(?:[^@]*:.*|[^/@]*)@")
# git-check-ref-format(1): what no name of a branch or tag has.
_NO_REF = re.compile(r"\.\.|[\x00-\x20\x7f~^:?*\[\\]|^[-/]|/$|//|\.$|@\{|^@$|(?:^|/)\.|\.lock(?:/|$)")


@attrs.frozen(kw_only=True)
class UriParts:
    """A URI taken apart; nothing in it is decoded.

    Attributes:
        transport: what follows the `+` of the scheme: "https" in `gitlfs+https://…`, otherwise "".
        rest: everything after `://`.
    """

    transport: str
    rest: str

    @property
    def authority(self) -> str:
        """The text before the first `/` of `rest`: a bucket, a host, a claim."""
        return self.rest.partition("/")[0]

    @property
    def path(self) -> str:
        """The text after the first `/` of `rest`; "" where there is none."""
        return self.rest.partition("/")[2]


def split_uri(uri: str, *, scheme: str, form: str, field: str, transports: tuple[str, ...] = ("",)) -> UriParts:
    """Take a plugin's URI apart.

    Args:
        uri: what the user wrote.
        scheme: the plugin's name.
        form: how such a URI is written, for the remedy: "s3://bucket/prefix".
        field: what the user calls it.
        transports: what may follow the scheme after a `+`; "" is nothing.

    Raises:
        RequestError: it is not text of this scheme with one of the transports, or holds a credential.
    """
    if not isinstance(uri, str) or not uri.isprintable() or uri != uri.strip():
        raise bad_uri("is not printable text", uri, field=field, form=form)
    refuse_literal_tokens(uri, field, "Credentials have fields of their own and do not go into the URI.")
    before, separator, rest = uri.partition("://")
    transport = before.partition("+")[2].lower()
    if not separator or uri_scheme(uri) != scheme:
        raise bad_uri(f"is not a URI of the scheme {scheme}", uri, field=field, form=form)
    if transport not in transports or before.endswith("+"):
        raise bad_uri("has no transport that this plugin takes", uri, field=field, form=form)
    return UriParts(transport=transport, rest=rest)


def uris_of(provider: SourceProvider) -> list[tuple[str, str]]:
    """A provider's own URI and, where it has one, its `eval_dataset`, each with the field's name for messages."""
    given = ((name, getattr(provider, name, None)) for name in ("uri", "eval_dataset"))
    return [(f"{type(provider).__name__}.{name}", uri) for name, uri in given if uri is not None]


def bad_uri(problem: str, uri: object, *, field: str, form: str) -> RequestError:
    """The error for a URI that is not of its form."""
    shown = _CREDENTIAL.sub("://…@", uri) if isinstance(uri, str) else uri
    return RequestError(problem, field=field, value=shown, remedy=f"Write it as {form}.")


def path_problem(path: str) -> str | None:
    """Why a relative POSIX path is refused, as a clause, or None: it could leave its folder, or names no file.

    "" is the folder itself, and one trailing `/` is taken.
    """
    segments = path.removesuffix("/").split("/") if path else []
    if not path.isprintable() or "\\" in path:
        return "has a backslash or a character that cannot be printed in its path"
    if ".." in segments or "." in segments:
        return "has a segment '.' or '..' in its path"
    if "" in segments:
        return "has an empty segment in its path"
    return None


def ref_problem(ref: str) -> str | None:
    """Why a name is refused as a git branch, tag or commit, as a clause, or None. See git-check-ref-format(1)."""
    if not ref or not ref.isprintable() or _NO_REF.search(ref):
        return f"has {ref!r} as its revision, which git does not take as a name"
    return None


def from_uri_or_field(in_uri: str | None, given: str | None, *, field: str, uri: str) -> str | None:
    """A value that the URI and a field of its own may both give.

    Raises:
        RequestError: they differ.
    """
    if in_uri is not None and given is not None and in_uri != given:
        raise RequestError(f"differs from the one in {uri}", field=field, value=given, remedy="Give one of them.")
    return in_uri if given is None else given


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
