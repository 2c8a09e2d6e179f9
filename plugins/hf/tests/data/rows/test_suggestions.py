"""The lines that an error suggests for columns of other names: they can be pasted, and train what was meant."""

import pytest
import yaml

from tunewright_hf.data.rows.suggestions import suggestion

CHAT = [{"role": "user", "content": "Name a prime."}, {"role": "assistant", "content": "Seven."}]
PAIR = ("trainer.data.prompt_template", "trainer.data.completion_template")


@pytest.mark.parametrize(
    ("row", "lines"),
    [
        (
            {"db_id": "d", "query": "SELECT 1", "question": "How many?", "query_toks": ["SELECT", "1"]},
            dict(zip(PAIR, ("{question}", "{query}"), strict=True)),
        ),
        (
            {"sql_prompt": "How many trees?", "sql_context": "CREATE TABLE t", "sql_task_type": "a", "sql": "SELECT 1"},
            dict(zip(PAIR, ("{sql_prompt}", "{sql}"), strict=True)),
        ),
        (
            {
                "description": "Add two numbers.",
                "public_tests": {"input": ["1 2"], "output": ["3"]},
                "solutions": {"solution": ["print(3)"]},
            },
            dict(zip(PAIR, ("{description}", "{solutions.solution.0}"), strict=True)),
        ),
        (
            {"meaning_representation": "name[Blue Spice]", "human_reference": "It is called Blue Spice."},
            dict(zip(PAIR, ("{meaning_representation}", "{human_reference}"), strict=True)),
        ),
        ({"date": "2026", "sender": "Anna", "message": "Hi"}, {"trainer.data.text_column": "message"}),
        ({"model_a": "a", "winner": "model_a", "dialogue_a": CHAT}, {"trainer.data.messages_column": "dialogue_a"}),
    ],
    ids=["SQL", "SQL beside its task", "programs beside tests", "references", "who says it", "a conversation"],
)
def test_the_lines_are_those_that_were_meant(row: dict[str, object], lines: dict[str, str]) -> None:
    lead, _, text = suggestion({column: [value] for column, value in row.items()}).partition(":\n")
    assert lead == " Write, for example, in the job file"
    assert yaml.safe_load(text) == lines


def test_nothing_is_suggested_where_there_is_nothing_to_train_on() -> None:
    row = {"id": "0", "tokens": ["EU", "rejects"], "ner_tags": [3, 0]}
    assert '{"text": "…"}' in suggestion({column: [value] for column, value in row.items()})
