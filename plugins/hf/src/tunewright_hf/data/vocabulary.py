"""Names that columns have in public datasets, and what they mean. Pure; nothing heavy is imported here."""

from __future__ import annotations

import re

MESSAGES = ("messages", "conversations", "conversation", "chat", "dialog", "turns", "contents")
"""Columns that hold a conversation."""

TEXTS = ("text", "content", "document", "article", "code", "body", "passage", "markdown", "page_content", "raw_content")
"""Columns that hold a text to learn as a whole."""

PROMPTS = (
    "prompt",
    "instruction",
    "question",
    "query",
    "problem",
    "input",
    "dialogue",
    "document",
    "article",
    "source",
)
"""Columns that hold what is asked, the most telling first."""

COMPLETIONS = ("completion", "response", "output", "answer", "answers", "solution", "summary", "highlights", "target")
"""Columns that hold what is answered, the most telling first."""

CONTEXTS = ("input", "context", "passage")
"""Columns that belong to an instruction or question, and may be empty."""

SYSTEMS = ("system", "system_prompt", "system_message")
"""Columns that hold a system prompt."""

HISTORY = "history"
"""The column of earlier turns in alpaca files: a list of pairs of a question and its answer."""

TOOLS = ("tools", "functions")
"""Columns that hold what the assistant may call."""

MEANINGFUL = {
    "label": "may say which answers are wanted (as in unpaired preference data)",
    "labels": "may say which answers are wanted (as in unpaired preference data)",
    **dict.fromkeys(
        ("image", "images", "video", "videos", "audio", "audios"), "belongs to the text, and only text is read"
    ),
    **dict.fromkeys(("score", "scores", "rating", "ratings", "reward", "rewards", "margin"), "may rate the answers"),
    **dict.fromkeys(("weight", "weights"), "may weigh the rows"),
    **dict.fromkeys(("chosen", "rejected"), "holds answers of which one is better"),
    **dict.fromkeys(
        ("is_correct", "correct", "accepted", "is_accepted", "quality"), "may say which answers are wanted"
    ),
}
"""Columns that change what the others mean: name → why it may not be passed over in silence."""

_NO_MEANING = {
    *(
        "",
        "_id",
        "author",
        "authors",
        "category",
        "categories",
        "created",
        "created_at",
        "copyright",
        "dataset",
        "date",
    ),
    *("difficulty", "domain", "extra", "format", "generator", "guid", "hash", "id", "idx", "index", "info", "intent"),
    *("lang", "language", "languages", "length", "level", "license", "link", "locale", "meta", "metadata", "model"),
    *("origin", "prompt_id", "redacted", "region", "repo", "path", "size", "source", "sources", "split", "subject"),
    *(
        "subset",
        "tag",
        "tags",
        "task",
        "time",
        "timestamp",
        "title",
        "topic",
        "topics",
        "type",
        "unnamed: 0",
        "updated_at",
    ),
    *("url", "urls", "uuid", "version", "row", "flags", "keywords", "publisher", "name", "file", "filename"),
}

_NO_MEANING_PATTERN = re.compile(
    r"(num|n|nb)_\w+|\w+_(id|ids|idx|index|uuid|hash|url|date|time|timestamp|count|length|tokens|name|type|source|lang|language)"
    r"|(id|src|source|task|model|dataset|data|meta|lang|conversation|conv|sample|example|row)_\w+|__index_level_\d+__|unnamed: \d+"
)


def has_no_meaning(column: str) -> bool:
    """Return whether a column is known to say nothing that could be learnt: an id, a source, a date."""
    name = column.strip().lower()
    return name in _NO_MEANING or _NO_MEANING_PATTERN.fullmatch(name) is not None
