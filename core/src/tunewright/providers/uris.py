"""URIs, paths and patterns: what source plugins share in reading them, and in refusing hostile ones.

Nothing here shows a credential: an error leaves out, or masks, whatever may hold one.
"""

from __future__ import annotations

import re

import attrs

from tunewright.errors import RequestError
from tunewright.plan.secrets import refuse_literal_tokens

# A password may hold a `/`, so a credential reaches to the last `@`; a token alone may stand before the host.
_CREDENTIAL = re.compile(r"://(?:[^@]*:.*|[^/@]*)@")

# git-check-ref-format(1): what no name of a branch or tag has.
_NO_REF = re.compile(r"\.\.|[\x00-\x20\x7f~^:?*\[\\]|^[-/]|/$|//|\.$|@\{|^@$|(?:^|/)\.|\.lock(?:/|$)")

# RFC 3986's scheme; `gitlfs+https` is scheme `gitlfs` over https.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9.-]*)(?:\+[A-Za-z0-9.+-]*)?:")


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


def uri_scheme(uri: str) -> str | None:
    """The registry name that a URI selects: its scheme, before a `+`. None if there is no scheme."""
    match = _SCHEME.match(uri)
    return match[1].lower() if match else None
