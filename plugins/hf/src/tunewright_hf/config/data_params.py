"""What the user says about the data: `DataParams`. Nothing heavy is imported here."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from typing import TypeVar

import attrs

from tunewright.errors import RequestError, did_you_mean
from tunewright.providers import accept_keywords
from tunewright_hf.config.other_words import OF_DATA
from tunewright_hf.config.slices import RowSlice, parse_split
from tunewright_hf.config.template_text import read_template

_T = TypeVar("_T")

TEXT_UNITS = ("line", "paragraph", "document")

MIX_BY = ("samples", "tokens")

ROLE_NAMES = ("system", "developer", "user", "assistant", "tool", "function_call")

FORMATS = ("auto", "text", "prompt_completion", "chat", "classification", "preference")

REFUSE, DROP = "refuse", "drop"
"""What becomes of rows that cannot be used."""

TEMPLATES = {
    "text": ("text",),
    "classification": ("text",),
    "prompt_completion": ("prompt", "completion"),
    "chat": ("prompt", "completion"),
    "preference": ("prompt",),
}
"""By format, the texts that a template may write."""


def is_a(*types: type) -> Callable[[object, attrs.Attribute[_T], _T], None]:
    """Return a validator for values of one of the types; a bool is not accepted as an int."""

    def validate(instance: object, attribute: attrs.Attribute[_T], value: _T) -> None:
        if (isinstance(value, bool) and bool not in types) or not isinstance(value, types):
            expected = " or ".join("None" if t is type(None) else t.__name__ for t in types)
            field = f"{type(instance).__name__}.{attribute.name}"
            raise RequestError(f"must be {expected}", field=field, value=value, remedy=f"Give {expected}.")

    return validate


@attrs.frozen
class Template:
    """A text with columns in braces: `"Question: {question}"`; a brace of its own is written twice.

    Attributes:
        text: as the user wrote it.
        pieces: literal text, and the name of the column behind it, if there is one.
    """

    text: str
    pieces: tuple[tuple[str, str | None], ...]

    @classmethod
    def parse(cls, text: str, field: str) -> Template:
        """From what the user wrote.

        Raises:
            RequestError: it names no columns, or wants more of them than their text.
        """
        try:
            parsed = list(string.Formatter().parse(text))
        except ValueError as error:
            remedy = "Write a column as {name}, and a brace of its own as {{ or }}."
            raise RequestError(f"cannot be read: {error}", field=field, value=text, remedy=remedy) from error
        if any(spec or conversion or name == "" for _, name, spec, conversion in parsed):
            problem = "has braces with something else than the name of a column"
            raise RequestError(problem, field=field, value=text, remedy="Write a column as {name}, without ! and :.")
        pieces = tuple((literal, name) for literal, name, _, _ in parsed)
        if not any(name for _, name in pieces):
            remedy = "Write a column as {name}: without one all samples would be alike."
            raise RequestError("names no column", field=field, value=text, remedy=remedy)
        return cls(text, pieces)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names, each once."""
        return tuple(dict.fromkeys(name for _, name in self.pieces if name is not None))

    def fill(self, values: Mapping[str, str]) -> str:
        """The text for a row."""
        return "".join(literal + (values[name] if name is not None else "") for literal, name in self.pieces)


def _templates(value: object) -> object:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def _check_templates(instance: object, attribute: attrs.Attribute[tuple[str, ...]], value: object) -> None:
    field = f"{type(instance).__name__}.{attribute.name}"
    if not isinstance(value, tuple) or not all(isinstance(v, str) for v in value):
        remedy = 'Write "{question}", or a list of such texts.'
        raise RequestError("must be a text or a list of texts", field=field, value=value, remedy=remedy)
    for text in value:
        Template.parse(text, field)


def _check_names(instance: object, attribute: attrs.Attribute[tuple[str, ...]], value: object) -> None:
    field = f"{type(instance).__name__}.{attribute.name}"
    if not isinstance(value, tuple) or not all(isinstance(v, str) for v in value):
        raise RequestError("must be a list of columns", field=field, value=value, remedy='Write ["id", "source"].')


