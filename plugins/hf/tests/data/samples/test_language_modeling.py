"""Labels against expectations written by hand, token by token."""

from pathlib import Path

import pytest

from tunewright import RequestError
from tunewright_hf import DataParams
from tunewright_hf.data.samples.language_modeling import Encoder

transformers = pytest.importorskip("transformers")

EOS, USER, ASSISTANT, SYSTEM = 1, 2, 3, 4
GENERATION = (
    "{% for m in messages %}<|{{ m['role'] }}|>"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}"
    "</s>{% endfor %}"
)
BARE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
FORGETFUL = "{% for m in messages %}{% if loop.last or m['role'] == 'user' %}{{ m['content'] }}|{% endif %}{% endfor %}"
CHAT = [
    {"role": "system", "content": "Add."},
    {"role": "user", "content": "1 and 1?"},
    {"role": "assistant", "content": "2."},
    {"role": "user", "content": "2 and 2?"},
    {"role": "assistant", "content": "4."},
]


@pytest.fixture
def tokenizer(model_folder: Path):
    return transformers.AutoTokenizer.from_pretrained(model_folder)


def ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def ignored(part: list[int]) -> list[int]:
    return [-100] * len(part)


def test_text_is_learnt_whole_with_its_end(tokenizer) -> None:
    sample = Encoder(tokenizer, "text", DataParams())({"text": "What is 1?"})
    expected = [*ids(tokenizer, "What is 1?"), EOS]
    assert sample.ids == expected
    assert sample.labels == expected


def test_text_that_ends_with_its_end_gets_no_second_one(tokenizer) -> None:
    sample = Encoder(tokenizer, "text", DataParams())({"text": "What</s>"})
    assert sample.ids == [*ids(tokenizer, "What"), EOS]


@pytest.mark.parametrize("text", ["", "  \n", None])
def test_a_blank_text_is_no_sample(tokenizer, text: str | None) -> None:
    assert Encoder(tokenizer, "text", DataParams())({"text": text}) is None


ASKED = [{"role": "user", "content": "1 and 1?"}]


@pytest.mark.parametrize(
    ("form", "row"),
    [
        ("prompt_completion", {"prompt": "What is 1?", "completion": ""}),
        ("prompt_completion", {"prompt": "What is 1?", "completion": " \n"}),
        ("prompt_completion", {"prompt": "What is 1?", "completion": None}),
        ("prompt_completion", {"prompt": ASKED, "completion": None}),
        ("prompt_completion", {"prompt": None, "completion": [{"role": "assistant", "content": "2."}]}),
        ("chat", {"messages": None}),
        ("chat", {"messages": []}),
        ("chat", {"messages": [*ASKED, {"role": "assistant", "content": ""}]}),
        ("chat", {"messages": [*ASKED, {"role": "assistant", "content": None}]}),
    ],
)
def test_a_row_without_an_answer_is_no_sample(tokenizer, form: str, row: dict[str, object]) -> None:
    assert Encoder(tokenizer, form, DataParams())(row) is None


def test_a_row_without_a_prompt_is_one(tokenizer) -> None:
    sample = Encoder(tokenizer, "prompt_completion", DataParams())({"prompt": "", "completion": "The sum."})
    assert sample.labels == [*ids(tokenizer, "The sum."), EOS]


def test_of_prompt_and_completion_the_completion_is_learnt(tokenizer) -> None:
    sample = Encoder(tokenizer, "prompt_completion", DataParams())({"prompt": "What is 1?", "completion": " The sum."})
    prompt, completion = ids(tokenizer, "What is 1?"), ids(tokenizer, " The sum.")
    assert sample.ids == [*prompt, *completion, EOS]
    assert sample.labels == [*ignored(prompt), *completion, EOS]


def test_a_token_never_reaches_over_the_seam(tokenizer) -> None:
    prompt, completion = ids(tokenizer, "What is "), ids(tokenizer, "The sum")
    assert ids(tokenizer, "What is The sum") != prompt + completion, "this text must merge at the seam to test anything"
    sample = Encoder(tokenizer, "prompt_completion", DataParams())({"prompt": "What is ", "completion": "The sum"})
    assert sample.ids == [*prompt, *completion, EOS]
    assert sample.labels == [*ignored(prompt), *completion, EOS]


