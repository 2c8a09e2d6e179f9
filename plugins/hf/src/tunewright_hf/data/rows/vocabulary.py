"""Names that columns have in public datasets, and what they mean. Pure; nothing heavy is imported here."""

from __future__ import annotations

import re

from tunewright_hf.data.reading.json_wrapper import CONVERSATIONS

MESSAGES = (*CONVERSATIONS, "data")
"""Columns that hold a conversation; from "dialogue" on, if their values look like one."""

SURE_MESSAGES = MESSAGES[: MESSAGES.index("dialogue")]
"""Those of the columns that hold a conversation, or else an error."""

TEXTS = ("text", "content", "document", "article", "code", "body", "passage", "markdown", "page_content", "raw_content")
"""Columns that hold a text to learn as a whole."""

PROMPTS = (
    *("prompt", "instruction", "question", "query", "problem", "input", "definition", "inputs", "dialogue", "document"),
    *("article", "user", "human", "user_prompt", "user_input", "user_message", "questions", "instructions"),
    *("frage", "pregunta", "inputs_pretokenized", "source"),
)
"""Columns that hold what is asked, the most telling first."""

COMPLETIONS = (
    *(
        "completion",
        "response",
        "output",
        "answer",
        "answers",
        "solution",
        "summary",
        "highlights",
        "target",
        "targets",
    ),
    *("assistant", "reply", "assistant_response", "assistant_message", "bot", "gpt", "responses", "outputs"),
    *("antwort", "respuesta", "targets_pretokenized"),
)
"""Columns that hold what is answered, the most telling first."""

CONTEXTS = ("input", "inputs", "context", "passage")
"""Columns that belong to an instruction or question, and may be empty."""

WITH_CONTEXT = ("instruction", "question", "query", "definition")
"""Columns that hold what is asked about a context."""

SYSTEMS = ("system", "system_prompt", "system_message", "systeminstruction", "system_instruction", "meta_instruction")
"""Columns that hold a system prompt."""

HISTORY = "history"
"""The column of earlier turns in alpaca files: a list of pairs of a question and its answer."""

TOOLS = ("tools", "functions")
"""Columns that hold what the assistant may call."""

PARTS = frozenset({*MESSAGES, *PROMPTS, *COMPLETIONS, *SYSTEMS, HISTORY, *TOOLS})
"""Columns that hold a part of a sample, even where they stand alone."""

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
    **dict.fromkeys(("reasoning", "thinking", "reasoning_content", "thoughts"), "may belong to the answer"),
    **dict.fromkeys(("role", "speaker", "parent_id"), "says that each row is one message of a conversation"),
    **dict.fromkeys(("choices", "options"), "may belong to the question"),
}
"""Columns that change what the others mean: name → why it may not be passed over in silence."""

_CONTENT = {
    *(
        "text",
        "texts",
        "content",
        "answer",
        "answers",
        "response",
        "responses",
        "output",
        "outputs",
        "question",
        "prompt",
    ),
    *("completion", "reasoning", "solution", "query", "message", "messages", "summary", "translation", "explanation"),
    *(
        "input",
        "instruction",
        "instructions",
        "context",
        "document",
        "passage",
        "body",
        "description",
        "thought",
        "trajectory",
    ),
}
"""Last words of names whose first word (`model_answer`) says no more than where it comes from."""

LABELS = {
    *("category", "categories", "class", "classes", "emotion", "intent", "intents", "sentiment", "topic", "topics"),
    *("stars", "act", "tag", "tags", "is_spam", "spam", "toxic", "toxicity", "hate", "answerkey"),
}
"""Columns that may be the label of a text that is trained on as a whole; beside a question and its answer they are not."""

_RATING = re.compile(
    r"(.*_)?(label|labels|score|scores|rating|ratings|reward|rewards|margin|rank|ranks|grade|weight|weights|vote|votes|stars"
    r"|verdict|preference|safe|unsafe|harmful|harmless|helpful|helpfulness|correctness|correct|accepted|quality|toxicity"
    r"|toxic|sentiment)(_.*)?"
)
"""Names of columns that may rate what the others say."""

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
    *(
        "turn",
        "kind",
        "subcategory",
        "dump",
        "seed",
        "subreddit",
        "country",
        "state",
        "status",
        "priority",
        "hashed_ip",
    ),
    *("header", "toxic", "copies", "hexsha", "ext", "extension", "mime", "bytes", "timestamps", "user", "annotator"),
    *("openai_moderation", "detoxify_moderation", "openai_fingerprint", "fingerprint", "worker", "config", "usage"),
    *(
        "finish_reason",
        "stop_reason",
        "temperature",
        "top_p",
        "seed_data",
        "provider",
        "engine",
        "requester",
        "assignee",
    ),
    *("channel", "collection", "corpus", "original", "provenance", "citation", "doi", "isbn", "arxiv", "year", "month"),
    *(
        "focus_area",
        "subfield",
        "field",
        "skill",
        "skills",
        "grade_level",
        "age",
        "gender",
        "email",
        "phone",
        "currency",
    ),
    *(
        "parallel_tool_calls",
        "schemaversion",
        "schema_version",
        "custom_id",
        "hash_id",
        "cluster",
        "cluster_id",
        "embedding",
        "embeddings",
    ),
}

NAMELESS = re.compile(r"unnamed_\d+(?:_\d+)*")
"""Plain names of columns that pandas found without a name, of which the first is often its index."""

_NO_MEANING_PATTERN = re.compile(
    r"(num|n|nb|max|min|avg|mean|total|original|orig|annotation|annotator|created|updated|closed|opened)_\w+"
    r"|\w+_(id|ids|idx|index|uuid|hash|sha|url|urls|date|time|timestamp|count|counts|length|len|tokens|name|names|type|types"
    r"|source|sources|lang|language|path|paths|license|licenses|version|model|models|email|at|by|from|no|number|mean|max|min"
    r"|frac|fraction|ratio|size|bytes|area|domain|category|topic|subset|split|language_code|country_code|country|region|verified|metadata|meta"
    r"|moderation|language_score|ip|hexsha)"
    r"|(id|src|source|task|model|dataset|data|meta|lang|language|conversation|conv|sample|example|row|raw_index|file)_\w+"
    r"|(id|key|hash|url|source|lang|model|date)\d+|[a-z]id"
)


def plain(column: str) -> str:
    """Return the name of a column as it is compared: in lower case, with underscores."""
    return re.sub(r"[\s\-.:]+", "_", column.strip().lower()).strip("_") or column.strip()


def has_no_meaning(column: str) -> bool:
    """Return whether a column is known by its name to say nothing that could be trained on: an id, a source, a date."""
    name, words = column.strip().lower(), plain(column).split("_")
    if name in _NO_MEANING or plain(name) in _NO_MEANING or name.startswith("_"):
        return True
    if words[-1] in _CONTENT and words[0] not in ("original", "orig", "num", "n", "nb", "max", "min"):
        return False
    return _NO_MEANING_PATTERN.fullmatch(plain(name)) is not None


def is_rating(column: str) -> bool:
    """Return whether a column may rate what the others say, or label it, by its name."""
    return plain(column) in MEANINGFUL or _RATING.fullmatch(plain(column)) is not None
