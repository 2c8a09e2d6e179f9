"""Options of `DataParams` that apply to nothing: refused, and what they might apply to is said."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from tunewright import RequestError, TrainRun
from tunewright.providers import MixturePart
from tunewright_hf import DataParams, HuggingFaceTrainParams
from tunewright_hf.config.tasks import SEQ2SEQ
from tunewright_hf.data.inputs import datasets_of
from tunewright_hf.data.samples.encode import LANGUAGE_MODELING, Goal
from tunewright_hf.data.unused_options import _OF_FILES, _OF_FORMATS, refuse_unused

transformers = pytest.importorskip("transformers")

CHAT = [{"role": "user", "content": "1?"}, {"role": "assistant", "content": "One."}]
GERMAN = [{"role": "Kunde", "content": "1?"}, {"role": "Agent", "content": "One."}]
ROLES = {"Kunde": "user", "Agent": "assistant"}
PAIR = {"prompt": "1?", "completion": "One."}
TEMPLATES = {"prompt_template": "{q}", "completion_template": "{a}"}
CHOICE = {"prompt": "1?", "chosen": "One.", "rejected": "Two."}

ELSEWHERE = {
    "config": "refused where files are looked for, if no folder or card names it",
    "train_split": "refused where files are looked for, if there is none",
    "eval_split": "likewise",
    "format": "refused with the columns, if these cannot be read so",
    **dict.fromkeys(
        ("text_template", "prompt_template", "completion_template"), "refused with format, or with columns"
    ),
    **dict.fromkeys(
        ("chat_template", "mix_by", "shuffle_buffer"), "refused with the format, a single dataset, no stream"
    ),
    **dict.fromkeys(("eval_fraction", "max_samples", "max_length", "streaming", "on_bad_row"), "applies to any row"),
    "eos_token": "belongs to the tokenizer",
}


@pytest.fixture
def refuse(model_folder: Path, tmp_path: Path) -> Callable[..., None]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)

    def call(dataset: Path | None, goal: Goal = LANGUAGE_MODELING, **given: object) -> None:
        where = {name: given.pop(name) for name in ("eval_dataset", "mixture") if name in given}
        run = TrainRun(model=model_folder, dataset=dataset, output=tmp_path / "out", emit=lambda _: None, **where)
        refuse_unused(run, DataParams(**given), tokenizer, goal)

    return call


def written(folder: Path, **files: str) -> Path:
    """A folder of files, each by its name with "__" for the dot."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_each_field_is_judged_here_or_elsewhere() -> None:
    judged = {*_OF_FILES, *_OF_FORMATS, "ignore_columns", "roles", "packing"}
    assert judged | set(ELSEWHERE) == {field.name for field in attrs.fields(DataParams)}
    assert not judged & set(ELSEWHERE)


@pytest.mark.parametrize(
    ("given", "applies_to"),
    [
        ({"text_unit": "paragraph"}, "notes__txt"),
        ({"delimiter": ";"}, "rows__csv"),
        ({"encoding": "utf-8"}, "rows__jsonl"),
    ],
    ids=str,
)
def test_an_option_for_other_files_is_refused_with_what_the_files_are(
    given: dict[str, object], applies_to: str, refuse: Callable[..., None], tmp_path: Path
) -> None:
    import pandas as pd

    folder = tmp_path / "table"
    folder.mkdir()
    pd.DataFrame([PAIR]).to_parquet(folder / "train.parquet")
    name = next(iter(given))
    with pytest.raises(
        RequestError, match=r"applies to no file: .* are parquet \(train\.parquet\)\. Leave it out"
    ) as error:
        refuse(folder, **given)
    assert error.value.field == f"DataParams.{name}"
    texts = {"notes__txt": "a b\n\nc d\n", "rows__csv": "prompt;completion\n1?;One.\n", "rows__jsonl": json.dumps(PAIR)}
    refuse(written(tmp_path / "fitting", **{applies_to: texts[applies_to]}), **given)
    evaluated = {"rows__csv": "test__csv", "rows__jsonl": "test__jsonl"}.get(applies_to)
    if evaluated:
        refuse(folder, eval_dataset=written(tmp_path / "other", **{evaluated: texts[applies_to]}), **given)