@pytest.mark.parametrize("scheme", ["first", "always"])
@pytest.mark.parametrize(
    ("prompt", "completion"), [("Answer: ", "Yes"), ("Answer:", " Yes"), ("What is ", "3 and 3"), ("What ", " is")]
)
def test_a_completion_gets_no_space_that_a_tokenizer_writes_before_texts(
    scheme: str, prompt: str, completion: str
) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer, raw.decoder = (m.Metaspace(prepend_scheme=scheme) for m in (pre_tokenizers, decoders))
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=special, initial_alphabet=["\n"], show_progress=False)
    raw.train_from_iterator(["Answer: Yes", "Yes No", "What is 3 and 3?"], trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    sample = Encoder(tokenizer, "prompt_completion", DataParams())({"prompt": prompt, "completion": completion})
    assert tokenizer.decode(sample.ids) == f"{prompt}{completion}</s>"
    asked = ids(tokenizer, prompt)
    assert sample.ids[: len(asked)] == asked
    assert sample.labels == [*ignored(asked), *sample.ids[len(asked) :]]


def test_a_tokenizer_that_frames_texts_frames_a_sample_once(tokenizer) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", EOS)]
    )
    prompt, completion = ids(tokenizer, "What is 1?"), ids(tokenizer, " 2.")
    encoder = Encoder(tokenizer, "prompt_completion", DataParams())
    sample = encoder({"prompt": "What is 1?", "completion": " 2."})
    assert sample.ids == [0, *prompt, *completion, EOS]
    assert sample.labels == [-100, *ignored(prompt), *completion, EOS]
    assert encoder.prompt("What is 1?") == [0, *prompt]


def chat_pieces(tokenizer) -> list[tuple[list[int], bool]]:
    """The conversation by hand, and whether each piece is trained on; the end of an assistant's turn is."""
    return [
        ([SYSTEM, *ids(tokenizer, "Add."), EOS, USER, *ids(tokenizer, "1 and 1?"), EOS, ASSISTANT], False),
        ([*ids(tokenizer, "2."), EOS], True),
        ([USER, *ids(tokenizer, "2 and 2?"), EOS, ASSISTANT], False),
        ([*ids(tokenizer, "4."), EOS], True),
    ]


@pytest.mark.parametrize("template", [None, GENERATION], ids=["by_prefixes", "by_generation_marks"])
def test_of_a_chat_the_assistants_turns_are_learnt(tokenizer, template: str | None) -> None:
    tokenizer.chat_template = template or tokenizer.chat_template
    sample = Encoder(tokenizer, "chat", DataParams())({"messages": CHAT})
    pieces = chat_pieces(tokenizer)
    assert sample.ids == [t for piece, _ in pieces for t in piece]
    assert sample.labels == [t for piece, learnt in pieces for t in (piece if learnt else ignored(piece))]


def test_a_template_without_an_end_gets_one(tokenizer) -> None:
    tokenizer.chat_template = BARE
    sample = Encoder(tokenizer, "chat", DataParams())({"messages": CHAT[1:3]})
    prompt, answer = ids(tokenizer, "user: 1 and 1?\nassistant: "), ids(tokenizer, "2.\n")
    assert sample.ids == [*prompt, *answer, EOS]
    assert sample.labels == [*ignored(prompt), *answer, EOS]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (FORGETFUL, r"leaves an assistant's message out: '2\.'"),
        ("{% for m in messages %}{{ m['content'] if loop.last else m['content'] | upper }}|{% endfor %}", "generation"),
        ("{% for m in messages %}{{ m['content'][0] }}|{% endfor %}", "leaves an assistant's message out"),
    ],
)
def test_a_template_that_rewrites_turns_is_refused(tokenizer, template: str, expected: str) -> None:
    tokenizer.chat_template = template
    with pytest.raises(RequestError, match=expected):
        Encoder(tokenizer, "chat", DataParams())({"messages": [{"role": "user", "content": "so?"}, *CHAT[1:]]})