def _roles(value: object) -> Mapping[str, str]:
    field, remedy = "DataParams.roles", 'Write {"Q": "user", "A": "assistant"}, with the data\'s own names as keys.'
    if not isinstance(value, Mapping):
        raise RequestError("must be a mapping", field=field, value=value, remedy=remedy)
    for name, role in value.items():
        if role not in ROLE_NAMES:
            problem = f"maps {name!r} to {role!r}, which is not a role"
            raise RequestError(problem, field=field, value=dict(value), remedy=f"Use one of: {', '.join(ROLE_NAMES)}.")
    return dict(value)


def _spread_columns(keywords: dict[str, object]) -> dict[str, object]:
    """`columns={"prompt": "q"}` is `prompt_column="q"`."""
    given = keywords.pop("columns", None)
    if given is None:
        return keywords
    known = [a.name.removesuffix("_column") for a in attrs.fields(DataParams) if a.name.endswith("_column")]
    if not isinstance(given, Mapping) or set(given) - set(known):
        remedy = f'Write {{"prompt": "question"}}. Its keys are: {", ".join(known)}.'
        raise RequestError("does not say which column is which", field="DataParams.columns", value=given, remedy=remedy)
    return {**keywords, **{f"{name}_column": column for name, column in given.items()}}


@accept_keywords(_spread_columns, spellings=["columns"])
@attrs.frozen(kw_only=True)
class DataParams:
    """How the rows of the dataset become samples.

    A template makes a text from several columns: `prompt_template="{instruction}: {input}"`, or from within one:
    `"{answers.text.0}"`. From a list of templates each row uses the first one whose columns are all filled, or else the last.

    Attributes:
        format: which tokens are supervised. "text": all tokens; "prompt_completion": the completion; "chat": the assistant's
            turns; "classification": a label for a text; "preference": a better and a worse answer, or an answer and whether it
            is wanted, for Trainer classes that train on such rows; "auto": chosen by the columns (messages, then prompt and
            completion, then text, then chosen and rejected), by the templates and by the task.
        text_column: column with the text, for "text" and "classification".
        prompt_column: column with the prompt, for "prompt_completion" and "preference".
        completion_column: column with the completion, for "prompt_completion", and for "preference" with one answer.
        messages_column: column with lists of {"role", "content"}, for "chat".
        tools_column: column with the tools that the assistant may call, for "chat", as JSON schemas of functions. The
            column is optional; give None if it contains something else.
        label_column: column with the label, for "classification": a text or number, or a list of labels; for "preference" with one
            answer: true or false.
        chosen_column: column with the better answer, for "preference".
        rejected_column: column with the worse answer, for "preference".
        system_column: column with a system prompt, for "chat", and for "prompt_completion" with a chat template. None: a
            column called "system", "system_prompt" or "system_message", if there is one.
        history_column: column with earlier turns, each a pair of a question and its answer, beside templates for "chat".
        ignore_columns: columns that are left out on purpose. With "auto" every column must be used, be known to carry no
            meaning (an id, a source, a date), or be named here.
        roles: role names of the data → "system", "developer", "user", "assistant" or "tool", where they are not the usual
            ones: {"Kunde": "user", "Agent": "assistant"}.
        text_template: makes the text, instead of `text_column`.
        prompt_template: makes the prompt, instead of `prompt_column`; for "chat", the user's message.
        completion_template: makes the completion, instead of `completion_column`; for "chat", the assistant's message.
        max_length: largest number of tokens in a sample; longer samples are truncated. None: 1024, or the model's context
            if that is shorter. Memory grows with the longest sample of a batch, so a default of the whole context (often
            128k) would run out of memory far into a run.
        packing: concatenate short samples into rows of `max_length`, without padding. Samples do not attend to each other. A
            row then counts as one sample of a batch. Evaluation samples are not packed.
        streaming: read, tokenise and pack the data during training, instead of writing it to disk first. For data that does
            not fit into memory and disk. Needs TrainingArguments(max_steps=…), as the number of samples is unknown. At its
            end the data is read again.
        shuffle_buffer: number of rows of a stream that are shuffled in memory at a time. The files are shuffled, too.
        train_split: which split of the dataset to train on, or a slice of it as `datasets` writes them: "train[:3000]",
            "train[10%:]", "train[-500:]".
        eval_split: which split, or slice of one, to evaluate on. None: all of `eval_dataset` (its validation or test
            split, if it has some), or else the dataset's own validation or test split, if there is one.
        eval_fraction: evaluate on this share of the rows to train on, between 0 and 1, instead of an `eval_dataset` or
            an `eval_split`. The choice is random, and the same in every run. Rows that are equal stay together.
        max_samples: train on so many rows at most: the first ones of the split, before a share is held out of them.
        config: which of several configurations of the dataset to read: a `config_name` of its README.md, or a folder.
        text_unit: what a row of a text file is: "line", "paragraph" (parted by empty lines) or "document" (the whole
            file). None: a line of .txt files, a document of Markdown.
        encoding: of JSON, CSV and text files. None: as their byte order mark says, or else UTF-8.
        mix_by: what the weights of a list of datasets are shares of: "samples" or "tokens".
        delimiter: what separates the columns of CSV files. None: a comma, semicolon, tab or vertical bar, whichever
            the header and the first rows agree on.
        on_bad_row: what becomes of a row that cannot be used: an unknown role, a value of another type than a text, a
            conversation that the chat template refuses. "refuse": the training is refused, with the row's file and number.
            "drop": the row is left out, and counted by reason in the log, the report and the model card. Files that are
            broken (JSON that ends in the middle, a CSV row of another width) are always refused.
        chat_template: renders conversations instead of the tokenizer's own template, and is saved with the result: a
            template in Jinja, the path of a file with one, or the name of a well-known one ("chatml", "llama3", "gemma",
            "mistral", "alpaca", "deepseek-r1"), for models that come without. A path is relative to the working directory.
        eos_token: the end-of-text token instead of the tokenizer's own, which is saved with the result; generation stops
            at it. It must be one token of the tokenizer.
    """

    format: str = attrs.field(default="auto")
    text_column: str = attrs.field(default="text", validator=is_a(str))
    prompt_column: str = attrs.field(default="prompt", validator=is_a(str))
    completion_column: str = attrs.field(default="completion", validator=is_a(str))
    messages_column: str = attrs.field(default="messages", validator=is_a(str))
    tools_column: str | None = attrs.field(default="tools", validator=is_a(str, type(None)))
    label_column: str = attrs.field(default="label", validator=is_a(str))
    chosen_column: str = attrs.field(default="chosen", validator=is_a(str))
    rejected_column: str = attrs.field(default="rejected", validator=is_a(str))
    system_column: str | None = attrs.field(default=None, validator=is_a(str, type(None)))
    history_column: str | None = attrs.field(default=None, validator=is_a(str, type(None)))
    ignore_columns: tuple[str, ...] = attrs.field(default=(), converter=_templates, validator=_check_names)
    roles: Mapping[str, str] = attrs.field(factory=dict, converter=_roles, hash=False)
    text_template: tuple[str, ...] = attrs.field(default=(), converter=_templates, validator=_check_templates)
    prompt_template: tuple[str, ...] = attrs.field(default=(), converter=_templates, validator=_check_templates)
    completion_template: tuple[str, ...] = attrs.field(default=(), converter=_templates, validator=_check_templates)
    max_length: int | None = attrs.field(default=None, validator=is_a(int, type(None)))
    packing: bool = attrs.field(default=False, validator=is_a(bool))
    streaming: bool = attrs.field(default=False, validator=is_a(bool))
    shuffle_buffer: int = attrs.field(default=10_000, validator=is_a(int))
    train_split: str = attrs.field(default="train", validator=is_a(str))
    eval_split: str | None = attrs.field(default=None, validator=is_a(str, type(None)))
    eval_fraction: float | None = attrs.field(default=None, validator=is_a(float, type(None)))
    max_samples: int | None = attrs.field(default=None, validator=is_a(int, type(None)))
    config: str | None = attrs.field(default=None, validator=is_a(str, type(None)))
    text_unit: str | None = attrs.field(default=None, validator=is_a(str, type(None)))
    encoding: str | None = attrs.field(default=None, validator=is_a(str, type(None)))
    delimiter: str | None = attrs.field(default=None, validator=is_a(str, type(None)))
    on_bad_row: str = attrs.field(default=REFUSE, validator=is_a(str))
    chat_template: str | None = attrs.field(default=None, converter=read_template)
    eos_token: str | None = attrs.field(default=None, validator=is_a(str, type(None)))
    mix_by: str = attrs.field(default="samples")

    @format.validator  # noqa: A003 - it is the field above
    def _check_format(self, attribute: attrs.Attribute[str], value: object) -> None:
        if value not in FORMATS:
            remedy = did_you_mean(str(value), list(FORMATS))
            raise RequestError("is not a format", field=f"DataParams.{attribute.name}", value=value, remedy=remedy)

    @mix_by.validator
    def _check_mix_by(self, attribute: attrs.Attribute[str], value: object) -> None:
        if value not in MIX_BY:
            remedy = f"Give one of: {', '.join(MIX_BY)}."
            field = f"DataParams.{attribute.name}"
            raise RequestError("is not something to share by", field=field, value=value, remedy=remedy)

    @max_length.validator
    def _check_max_length(self, attribute: attrs.Attribute[int | None], value: int | None) -> None:
        if value is not None and value < 2:  # noqa: PLR2004 - one token to read and one to learn
            remedy = "Give a number of tokens, or leave it out."
            raise RequestError("must be at least 2", field=f"DataParams.{attribute.name}", value=value, remedy=remedy)

    @shuffle_buffer.validator
    def _check_buffer(self, attribute: attrs.Attribute[int], value: int) -> None:
        field, remedy = f"DataParams.{attribute.name}", "Give a number of rows."
        if value < 1:
            raise RequestError("must be at least 1", field=field, value=value, remedy=remedy)
        if value != attribute.default and not self.streaming:
            remedy = "Leave it out: without streaming all samples are shuffled with each other."
            raise RequestError("is for streaming=True", field=field, value=value, remedy=remedy)

    @max_samples.validator
    def _check_max_samples(self, attribute: attrs.Attribute[int | None], value: int | None) -> None:
        if value is not None and value < 1:
            remedy = "Give a number of rows, or leave it out."
            raise RequestError("must be at least 1", field=f"DataParams.{attribute.name}", value=value, remedy=remedy)

    @eval_fraction.validator
    def _check_fraction(self, attribute: attrs.Attribute[float | None], value: float | None) -> None:
        if value is not None and not 0 < value < 1:
            remedy = "Give the share of the rows to evaluate on, such as 0.05, or leave it out."
            field = f"DataParams.{attribute.name}"
            raise RequestError("must be between 0 and 1", field=field, value=value, remedy=remedy)

    @text_unit.validator
    def _check_unit(self, attribute: attrs.Attribute[str | None], value: str | None) -> None:
        if value is not None and value not in TEXT_UNITS:
            remedy = f"Give one of: {', '.join(TEXT_UNITS)}."
            field = f"DataParams.{attribute.name}"
            raise RequestError("is not a part of a text", field=field, value=value, remedy=remedy)

    @encoding.validator
    def _check_encoding(self, attribute: attrs.Attribute[str | None], value: str | None) -> None:
        try:
            "a".encode(value or "utf-8")
        except (LookupError, ValueError) as error:
            remedy = "Give a name that Python knows: utf-8, utf-16, cp1252, latin-1, shift_jis, gb18030, …"
            field = f"DataParams.{attribute.name}"
            raise RequestError("is not an encoding", field=field, value=value, remedy=remedy) from error

    @on_bad_row.validator
    def _check_on_bad_row(self, attribute: attrs.Attribute[str], value: object) -> None:
        if value not in (REFUSE, DROP):
            field, remedy = f"DataParams.{attribute.name}", f"Give {REFUSE} or {DROP}."
            raise RequestError("is not one of the two choices", field=field, value=value, remedy=remedy)

    @delimiter.validator
    def _check_delimiter(self, attribute: attrs.Attribute[str | None], value: str | None) -> None:
        if value is not None and (len(value) != 1 or value in '"\r\n'):
            remedy = 'Give one character: ",", ";", "|", or "\\t" for a tab.'
            field = f"DataParams.{attribute.name}"
            raise RequestError("is not a delimiter", field=field, value=value, remedy=remedy)

    @property
    def train_part(self) -> tuple[str, RowSlice | None]:
        """The name of the split to train on, and the slice of it."""
        return parse_split(self.train_split, "DataParams.train_split")

    @property
    def eval_part(self) -> tuple[str, RowSlice | None] | None:
        """The name of the split to evaluate on, and the slice of it; None where none is named."""
        return None if self.eval_split is None else parse_split(self.eval_split, "DataParams.eval_split")

    def _check_parts(self) -> None:
        """Refuse slices and shares that cannot be told, or that contradict each other."""
        _, part = self.train_part
        if self.eval_part is not None and self.eval_fraction is not None:
            problem, remedy = "stands beside eval_split", "Give one of them."
            raise RequestError(problem, field="DataParams.eval_fraction", value=self.eval_fraction, remedy=remedy)
        if not self.streaming:
            return
        problem = (
            "does not work with streaming=True: it needs the number of rows, which is not known before they are read"
        )
        if part is not None and part.needs_total:
            remedy = "Count rows from the beginning, such as train[500:3000], or leave streaming out."
            raise RequestError(problem, field="DataParams.train_split", value=self.train_split, remedy=remedy)
        if self.eval_fraction is not None:
            remedy = (
                "Give an eval_dataset or an eval_split (a slice such as train[:500] will do), or leave streaming out."
            )
            raise RequestError(problem, field="DataParams.eval_fraction", value=self.eval_fraction, remedy=remedy)

    def _check_template(self) -> None:
        """Refuse a chat template for rows that are read as texts."""
        if self.chat_template is not None and self.format in ("text", "classification"):
            problem, remedy = (
                f"renders conversations, and the format is {self.format}",
                "Leave it out, or name another format.",
            )
            raise RequestError(problem, field="DataParams.chat_template", remedy=remedy)

    def __attrs_post_init__(self) -> None:
        """Refuse templates that nothing would be written with, or that stand beside a column, and impossible splits."""
        self._check_parts()
        self._check_template()
        fields = attrs.fields_dict(DataParams)
        given = [name for name in ("text", "prompt", "completion") if getattr(self, f"{name}_template")]
        for name in given:
            column = f"{name}_column"
            if getattr(self, column) != fields[column].default:
                problem, remedy = f"stands beside {name}_template, which writes the {name}", "Give one of them."
                value = getattr(self, column)
                raise RequestError(problem, field=f"DataParams.{column}", value=value, remedy=remedy)
        written = [form for form, names in TEMPLATES.items() if set(given) <= set(names)]
        if given and (not written or self.format not in ("auto", *written)):
            wanted = " or ".join(f for f, names in TEMPLATES.items() if given[0] in names)
            problem, remedy = f"is for {wanted}", "Leave it out, or name that format."
            raise RequestError(problem, field=f"DataParams.{given[0]}_template", value=self.format, remedy=remedy)

    def given(self) -> Mapping[str, object]:
        """The fields that are not what they are by default."""
        fields, plain = attrs.fields(DataParams), DataParams()
        return {f.name: value for f in fields if (value := getattr(self, f.name)) != getattr(plain, f.name)}

    def templates(self, name: str) -> tuple[Template, ...]:
        """Those that write a text: "text", "prompt" or "completion"."""
        field = f"{name}_template"
        return tuple(Template.parse(text, f"DataParams.{field}") for text in getattr(self, field))

    def columns_of(self, name: str) -> tuple[str, ...]:
        """The columns that a text is made of: its own, or those of its templates."""
        templates = self.templates(name)
        if not templates:
            return (getattr(self, f"{name}_column"),)
        return tuple(dict.fromkeys(column for template in templates for column in template.columns))

    @classmethod
    def of(cls, value: object) -> DataParams:
        """From a DataParams or a dict of its fields; the dict is not changed."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            remedy = 'Write DataParams(format="chat"), or a dict of its fields.'
            raise RequestError("must be a DataParams or a dict", field="data", value=value, remedy=remedy)
        names = [a.name for a in attrs.fields(cls)]
        for name in value:
            if name not in (*names, "columns"):
                remedy = did_you_mean(str(name), names, OF_DATA)
                raise RequestError("is not a field", field=f"DataParams.{name}", remedy=remedy)
        return cls(**value)