@pytest.mark.parametrize(
    ("rows", "given", "expected"),
    [
        ([{"messages": CHAT}], {"text_column": "text2"}, r"names a column that no row has: 'text2'"),
        ([{"messages": CHAT}], {"tools_column": "tols"}, r"tools_column='tols': names a column that no row has"),
        ([PAIR], {"chosen_column": "better"}, r"chosen_column='better': names a column that no row has.*are: completion"),
        ([{**PAIR, "mark": 1}], {"label_column": "mark"}, r"label_column='mark': is not used: the rows are read as prompt"),
        ([{"text": "a b", "sys": "c"}], {"system_column": "sys"}, r"system_column='sys': is not used.*as text, from text"),
        ([{"q": "1?", "a": "One."}], {**TEMPLATES, "format": "chat", "history_column": "h"}, r"history_column='h': names a"),
        ([{"q": "1?", "a": "1", "h": []}], {**TEMPLATES, "history_column": "h"}, r"history_column.*data\.format: chat\."),
        ([CHOICE], {"format": "preference", "prompt_column": "q"}, r"prompt_column='q': names a column that no row has"),
        ([CHOICE], {"packing": True}, r"packing=True: .*each of these stays by itself: .*as preference"),
        ([{**PAIR, "id": 1}], {"ignore_columns": ["ids"]}, r"ignore_columns.*no row has: 'ids'\. Did you mean 'id'\?"),
        ([PAIR], {"prompt_column": "prompt", "ignore_columns": ["prompt"], "completion_template": "{completion}"},
         r"ignore_columns.*is trained on, 'prompt'"),
        ([PAIR], {"roles": ROLES}, r"roles=.*: renames roles, and no row has messages: .*as prompt_completion"),
        ([{"text": "User: a"}], {"roles": {"User": "user"}}, r"renames roles, and no row has messages"),
        ([{"messages": CHAT}], {"roles": ROLES}, r"roles=.*names no role that a message has.*there are: user, assistant"),
    ],
    ids=str,
)  # fmt: skip
def test_an_option_that_no_row_gives_a_meaning_to_is_refused(
    rows: list[dict[str, object]],
    given: dict[str, object],
    expected: str,
    refuse: Callable[..., None],
    dataset_of: Callable[..., Path],
) -> None:
    with pytest.raises(RequestError, match=expected):
        refuse(dataset_of(rows), **given)


@pytest.mark.parametrize(
    ("rows", "given"),
    [
        ([{"messages": GERMAN}], {"roles": ROLES}),
        ([{"messages": GERMAN}], {"roles": {"kunde": "user", "AGENT": "assistant", "Bot": "assistant"}}),
        ([{"prompt": GERMAN[:1], "completion": GERMAN[1:]}], {"roles": ROLES}),
        (
            [{"prompt": GERMAN[:1], "chosen": GERMAN[1:], "rejected": GERMAN[1:]}],
            {"roles": ROLES, "format": "preference"},
        ),
        ([{"messages": json.dumps(GERMAN)}], {"roles": ROLES}),
        ([{"messages": "Kunde: 1?\nAgent: One."}], {"roles": ROLES}),
        ([{"messages": CHAT, "werk": []}], {"tools_column": "werk"}),
        ([{"messages": CHAT}], {"tools_column": None}),
        ([{"messages": CHAT, "body": "a b"}], {"text_column": "body"}),
        ([{"q": "1?", "a": "1", "h": []}], {**TEMPLATES, "history_column": "h", "format": "chat"}),
        ([{**PAIR, "note": "a b", "id": 1}], {"ignore_columns": ["note", "id"]}),
        ([PAIR], {"packing": True}),
    ],
    ids=str,
)
def test_an_option_that_means_something_passes(
    rows: list[dict[str, object]],
    given: dict[str, object],
    refuse: Callable[..., None],
    dataset_of: Callable[..., Path],
) -> None:
    refuse(dataset_of(rows), **given)


def test_the_columns_that_the_user_names_decide_how_rows_are_read(dataset_of: Callable[..., Path]) -> None:
    from tunewright_hf.data.rows.formats import check_dataset

    dataset = dataset_of([{"messages": CHAT, **PAIR, "body": "a b", "answer": "One."}])
    for given, form in (({"text_column": "body"}, "text"), ({"completion_column": "answer"}, "prompt_completion")):
        assert check_dataset(dataset, DataParams(**given), "dataset") == form


def test_tools_that_are_ignored_are_not_read(dataset_of: Callable[..., Path]) -> None:
    from tunewright_hf.data.rows.formats import read_columns

    found = read_columns(["messages", "tools"], DataParams(ignore_columns=["tools"]))
    assert (found.used, found.ignored, found.data.tools_column) == (("messages",), ("tools",), None)