# As Qwen 3's: a place for thoughts in what follows the last question, and none in earlier turns.
THINKING = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m['role'] == 'user' %}{% set ns.last = loop.index0 %}{% endif %}"
    "{% endfor %}{% for m in messages %}<|{{ m['role'] }}|>{% if m['role'] == 'assistant' and loop.index0 > ns.last and loop.last %}"
    "(){% endif %}{{ m['content'].split('</think>')[-1] }}</s>{% endfor %}{% if add_generation_prompt %}<|assistant|>PROMPT{% endif %}"
)
# As Phi 3's: a token behind the whole conversation.
ENDED = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% else %}</s>{% endif %}"
)


@pytest.mark.parametrize(
    ("prompt", "thought", "place"), [("", "", "()"), ("", "<think>hm</think>", "()"), ("(", "", ")"), ("()", "", "")]
)
def test_a_place_for_thoughts_in_the_last_turn_alone(tokenizer, prompt: str, thought: str, place: str) -> None:
    tokenizer.chat_template = THINKING.replace("PROMPT", prompt)
    earlier = [{**m, "content": thought + m["content"]} if m["role"] == "assistant" else m for m in CHAT[:-1]]
    sample = Encoder(tokenizer, "chat", DataParams())({"messages": [*earlier, CHAT[-1]]})
    asked, answered, again, last = chat_pieces(tokenizer)
    pieces = [asked, answered, again, (ids(tokenizer, prompt), False), (ids(tokenizer, place), True), last]
    assert tokenizer.decode(sample.ids) == tokenizer.decode([t for piece, _ in pieces for t in piece])
    learnt = [t for t in sample.labels if t != -100]
    assert tokenizer.decode(learnt) == tokenizer.decode([t for piece, yes in pieces for t in piece if yes])


@pytest.mark.parametrize(
    "thought", [{"content": "<think>\nhm\n</think>\n4."}, {"content": "4.", "reasoning_content": "hm"}]
)
def test_thoughts_of_the_last_answer_that_the_template_drops_are_refused(tokenizer, thought: dict[str, str]) -> None:
    tokenizer.chat_template = THINKING.replace("PROMPT", "")
    with pytest.raises(RequestError, match="leaves the thoughts of an answer out: 'hm'"):
        Encoder(tokenizer, "chat", DataParams())({"messages": [*CHAT[:-1], {"role": "assistant", **thought}]})
    tokenizer.chat_template = (
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m['reasoning_content'] }}{{ m['content'] }}</s>{% endfor %}"
    )
    sample = Encoder(tokenizer, "chat", DataParams())({"messages": [CHAT[1], {"role": "assistant", **thought}]})
    assert "hm" in tokenizer.decode([t for t in sample.labels if t != -100])


@pytest.mark.parametrize("role", ["system", "developer", "user", "tool"])
def test_a_message_of_any_role_that_the_template_drops_is_refused(tokenizer, role: str) -> None:
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "{% for m in messages %}", "{% for m in messages if m['content'] != 'Be brief, please.' %}"
    )
    chat = [{"role": role, "content": "Be brief, please."}, *CHAT[1:]]
    with pytest.raises(RequestError, match=f"leaves a message of the role '{role}' out: 'Be brief, please.'"):
        Encoder(tokenizer, "chat", DataParams())({"messages": chat})


def test_a_token_behind_the_whole_conversation_is_learnt_behind_each_turn(tokenizer) -> None:
    tokenizer.chat_template = ENDED
    sample = Encoder(tokenizer, "chat", DataParams())({"messages": CHAT[1:]})
    pieces = [
        ([USER, *ids(tokenizer, "1 and 1?\n"), ASSISTANT], False),
        (ids(tokenizer, "2.\n"), True),
        ([USER, *ids(tokenizer, "2 and 2?\n"), ASSISTANT], False),
        ([*ids(tokenizer, "4.\n"), EOS], True),
    ]
    assert sample.ids == [t for piece, _ in pieces for t in piece]
    labels = [t for piece, learnt in pieces for t in (piece if learnt else ignored(piece))]
    labels[len(pieces[0][0]) + len(pieces[1][0])] = EOS  # where the input is the next question's first token
    assert sample.labels == labels


# As Qwen 2.5's: a system prompt of its own, tool calls, and a line break behind what ends a turn.
QWEN = (
    "{% if messages[0]['role'] != 'system' %}<|system|>Help.</s>\n{% endif %}"
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m.get('content') or '' }}"
    "{% for c in m.get('tool_calls') or [] %}CALL {{ c['function']['name'] }}{% endfor %}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CALL = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "sum"}}]}


