"""Manifests: what a backend submits, for people to read first."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, overload

from tunewright.events import Json
from tunewright.plan.secrets import REDACTED, SecretValue

if TYPE_CHECKING:
    import yaml

Document = Mapping[str, object]


class Manifests(Sequence[dict[str, Json]]):
    """A sequence of documents (dicts) in the order of their creation, with literal secrets redacted.

    Args:
        documents: JSON-like values whose leaves may be `SecretValue`.
        note: what else their reader should know, as a sentence; "" for nothing.
    """

    def __init__(self, documents: Sequence[Document], note: str = "") -> None:
        self._documents = tuple(documents)
        self.note = note

    def noted(self, note: str) -> Manifests:
        """Return the same manifests with a note."""
        return Manifests(self._documents, note)

    def reveal(self) -> list[dict[str, Json]]:
        """Return the documents with their secrets. Only the backend's `submit` may call this."""
        return [_plain(d, reveal=True) for d in self._documents]  # type: ignore[misc]

    def to_yaml(self) -> str:
        """Return all documents as YAML for `kubectl apply -f -`, except that literal secrets are redacted."""
        import yaml

        return yaml.dump_all(
            list(self), Dumper=_dumper(), sort_keys=False, explicit_start=True, width=120, allow_unicode=True
        )

    def of_kind(self, kind: str) -> list[dict[str, Json]]:
        """Return the documents of one `kind`, such as "ConfigMap"."""
        return [d for d in self if d.get("kind") == kind]

    def __iter__(self) -> Iterator[dict[str, Json]]:
        return (_plain(d, reveal=False) for d in self._documents)  # type: ignore[misc]

    @overload
    def __getitem__(self, index: int) -> dict[str, Json]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Json]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Json] | list[dict[str, Json]]:
        return list(self)[index]

    def __len__(self) -> int:
        return len(self._documents)

    def __repr__(self) -> str:
        kinds = ", ".join(str(d.get("kind")) for d in self._documents)
        return f"<Manifests: {kinds}; .to_yaml() shows them>"


@functools.cache
def _dumper() -> type[yaml.SafeDumper]:
    """Return a dumper that writes multi-line text, such as the source of a function, as readable blocks."""
    import yaml

    # CSafeDumper is several times faster, but missing if PyYAML was built without libyaml.
    base: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Dumper(base):  # type: ignore[misc,valid-type]
        pass

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return Dumper


def _plain(value: object, *, reveal: bool) -> Json:
    """Copy dicts and lists all the way down, so that no caller can change the plan through them."""
    if isinstance(value, SecretValue):
        return value.reveal() if reveal else REDACTED
    if isinstance(value, Mapping):
        return {str(k): _plain(v, reveal=reveal) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, reveal=reveal) for v in value]
    return value  # type: ignore[return-value]
