"""Base classes for the providers of a plugin, and the fields, validators and helpers to write them with.

Everything exported here is public. See `tunewright.providers.base` for a complete plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunewright._lazy import lazy_names

if TYPE_CHECKING:
    from tunewright._signatures import Argument, document_class
    from tunewright.environment import Paths, user_variable
    from tunewright.plan.secrets import SecretRef, SecretValue, refuse_literal_tokens
    from tunewright.providers.base import (
        ClaimFolder,
        DatasetProvider,
        ModelProvider,
        Provider,
        SourceProvider,
        TrainerProvider,
        TrainRun,
        uris_of,
    )
    from tunewright.providers.fields import (
        FilePatterns,
        accept_keywords,
        check_exclusive,
        check_flag,
        check_http_url,
        check_patterns,
        check_text,
        check_together,
        one_of,
        patterns,
        renamed,
        secret,
        secret_env,
        secret_fields,
    )
    from tunewright.providers.limits import FetchLimits
    from tunewright.providers.mixture import MixturePart
    from tunewright.providers.outputs import OutputTarget, Store
    from tunewright.providers.preview import Preview
    from tunewright.providers.schema import schema_of_class, schema_of_type
    from tunewright.providers.snapshots import Algorithm, Digest, Entry, Reader, Snapshot, SnapshotSource
    from tunewright.providers.trained import Message, Sampling, TrainedModel
    from tunewright.providers.uris import (
        UriParts,
        bad_uri,
        from_uri_or_field,
        path_problem,
        ref_problem,
        split_uri,
        uri_scheme,
    )
    from tunewright.providers.wire import CLIENT_ONLY
    from tunewright.runner.checkpoints import MARKER, is_complete, mark_checkpoint, newest_checkpoint

__all__ = [
    "CLIENT_ONLY",
    "MARKER",
    "Algorithm",
    "Argument",
    "ClaimFolder",
    "DatasetProvider",
    "Digest",
    "Entry",
    "FetchLimits",
    "FilePatterns",
    "Message",
    "MixturePart",
    "ModelProvider",
    "OutputTarget",
    "Paths",
    "Preview",
    "Provider",
    "Reader",
    "Sampling",
    "SecretRef",
    "SecretValue",
    "Snapshot",
    "SnapshotSource",
    "SourceProvider",
    "Store",
    "TrainRun",
    "TrainedModel",
    "TrainerProvider",
    "UriParts",
    "accept_keywords",
    "bad_uri",
    "check_exclusive",
    "check_flag",
    "check_http_url",
    "check_patterns",
    "check_text",
    "check_together",
    "document_class",
    "from_uri_or_field",
    "is_complete",
    "mark_checkpoint",
    "newest_checkpoint",
    "one_of",
    "path_problem",
    "patterns",
    "ref_problem",
    "refuse_literal_tokens",
    "renamed",
    "schema_of_class",
    "schema_of_type",
    "secret",
    "secret_env",
    "secret_fields",
    "split_uri",
    "uri_scheme",
    "uris_of",
    "user_variable",
]

__getattr__ = lazy_names(
    __name__,
    {
        "tunewright._signatures": ["Argument", "document_class"],
        "tunewright.environment": ["Paths", "user_variable"],
        "tunewright.plan.secrets": ["SecretRef", "SecretValue", "refuse_literal_tokens"],
        "tunewright.providers.base": [
            "ClaimFolder",
            "DatasetProvider",
            "ModelProvider",
            "Provider",
            "SourceProvider",
            "TrainRun",
            "TrainerProvider",
            "uris_of",
        ],
        "tunewright.providers.fields": [
            "FilePatterns",
            "accept_keywords",
            "check_exclusive",
            "check_flag",
            "check_http_url",
            "check_patterns",
            "check_text",
            "check_together",
            "one_of",
            "patterns",
            "renamed",
            "secret",
            "secret_env",
            "secret_fields",
        ],
        "tunewright.providers.limits": ["FetchLimits"],
        "tunewright.providers.mixture": ["MixturePart"],
        "tunewright.providers.outputs": ["OutputTarget", "Store"],
        "tunewright.providers.preview": ["Preview"],
        "tunewright.providers.schema": ["schema_of_class", "schema_of_type"],
        "tunewright.providers.snapshots": ["Algorithm", "Digest", "Entry", "Reader", "Snapshot", "SnapshotSource"],
        "tunewright.providers.trained": ["Message", "Sampling", "TrainedModel"],
        "tunewright.providers.uris": [
            "UriParts",
            "bad_uri",
            "from_uri_or_field",
            "path_problem",
            "ref_problem",
            "split_uri",
            "uri_scheme",
        ],
        "tunewright.providers.wire": ["CLIENT_ONLY"],
        "tunewright.runner.checkpoints": ["MARKER", "is_complete", "mark_checkpoint", "newest_checkpoint"],
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