@pytest.mark.parametrize(
    ("messages", "learnt"),
    [
        ([CHAT[1], CALL], "CALL sum</s>\n"),
        ([CHAT[1], {k: v for k, v in CALL.items() if k != "content"}], "CALL sum</s>\n"),
        ([*CHAT[1:4], {"role": "assistant", "content": ""}], "2.</s>\n</s>\n"),
        ([CHAT[1], CHAT[2]], "2.</s>\n"),
        ([CHAT[2]], "2.</s>\n"),
        ([CHAT[2], *CHAT[1:3]], "2.</s>\n2.</s>\n"),
        ([{"role": "assistant", "content": " a"}, *CHAT[1:3]], " a</s>\n2.</s>\n"),
        ([CALL, *CHAT[1:3]], "CALL sum</s>\n2.</s>\n"),
    ],
)
def test_the_assistants_words_and_the_end_of_each_turn_alone_are_learnt(
    tokenizer, messages: list[dict[str, object]], learnt: str
) -> None:
    tokenizer.chat_template = QWEN
    sample = Encoder(tokenizer, "chat", DataParams())({"messages": messages})
    assert tokenizer.decode([t for t in sample.labels if t != -100]) == learnt
    assert tokenizer.decode(sample.ids) == tokenizer.apply_chat_template(messages, tokenize=False)


def test_a_call_that_a_template_does_not_end_gets_an_end(tokenizer) -> None:
    tokenizer.chat_template = QWEN.replace("{% endfor %}</s>\n", "{% endfor %}")
    sample = Encoder(tokenizer, "chat", DataParams())({"messages": [CHAT[1], CALL]})
    assert tokenizer.decode([t for t in sample.labels if t != -100]) == "CALL sum</s>"


def test_messages_without_an_answer_are_no_sample(tokenizer) -> None:
    assert Encoder(tokenizer, "chat", DataParams())({"messages": CHAT[:2]}) is None


def test_keys_that_arrow_filled_up_do_not_reach_the_template(tokenizer) -> None:
    tokenizer.chat_template = "{% for m in messages %}{{ m.keys() | list }}{{ m['content'] }}{% endfor %}"
    messages = [{"role": "assistant", "content": "a", "tool_calls": None}]
    sample = Encoder(tokenizer, "chat", DataParams())({"messages": messages})
    assert "tool_calls" not in tokenizer.decode(sample.ids)


@pytest.mark.parametrize(
    ("form", "row", "expected"),
    [
        ("text", {"text": 3}, ["'text'", "int", "3"]),
        ("prompt_completion", {"prompt": "a", "completion": ["b"]}, ["'completion'", "list"]),
        ("chat", {"messages": "hello"}, ["'messages'", "hello"]),
        ("chat", {"messages": [{"von": "human", "value": "x"}]}, ["'messages'", "role"]),
    ],
)
def test_a_column_of_something_else_is_refused(
    tokenizer, form: str, row: dict[str, object], expected: list[str]
) -> None:
    with pytest.raises(RequestError) as error:
        Encoder(tokenizer, form, DataParams())(row)
    for part in expected:
        assert part in str(error.value)


def test_what_a_template_refuses_is_told_with_its_reason(tokenizer) -> None:
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(RequestError, match=r"roles must alternate.*user, assistant"):
        Encoder(tokenizer, "chat", DataParams())({"messages": CHAT[1:3]})


def test_a_chat_prompt_is_what_the_template_makes_of_it(tokenizer) -> None:
    prompt = Encoder(tokenizer, "chat", DataParams()).prompt("1 and 1?")
    assert prompt == [USER, *ids(tokenizer, "1 and 1?"), EOS, ASSISTANT]


def test_pads_are_not_learnt_and_the_end_is_although_they_are_one_token() -> None:
    pytest.importorskip("torch")
    from tunewright_hf.data.samples.collators import Collator

    samples = [{"input_ids": [5, 6, EOS], "labels": [5, 6, EOS]}, {"input_ids": [7], "labels": [7]}]
    batch = Collator(pad_id=EOS)(samples)
    assert batch["input_ids"].tolist() == [[5, 6, EOS], [7, EOS, EOS]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, EOS], [-100, -100, -100]], "the first is never predicted"
