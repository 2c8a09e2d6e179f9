"""The providers behind `https://` and `http://`: their fields, validated before anything is created."""

# ruff: noqa: RUF009 - secret() makes an attrs field
from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from tunewright import DatasetProvider, ModelProvider, RequestError, SecretRef, secret
from tunewright.providers import (
    FilePatterns,
    OutputTarget,
    Snapshot,
    SnapshotSource,
    Store,
    accept_keywords,
    check_exclusive,
    check_flag,
    check_text,
    check_together,
    renamed,
    uris_of,
)
from tunewright_http.uri import parse_uri, query_id, split_query

if TYPE_CHECKING:
    from tunewright_http.server import Server

_SECRETS = ("token", "username", "password", "query")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_APART = "Pass eval_dataset= to train(), as a source of its own."


def _other_spellings(slot: str) -> Callable[[dict[str, object]], dict[str, object]]:
    """Return a rewrite that takes `slot` for `uri`, and moves the query of a URL, which may hold a signature, to its field."""
    rename = renamed(**{slot: "uri"})

    def rewrite(keywords: dict[str, object]) -> dict[str, object]:
        given = rename(keywords)
        queries: dict[str, str] = {}
        for name in ("uri", "eval_dataset"):
            if isinstance(url := given.get(name), str):
                given[name], query = split_query(url)
                if query:
                    queries[name] = query
        if len(set(queries.values())) > 1 or queries.keys() == {"eval_dataset"}:
            raise RequestError("has a query of its own", field="eval_dataset", remedy=_APART)
        if queries and given.get("query") not in (None, queries["uri"]):
            raise RequestError("is given, and uri has a query too", field="query", remedy="Pass only one of them.")
        if not queries:
            return given
        return {"query_id": query_id(queries["uri"]), **given, "query": queries["uri"]}

    return rewrite


def _check_sha256(instance: object, attribute: attrs.Attribute[str | None], value: str | None) -> None:
    if value is not None and not (isinstance(value, str) and re.fullmatch(r"[0-9a-fA-F]{64}", value)):
        field, remedy = f"{type(instance).__name__}.{attribute.name}", "Pass the 64 digits that `sha256sum` prints."
        raise RequestError("is not a SHA-256 digest", field=field, value=value, remedy=remedy)


def _check_name(instance: object, attribute: attrs.Attribute[Any], value: str | None) -> None:
    check_text(instance, attribute, value)
    if value is not None and (set("/\\") & set(value) or value in (".", "..")):
        field, remedy = f"{type(instance).__name__}.{attribute.name}", "Pass a name without a folder: train.jsonl."
        raise RequestError("is not the name of a file", field=field, value=value, remedy=remedy)