def test_a_prompt_and_completion_of_messages_may_have_tools() -> None:
    from tunewright_hf.data.rows.formats import read_columns

    found = read_columns({"prompt": [CHAT[:1]], "completion": [CHAT[1:]], "tools": [[{"name": "f"}]]}, DataParams())
    assert (found.format, found.used, found.asked) == ("prompt_completion", ("prompt", "completion", "tools"), False)


def test_what_a_later_row_may_have_is_only_warned_of(
    refuse: Callable[..., None], dataset_of: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{**PAIR, "id": number} for number in range(200)]
    with caplog.at_level(logging.WARNING):
        refuse(dataset_of([*rows, {**PAIR, "source": "web"}]), ignore_columns=["source"])
    assert "names a column that no row has: 'source', as far as the first rows tell" in caplog.text


def test_a_column_to_read_is_refused_however_many_rows_there_are(
    refuse: Callable[..., None], dataset_of: Callable[..., Path]
) -> None:
    with pytest.raises(RequestError, match=r"text_column='body': names a column that no row has"):
        refuse(dataset_of([{"messages": CHAT}] * 200), text_column="body")
    refuse(dataset_of([{"messages": CHAT}] * 200), tools_column="tols")  # a later row may have it


def test_the_index_that_pandas_wrote_may_be_ignored(refuse: Callable[..., None], tmp_path: Path) -> None:
    text = "Unnamed: 0,prompt,completion\n0,1?,One.\n1,2?,Two.\n"
    refuse(written(tmp_path / "csv", rows__csv=text), ignore_columns=["Unnamed: 0"])


def test_encoders_and_decoders_cannot_be_told_to_read_chats(
    refuse: Callable[..., None], dataset_of: Callable[..., Path]
) -> None:
    with pytest.raises(RequestError, match=r"is not used: the rows are read as .*Leave it out\.$"):
        refuse(
            dataset_of([{**PAIR, "talk": "a"}]), Goal(task=SEQ2SEQ), format="prompt_completion", messages_column="talk"
        )


@pytest.mark.parametrize(("ask", "answer"), [("prompt", "completion"), ("question", "answer")])
def test_a_system_prompt_is_not_lost_on_a_model_without_a_chat_template(
    refuse: Callable[..., None], dataset_of: Callable[..., Path], ask: str, answer: str
) -> None:
    rows = dataset_of([{ask: "1?", answer: "One.", "system": "Be brief."}])
    template = f'prompt_template: "{{system}} {{{ask}}}", completion_template: "{{{answer}}}"'
    with pytest.raises(RequestError, match=re.escape(template)):
        refuse(rows, Goal(task=SEQ2SEQ), format="prompt_completion")
    told = {"prompt_template": f"{{system}} {{{ask}}}", "completion_template": f"{{{answer}}}"}
    refuse(rows, Goal(task=SEQ2SEQ), format="prompt_completion", **told)
    refuse(rows, Goal(task=SEQ2SEQ), format="prompt_completion", ignore_columns=["system"])


def test_an_option_of_the_job_may_be_for_one_dataset_of_a_list(
    refuse: Callable[..., None], dataset_of: Callable[..., Path], tmp_path: Path
) -> None:
    table = written(tmp_path / "csv", rows__csv="prompt;completion\n1?;One.\n")
    parts = [
        MixturePart(slot="dataset_1", name="a", folder=dataset_of([{"messages": CHAT}])),
        MixturePart(slot="dataset_2", name="b", folder=table),
    ]
    refuse(None, mixture=tuple(parts), delimiter=";")
    with pytest.raises(RequestError, match=r"DataParams\.text_unit='line': applies to no file"):
        refuse(None, mixture=tuple(parts), text_unit="line")
    own = [attrs.evolve(parts[0], data={"delimiter": ";"}), parts[1]]
    with pytest.raises(
        RequestError, match=r"dataset\[0\]\.data\.delimiter=';': applies to no file.*are JSON \(data\.jsonl\)"
    ):
        refuse(None, mixture=tuple(own))


@pytest.mark.slow
def test_check_preview_and_training_refuse_alike(model_folder: Path, qa: Path, tmp_path: Path) -> None:
    run = TrainRun(model=model_folder, dataset=qa, output=tmp_path / "out", emit=lambda _: None)
    assert datasets_of(run, DataParams())
    params = HuggingFaceTrainParams(data={"text_unit": "document"})
    for attempt in (params.check, lambda run: list(params.preview(run)), params.train):
        with pytest.raises(RequestError, match=r"DataParams\.text_unit='document': applies to no file"):
            attempt(run)
