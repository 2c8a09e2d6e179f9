"""Helpers with which source plugins parse URIs, paths and git refs, and refuse malicious ones.

No error shows a credential: a value that may contain one is masked or left out.
"""

from __future__ import annotations

import re

import attrs

from tunewright.errors import RequestError
from tunewright.plan.secrets import refuse_literal_tokens

# A password may contain a `/`, so a credential extends to the last `@`. It may also be just a token before the host.
_CREDENTIAL = re.compile(r"://(?:[^@]*:.*|[^/@]*)@")

# git-check-ref-format(1): what the name of a branch or tag must not contain.
_NO_REF = re.compile(r"\.\.|[\x00-\x20\x7f~^:?*\[\\]|^[-/]|/$|//|\.$|@\{|^@$|(?:^|/)\.|\.lock(?:/|$)")

# The scheme of RFC 3986. In `gitlfs+https`, the scheme is `gitlfs` and the transport is `https`.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9.-]*)(?:\+[A-Za-z0-9.+-]*)?:")


@attrs.frozen(kw_only=True)
class UriParts:
    """The parts of a URI, not percent-decoded.

    Attributes:
        transport: what follows the `+` in the scheme: "https" in `gitlfs+https://…`; "" if there is none.
        rest: everything after `://`.
    """

    transport: str
    rest: str

    @property
    def authority(self) -> str:
        """The text before the first `/` of `rest`, such as a bucket, a host or a claim."""
        return self.rest.partition("/")[0]

    @property
    def path(self) -> str:
        """The text after the first `/` of `rest`; "" if there is none."""
        return self.rest.partition("/")[2]


def split_uri(uri: str, *, scheme: str, form: str, field: str, transports: tuple[str, ...] = ("",)) -> UriParts:
    """Split a plugin's URI into its parts.

    Args:
        uri: the URI, as the user wrote it.
        scheme: name of the plugin.
        form: the form of such a URI, for the remedy: "s3://bucket/prefix".
        field: name of the field, for the message.
        transports: the allowed transports, which follow a `+` in the scheme; "" allows none.

    Raises:
        RequestError: it is not a URI with this scheme and one of the transports, or it contains a token.
    """
    if not isinstance(uri, str) or not uri.isprintable() or uri != uri.strip():
        raise bad_uri("is not printable text", uri, field=field, form=form)
    refuse_literal_tokens(uri, field, "Pass credentials in the provider's own fields, not in the URI.")
    before, separator, rest = uri.partition("://")
    transport = before.partition("+")[2].lower()
    if not separator or uri_scheme(uri) != scheme:
        raise bad_uri(f"is not a URI with the scheme {scheme}", uri, field=field, form=form)
    if transport not in transports or before.endswith("+"):
        raise bad_uri("has a transport that this plugin does not support", uri, field=field, form=form)
    return UriParts(transport=transport, rest=rest)


def bad_uri(problem: str, uri: object, *, field: str, form: str) -> RequestError:
    """Return the error for a malformed URI, with any credential in it masked.

    Args:
        problem: what is wrong with the URI, as a clause.
        uri: the URI, as the user wrote it.
        field: name of the field, for the message.
        form: the form of such a URI, for the remedy.
    """
    shown = _CREDENTIAL.sub("://…@", uri) if isinstance(uri, str) else uri
    return RequestError(problem, field=field, value=shown, remedy=f"Write it as {form}.")


def path_problem(path: str) -> str | None:
    """Return why a relative POSIX path is unsafe or invalid, as a clause, or None if it is fine.

    "" is the folder itself, and a single trailing `/` is allowed.
    """
    segments = path.removesuffix("/").split("/") if path else []
    if not path.isprintable() or "\\" in path:
        return "has a backslash or an unprintable character in its path"
    if ".." in segments or "." in segments:
        return "has a '.' or '..' segment in its path"
    if "" in segments:
        return "has an empty segment in its path"
    return None


def ref_problem(ref: str) -> str | None:
    """Return why a name is not a valid git branch, tag or commit, as a clause, or None if it is fine.

    See git-check-ref-format(1).
    """
    if not ref or not ref.isprintable() or _NO_REF.search(ref):
        return f"has the revision {ref!r}, which is not a valid git ref"
    return None


def from_uri_or_field(in_uri: str | None, given: str | None, *, field: str, uri: str) -> str | None:
    """Return a value that the user may give in the URI, in a field of its own, or in both; None if in neither.

    Args:
        in_uri: the value in the URI, or None.
        given: the value of the field, or None.
        field: name of the field, for the message.
        uri: name of the field that holds the URI, for the message.

    Raises:
        RequestError: both are given, and they differ.
    """
    if in_uri is not None and given is not None and in_uri != given:
        raise RequestError(f"differs from the one in {uri}", field=field, value=given, remedy="Pass only one of them.")
    return in_uri if given is None else given


def uri_scheme(uri: str) -> str | None:
    """Return the plugin name that a URI selects: its scheme, up to a `+`, in lowercase. None if it has no scheme."""
    match = _SCHEME.match(uri)
    return match[1].lower() if match else None