def _check_header(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not isinstance(value, str) or not _HEADER.fullmatch(value):
        field, remedy = f"{type(instance).__name__}.{attribute.name}", "Pass a name such as PRIVATE-TOKEN."
        raise RequestError("is not the name of a header", field=field, value=value, remedy=remedy)


@attrs.frozen(kw_only=True, slots=False)  # without slots it can be mixed into providers, which have theirs
class HttpSource(FilePatterns, SnapshotSource):
    """Fields that the model and the dataset provider share.

    Credentials are sent to the host of `uri` only, and never to another one that it redirects to.

    Attributes:
        token: access token, sent as `Authorization: Bearer …`, or as `token_header` says.
        token_header: the header for `token`, where the server wants it in one of its own: "PRIVATE-TOKEN".
        username: user name of HTTP basic authentication; needs `password`.
        password: password of HTTP basic authentication; needs `username`.
        query: what follows the `?` in the URL. A query in `uri` is moved here, as it may hold a signature.
        query_id: a short digest of what the query asks for, without a signature. It is set with a query in `uri`; set it yourself where
            URLs differ only in a `query` that is a reference, so that one is not taken for the other on a volume.
        sha256: SHA-256 of the one file that `uri` names. A file with another one is refused.
        file_name: name of the one file that `uri` names, where the URL does not end with it.
        manifest: name of the file beside the others that lists their SHA-256 digests, as `sha256sum` writes it.
        unpack: whether an archive that `uri` names is unpacked: `.tar`, `.tar.gz`, `.tgz`, `.tar.zst`, `.tar.bz2`, `.tar.xz`, `.zip`.
    """

    extra: ClassVar[str | None] = "fetch"
    without_top: ClassVar[bool] = False
    """Whether the files of an archive that are all in one folder are unpacked without it."""

    token: str | SecretRef | None = secret(env="HTTP_TOKEN")
    token_header: str = attrs.field(default="Authorization", validator=_check_header)
    username: str | SecretRef | None = secret(env="HTTP_USERNAME")
    password: str | SecretRef | None = secret(env="HTTP_PASSWORD")
    query: str | SecretRef | None = secret(env="HTTP_QUERY")
    query_id: str = ""
    sha256: str | None = attrs.field(default=None, validator=_check_sha256)
    file_name: str | None = attrs.field(default=None, validator=_check_name)
    manifest: str = attrs.field(default="SHA256SUMS", validator=_check_name)
    unpack: bool = attrs.field(default=True, validator=check_flag)

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot be fetched, before anything is created."""
        cls = type(self).__name__
        check_together(self, "username", "password")
        check_exclusive(self, "token", "password")
        places = [parse_uri(uri, field) for field, uri in uris_of(self)]
        for name in _SECRETS:
            value = getattr(self, name)
            if isinstance(value, str) and not (value.isprintable() and (value.isascii() or name in _SECRETS[1:3])):
                remedy = "Pass it as it is, without line breaks, and percent-encoded if it is a query."
                raise RequestError("is not one line of ASCII text", field=f"{cls}.{name}", remedy=remedy)
            if value is not None and len({place.origin for place in places}) > 1:
                problem = "is another server, which must not receive the credentials of the first one"
                raise RequestError(problem, field=f"{cls}.eval_dataset", remedy=_APART)
        for name in ("sha256", "file_name"):
            if getattr(self, name) is not None and (len(places) > 1 or not places[0].name):
                raise RequestError("belongs to one file, but the URIs name more", field=f"{cls}.{name}", remedy=_APART)
        if not places[0].name and not self.manifest:
            raise RequestError("is missing", field=f"{cls}.manifest", remedy="Pass the name of the list of files.")

    def snapshot(self) -> Snapshot:
        """Return the files on the server; runs in the container. See `tunewright_http.snapshot`."""
        from tunewright_http.archive import HttpArchive
        from tunewright_http.snapshot import HttpFiles
        from tunewright_launcher.archives import is_archive

        place, server = parse_uri(self.uri), self._server()
        if self.unpack and is_archive(self.file_name or place.name):
            return HttpArchive(
                server,
                place,
                selects=self.selects,
                without_top=self.without_top,
                manifest=self.manifest,
                sha256=self.sha256,
            )
        return HttpFiles(
            server,
            place,
            selects=self.selects,
            manifest=self.manifest,
            sha256=self.sha256,
            file_name=self.file_name,
        )

    def _server(self) -> Server:
        """Return the server, with the credential. In the container, secrets are plain strings."""
        from tunewright_http.server import Access, Server

        return Server(Access(**{field.name: getattr(self, field.name) for field in attrs.fields(Access)}))


@accept_keywords(_other_spellings("model"))
@attrs.frozen(kw_only=True)
class HttpModelParams(HttpSource, OutputTarget, ModelProvider):
    """A model on a web server: one file, an archive, or a folder with a list of its files. `model=` is an alias of `uri=`.

    As an output, it is a folder of a server that speaks WebDAV.
    """

    without_top: ClassVar[bool] = True

    def store(self) -> Store:
        """Return the store to write an `output=` to; runs in the container. See `tunewright_http.store`."""
        from tunewright_http.dav import DavFolder
        from tunewright_http.store import DavStore

        place = parse_uri(self.uri)
        return DavStore(DavFolder(self._server(), f"{place.url.rstrip('/')}/"))


@accept_keywords(_other_spellings("dataset"))
@attrs.frozen(kw_only=True)
class HttpDatasetParams(HttpSource, DatasetProvider):
    """A dataset on a web server: one file, an archive, or a folder with a list of its files. `dataset=` is an alias of `uri=`."""
