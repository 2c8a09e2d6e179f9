"""What was found out about the columns of a dataset: which are read, and as what."""

from __future__ import annotations

import attrs

from tunewright.errors import RequestError
from tunewright_hf.config.data_params import DataParams


@attrs.frozen(kw_only=True)
class ColumnReading:
    """How the columns of a dataset are read.

    Attributes:
        format: "text", "prompt_completion", "chat", "classification" or "preference".
        data: the user's DataParams, with the columns and templates that were recognised.
        used: the columns that are read.
        ignored: the columns that are not.
        asked: whether the rows ask and answer, so that they are written with the tokenizer's chat template if there is one.
    """

    format: str
    data: DataParams
    used: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    asked: bool = False

    def for_tokenizer(self, chat_template: object) -> ColumnReading:
        """Return the reading for a language model: rows that ask and answer become conversations if it has a template.

        Raises:
            RequestError: a column can only be written by a chat template.
        """
        if not self.asked:
            return self
        if chat_template:
            return attrs.evolve(self, format="chat", asked=False)
        tools = self.data.tools_column if self.data.tools_column in self.used else None
        if column := self.data.system_column or self.data.history_column or tools:
            problem = (
                f"has a column {column!r}, which only a chat template can write, and the model's tokenizer has none"
            )
            remedy = (
                f"Give a model with a chat template, or leave the column out: trainer.data.ignore_columns: [{column}]"
            )
            raise RequestError(problem, field="dataset", remedy=remedy)
        # Nothing else would part the question from its answer.
        parted = tuple(f"{template}\n" for template in self.data.prompt_template)
        return attrs.evolve(self, data=attrs.evolve(self.data, prompt_template=parted), asked=False)

    def refuse_system(self) -> None:
        """Refuse a system prompt in a column of its own for a model that is trained without a chat template.

        Raises:
            RequestError: there is one.
        """
        column = self.data.system_column
        if column not in self.used:
            return
        prompt, *_ = self.data.prompt_template or (f"{{{self.data.prompt_column}}}",)
        completion, *_ = self.data.completion_template or (f"{{{self.data.completion_column}}}",)
        problem = f"has a column {column!r}, which only a chat template writes, and such a model is trained without one"
        data = f'{{prompt_template: "{{{column}}} {prompt}", completion_template: "{completion}"}}'
        remedy = (
            f"Write it into the prompt: trainer.data: {data}; or leave it out: trainer.data.ignore_columns: [{column}]"
        )
        raise RequestError(problem, field="dataset", remedy=remedy)

    def __str__(self) -> str:
        ignored = f"; ignored: {', '.join(self.ignored)}" if self.ignored else ""
        return f"format {self.format}; columns used: {', '.join(self.used)}{ignored}"
