"""What templates, conversations in two parts, and tools make of a row: against expectations written by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright import RequestError, TrainRun
from tunewright_hf import DataParams, HuggingFaceTrainParams
from tunewright_hf.data.rows.columns import text_of, tools_of
from tunewright_hf.data.rows.formats import check_dataset, read_columns
from tunewright_hf.data.samples.language_modeling import Encoder

transformers = pytest.importorskip("transformers")

EOS, USER, ASSISTANT, SYSTEM = 1, 2, 3, 4
ALPACA = {
    "prompt_template": ["Q: {instruction}\nI: {input}\nA:", "Q: {instruction}\nA:"],
    "completion_template": " {output}",
}
ROW = {"instruction": "Add", "input": "1 and 1", "output": "2"}


@pytest.fixture
def tokenizer(model_folder: Path):
    return transformers.AutoTokenizer.from_pretrained(model_folder)


def ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def learnt(tokenizer, *pieces: tuple[str | list[int], bool]) -> tuple[list[int], list[int]]:
    """Ids and labels of pieces, each with whether it is trained on."""
    parts = [(ids(tokenizer, p) if isinstance(p, str) else p, yes) for p, yes in pieces]
    return [t for part, _ in parts for t in part], [t if yes else -100 for part, yes in parts for t in part]


def encoded(tokenizer, form: str, row: dict[str, object], **data: object) -> tuple[list[int], list[int]]:
    sample = Encoder(tokenizer, form, DataParams(**data))(row)
    return sample.ids, sample.labels


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        (ROW, "Q: Add\nI: 1 and 1\nA:"),
        ({**ROW, "input": ""}, "Q: Add\nA:"),
        ({**ROW, "input": None}, "Q: Add\nA:"),
        ({**ROW, "input": 3}, "Q: Add\nI: 3\nA:"),
        ({**ROW, "instruction": "", "input": "1"}, "Q: \nA:"),
        ({**ROW, "instruction": "{output} {0.__class__}"}, "Q: {output} {0.__class__}\nI: 1 and 1\nA:"),
    ],
)
def test_a_template_writes_the_prompt_and_the_completion(tokenizer, row: dict[str, object], prompt: str) -> None:
    expected = learnt(tokenizer, (prompt, False), (" 2", True), ([EOS], True))
    assert encoded(tokenizer, "prompt_completion", row, **ALPACA) == expected


def test_a_row_without_what_is_asked_or_answered_is_no_sample(tokenizer) -> None:
    encode = Encoder(tokenizer, "prompt_completion", DataParams(**ALPACA))
    assert encode({**ROW, "output": " "}) is None
    assert encode({"instruction": None, "input": "", "output": "2"}) is None


def test_braces_of_its_own_are_written_twice() -> None:
    assert text_of({"a": "x"}, "text", DataParams(text_template="{{{a}}} {{}}")) == "{x} {}"


def test_of_a_chat_templates_write_the_two_messages(tokenizer) -> None:
    given = {"format": "chat", "prompt_template": "{instruction}: {input}", "completion_template": "{output}"}
    expected = learnt(
        tokenizer, ([USER], False), ("Add: 1 and 1", False), ([EOS, ASSISTANT], False), ("2", True), ([EOS], True)
    )
    assert encoded(tokenizer, "chat", ROW, **given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"prompt_template": "{a.b!r}"}, r"prompt_template='\{a.b!r\}': has braces with something else"),
        ({"prompt_template": "{a:>9999999999}"}, "has braces with something else"),
        ({"prompt_template": "{}"}, "has braces with something else"),
        ({"prompt_template": "{a"}, r"cannot be read.*\{\{ or \}\}"),
        ({"prompt_template": "Answer"}, "names no column"),
        ({"prompt_template": 3}, "must be a text or a list of texts"),
        ({"prompt_template": "{a}", "prompt_column": "q"}, r"prompt_column='q': stands beside prompt_template"),
        ({"prompt_template": "{a}", "format": "text"}, r"prompt_template='text': is for prompt_completion or chat"),
        ({"text_template": "{a}", "prompt_template": "{b}"}, r"text_template.*is for text or classification"),
    ],
)
def test_a_template_that_cannot_work_is_refused_on_the_client(given: dict[str, object], expected: str) -> None:
    with pytest.raises(RequestError, match=expected):
        DataParams(**given)


def test_a_column_that_a_template_wants_and_the_dataset_lacks_is_named(dataset_of: Callable[..., Path]) -> None:
    dataset = dataset_of([ROW])
    assert check_dataset(dataset, DataParams(**ALPACA), "dataset") == "prompt_completion"
    assert check_dataset(dataset, DataParams(**ALPACA, format="chat"), "dataset") == "chat"
    assert check_dataset(dataset, DataParams(text_template="{input}"), "dataset") == "text"
    with pytest.raises(
        RequestError, match=r"no column 'instructions'\. Did you mean 'instruction' instead of 'instructions'\?"
    ):
        check_dataset(dataset, DataParams(prompt_template="{instructions}", completion_template="{output}"), "dataset")
    with pytest.raises(RequestError, match=r"no column 'input\.__class__'"):
        check_dataset(dataset, DataParams(text_template="{input.__class__}"), "dataset")


def test_templates_travel_and_a_list_is_a_list() -> None:
    from tunewright.providers import wire

    params = HuggingFaceTrainParams(data={**ALPACA, "completion_template": "{output}"})
    again = wire.structure(HuggingFaceTrainParams, wire.unstructure(params, "trainer"), {})
    assert again == params
    assert again.data.prompt_template == tuple(ALPACA["prompt_template"])


def test_a_preview_shows_what_templates_write(
    model_folder: Path, dataset_of: Callable[..., Path], tmp_path: Path
) -> None:
    run = TrainRun(model=model_folder, dataset=dataset_of([ROW]), output=tmp_path, emit=lambda _: None)
    (shown,) = HuggingFaceTrainParams(data=ALPACA).preview(run)
    assert shown.pieces == (("Q: Add\nI: 1 and 1\nA:", False), (" 2</s>", True))


MARKED = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}"
    "{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TWO_PARTS = {
    "prompt": [
        {"role": "user", "content": "1 and 1?"},
        {"role": "assistant", "content": "3."},
        {"role": "user", "content": "What?"},
    ],
    "completion": [
        {"role": "assistant", "content": "2."},
        {"role": "user", "content": "2 and 2?"},
        {"role": "assistant", "content": "4."},
    ],
}


@pytest.mark.parametrize("template", [None, MARKED], ids=["by_prefixes", "by_generation_marks"])
def test_of_a_conversation_in_two_parts_the_answers_of_the_second_are_learnt(tokenizer, template: str | None) -> None:
    tokenizer.chat_template = template or tokenizer.chat_template
    expected = learnt(
        tokenizer,
        ([USER], False), ("1 and 1?", False), ([EOS, ASSISTANT], False), ("3.", False), ([EOS, USER], False), ("What?", False),
        ([EOS, ASSISTANT], False), ("2.", True), ([EOS], True),
        ([USER], False), ("2 and 2?", False), ([EOS, ASSISTANT], False), ("4.", True), ([EOS], True),
    )  # fmt: skip
    assert encoded(tokenizer, "prompt_completion", TWO_PARTS) == expected


def test_a_conversation_in_two_parts_needs_a_chat_template_and_two_lists(tokenizer) -> None:
    with pytest.raises(RequestError, match="'completion' holds something that is not a list of messages"):
        encoded(tokenizer, "prompt_completion", {**TWO_PARTS, "completion": "2."})
    tokenizer.chat_template = None
    with pytest.raises(RequestError, match="without a chat template"):
        encoded(tokenizer, "prompt_completion", TWO_PARTS)


WITH_TOOLS = (
    "{% if tools %}<|system|>{% for t in tools %}{{ t | tojson }}{% endfor %}</s>{% endif %}"
    "{% for m in messages %}<|{{ m['role'] if m['role'] != 'tool' else 'user' }}|>"
    "{% if m.get('tool_calls') %}{% for c in m['tool_calls'] %}{{ c['function']['name'] }}"
    "{{ c['function']['arguments'] | tojson }}{% endfor %}"
    "{% else %}{{ m['content'] }}{% endif %}</s>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"n": {"type": "integer"}}}}
CALLING = [
    {"role": "user", "content": "1 and 1?"},
    {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"n": 1}}}]},
    {"role": "tool", "content": "2"},
    {"role": "assistant", "content": "2."},
]


def with_text_arguments(messages: list[dict[str, object]]) -> list[dict[str, object]]:
    """As the OpenAI API writes them."""
    call = {"type": "function", "function": {"name": "add", "arguments": '{"n": 1}'}}
    return [messages[0], {**messages[1], "tool_calls": [call]}, *messages[2:]]


def filled_up(value: object) -> object:
    """As Arrow makes it: every object has the keys of all of them."""
    if isinstance(value, list):
        return [filled_up(v) for v in value]
    return {**{k: filled_up(v) for k, v in value.items()}, "x": None} if isinstance(value, dict) else value


@pytest.mark.parametrize(
    "row",
    [
        {"messages": CALLING, "tools": [TOOL]},
        {"messages": CALLING, "tools": json.dumps([TOOL])},
        {"messages": with_text_arguments(CALLING), "tools": [TOOL]},
        filled_up({"messages": CALLING, "tools": [TOOL]}),
    ],
    ids=["objects", "json", "openai", "from_arrow"],
)
def test_tools_are_told_and_calls_of_them_are_learnt(tokenizer, row: dict[str, object]) -> None:
    tokenizer.chat_template = WITH_TOOLS
    told = '{"type": "function", "function": {"name": "add", "parameters": {"n": {"type": "integer"}}}}'
    expected = learnt(
        tokenizer,
        ([SYSTEM], False), (told, False), ([EOS, USER], False), ("1 and 1?", False), ([EOS, ASSISTANT], False),
        ('add{"n": 1}', True), ([EOS], True), ([USER], False), ("2", False), ([EOS, ASSISTANT], False), ("2.", True), ([EOS], True),
    )  # fmt: skip
    assert encoded(tokenizer, "chat", row) == expected


@pytest.mark.parametrize("template", [None, MARKED], ids=["by_prefixes", "by_generation_marks"])
def test_a_template_that_leaves_calls_out_is_refused(tokenizer, template: str | None) -> None:
    tokenizer.chat_template = template or tokenizer.chat_template
    calling = [CALLING[0], {**CALLING[1], "content": ""}, *CALLING[2:]]
    with pytest.raises(RequestError, match="leaves an assistant's message out: 'add'"):
        encoded(tokenizer, "chat", {"messages": calling})


def test_parts_of_text_are_joined(tokenizer) -> None:
    parts = [{"type": "text", "text": "2"}, {"type": "text", "text": ".", "x": None}]
    asked = {"role": "user", "content": "1 and 1?"}
    rows = [{"messages": [asked, {"role": "assistant", "content": content}]} for content in (parts, "2.")]
    assert encoded(tokenizer, "chat", rows[0]) == encoded(tokenizer, "chat", rows[1])


@pytest.mark.parametrize("content", [[{"type": "image", "url": "x"}], [{"type": "text"}], ["a"], 5, {"a": 1}])
def test_content_that_is_no_text_is_refused(tokenizer, content: object) -> None:
    for messages in ([{"role": "user", "content": content}, CALLING[3]], [{"role": "assistant", "content": content}]):
        with pytest.raises(
            RequestError, match=r"'messages' holds a message (whose content is not text|with a part|with 'image')"
        ):
            encoded(tokenizer, "chat", {"messages": messages})


def test_what_a_call_gave_may_be_an_object(tokenizer) -> None:
    tokenizer.chat_template = WITH_TOOLS.replace("{{ m['content'] }}", "{{ m['content'] | string }}")
    given = [*CALLING[:2], {"role": "tool", "content": {"sum": 2}}, CALLING[3]]
    assert "{'sum': 2}" in tokenizer.decode(encoded(tokenizer, "chat", {"messages": given})[0])


def test_a_template_that_cannot_write_a_content_tells_so(tokenizer) -> None:
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] + m['content'] }}{% endfor %}"
    given = [*CALLING[:1], {"role": "tool", "content": {"sum": 2}}, CALLING[3]]
    with pytest.raises(
        RequestError, match=r"refuses a conversation: can only concatenate.*\(its roles: user, tool, assistant\)"
    ):
        encoded(tokenizer, "chat", {"messages": given})


def test_a_template_that_knows_no_tools_is_refused(tokenizer) -> None:
    row = {"messages": CALLING[:1] + CALLING[3:], "tools": [TOOL]}
    with pytest.raises(RequestError, match=r"knows no tools.*tools_column=None"):
        encoded(tokenizer, "chat", row)
    whole = encoded(tokenizer, "chat", row, tools_column=None)
    assert (
        whole == encoded(tokenizer, "chat", {**row, "tools": None}) == encoded(tokenizer, "chat", {**row, "tools": []})
    )


def test_a_column_that_holds_no_tools_is_refused() -> None:
    with pytest.raises(RequestError, match=r"column 'tools' holds something else than tools: a hammer"):
        tools_of({"tools": "a hammer"}, DataParams())


@pytest.mark.parametrize(
    ("values", "passed_over"),
    [
        ([3, 1, 2], True),
        (["0", "1"], True),
        ([0.0, None, 1.0], True),
        ([None, None], True),
        ([1, 1, 0], False),
        (["a b", "c"], False),
    ],
    ids=str,
)
def test_a_column_without_a_name_is_passed_over_only_as_an_index(values: list[object], passed_over: bool) -> None:
    columns = {"Unnamed: 0": values, "prompt": ["a"] * len(values), "completion": ["b"] * len(values)}
    if passed_over:
        assert read_columns(columns, DataParams()).ignored == ("Unnamed: 0",)
        return
    with pytest.raises(RequestError, match=r"no name of its own.*ignore_columns: \[\"Unnamed: 0\"\]"):
        read_columns(columns, DataParams())
