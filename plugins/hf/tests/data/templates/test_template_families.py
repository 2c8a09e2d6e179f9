"""What is supervised with the chat templates of model families: turns with their ends and thoughts, written by hand.

Supervised text stands in ⟦…⟧. Where the label is another token than the input, it is written as {input→label}.
"""

# ruff: noqa: RUF001 - DeepSeek's tokens are written with wide bars

from __future__ import annotations

import os.path
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plugins.hf.tests.data.template_families import FAMILIES, Family

from tunewright import RequestError
from tunewright_hf import DataParams

transformers = pytest.importorskip("transformers")

from tunewright_hf.data import tokenize  # noqa: E402
from tunewright_hf.data.samples.language_modeling import Encoder  # noqa: E402
from tunewright_hf.data.templates import chat_template  # noqa: E402
from tunewright_hf.data.templates.chat_template import Conversation  # noqa: E402
from tunewright_hf.data.templates.probes import turn_ends  # noqa: E402
from tunewright_hf.data.templates.turn_ends import Stops, unstopped  # noqa: E402

ASK, SAY = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
AGAIN, THEN = {"role": "user", "content": "R"}, {"role": "assistant", "content": "B"}
KEY = {"role": "assistant", "reasoning_content": "T", "content": "A"}
INLINE = {"role": "assistant", "content": "<think>\nT\n</think>\n\nA"}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}],
}
RESULT = {"role": "tool", "name": "f", "content": "4"}
TOOLS = [{"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}]


@pytest.fixture(scope="module")
def tokenizer_of() -> Callable[[str], object]:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    made: dict[str, object] = {}

    def make(name: str) -> object:
        if name not in made:
            family: Family = FAMILIES[name]
            raw = Tokenizer(models.BPE())
            raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
            letters = pre_tokenizers.ByteLevel.alphabet()
            raw.train_from_iterator(
                [], trainers.BpeTrainer(vocab_size=256, initial_alphabet=letters, show_progress=False)
            )
            found = transformers.PreTrainedTokenizerFast(
                tokenizer_object=raw, bos_token=family.bos, eos_token=family.eos
            )
            control = dict.fromkeys([*family.tokens, *family.stops])
            found.add_tokens([AddedToken(token, special=True, normalized=False) for token in control])
            found.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in family.tags])
            found.chat_template = family.template
            made[name] = found
        return made[name]

    return make


def shown(tokenizer, sample) -> str:
    text, inside = "", False
    for token, label in zip(sample.ids, sample.labels, strict=True):
        if inside != (label != -100):
            text, inside = text + ("⟧" if inside else "⟦"), not inside
        word = tokenizer.decode([token])
        text += word if label in (-100, token) else f"{{{word}→{tokenizer.decode([label])}}}"
    return text + ("⟧" if inside else "")


def sample_of(tokenizer, family: str, messages: list[dict[str, object]], *, adapter: bool = False):
    tools = any(message.get("tool_calls") for message in messages)
    stops = Stops(tokens=tuple(tokenizer.convert_tokens_to_ids(t) for t in FAMILIES[family].stops), fixed=adapter)
    return Encoder(tokenizer, "chat", DataParams(), stops)(
        {"messages": messages, **({"tools": TOOLS} if tools else {})}
    )


TWO_TURNS = {
    "qwen2.5": "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n⟦A<|im_end|>\n⟧"
    "<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\n⟦B<|im_end|>\n⟧",
    "qwen3": "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n⟦A<|im_end|>\n⟧"
    "<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\n⟦<think>\n\n</think>\n\nB<|im_end|>\n⟧",
    "deepseek r1": "<s><｜User｜>Q<｜Assistant｜>⟦A<｜end▁of▁sentence｜>⟧<｜User｜>R<｜Assistant｜>⟦B<｜end▁of▁sentence｜>⟧",
    "deepseek v3.1": "<s><｜User｜>Q<｜Assistant｜></think>⟦A<｜end▁of▁sentence｜>⟧"
    "<｜User｜>R<｜Assistant｜></think>⟦B<｜end▁of▁sentence｜>⟧",
    "glm 4.5": "[gMASK]<sop><|user|>\nQ<|assistant|>⟦\n<think></think>\nA<|user|>⟧\nR<|assistant|>⟦\n<think></think>\nB<|user|>⟧",
    "gpt-oss": "<|start|>user<|message|>Q<|end|><|start|>assistant⟦<|channel|>final<|message|>A{<|end|>→<|return|>}⟧"
    "<|start|>user<|message|>R<|end|><|start|>assistant⟦<|channel|>final<|message|>B<|return|>⟧",
    "magistral": "<s>[INST]Q[/INST]⟦A</s>⟧[INST]R[/INST]⟦B</s>⟧",
    "gemma 3": "<s><start_of_turn>user\nQ<end_of_turn>\n<start_of_turn>model\n⟦A<end_of_turn>\n⟧"
    "<start_of_turn>user\nR<end_of_turn>\n<start_of_turn>model\n⟦B<end_of_turn>\n⟧",
    "llama 3": "<s><|start_header_id|>user<|end_header_id|>\n\nQ<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n⟦A<|eot_id|>⟧<|start_header_id|>user<|end_header_id|>\n\nR<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n⟦B<|eot_id|>⟧",
    "smollm3": "<|im_start|>user\nQ<|im_end|>\n⟦<|im_start|>assistant\nA<|im_end|>\n⟧"
    "<|im_start|>user\nR<|im_end|>\n⟦<|im_start|>assistant\nB<|im_end|>\n⟧",
    "granite": "<|start_of_role|>user<|end_of_role|>Q<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>⟦A<|end_of_text|>\n⟧"
    "<|start_of_role|>user<|end_of_role|>R<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>⟦B<|end_of_text|>\n⟧",
    "cohere": "<s><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Q<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>⟦A<|END_OF_TURN_TOKEN|>⟧<|START_OF_TURN_TOKEN|><|USER_TOKEN|>R<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>⟦B<|END_OF_TURN_TOKEN|>⟧",
    "phi 4": "<|im_start|>user<|im_sep|>Q<|im_end|><|im_start|>assistant<|im_sep|>⟦A<|im_end|>⟧"
    "<|im_start|>user<|im_sep|>R<|im_end|><|im_start|>assistant<|im_sep|>⟦B<|im_end|>⟧",
    "phi 3.5": "<|user|>\nQ<|end|>\n<|assistant|>\n⟦A<|end|>\n⟧<|user|>\nR<|end|>\n<|assistant|>\n⟦B<|end|>\n<|endoftext|>⟧",
    "phi, bare": "<|user|>\nQ\n<|assistant|>\n⟦A\n{<|user|>→<|endoftext|>}⟧\nR\n<|assistant|>\n⟦B\n<|endoftext|>⟧",
    "plain": "user: Q\nassistant: ⟦A\n{u→</s>}⟧ser: R\nassistant: ⟦B\n</s>⟧",
}


@pytest.mark.parametrize("family", TWO_TURNS)
def test_each_turn_ends_with_a_token_that_generation_stops_at(tokenizer_of, family: str) -> None:
    tokenizer = tokenizer_of(family)
    sample = sample_of(tokenizer, family, [ASK, SAY, AGAIN, THEN])
    assert shown(tokenizer, sample) == TWO_TURNS[family]


BASE = {
    "qwen2.5 base": (
        "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n⟦A<|im_end|>\n⟧",
        "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n⟦A<|im_end|>{\n→<|endoftext|>}⟧",
    ),
    "llama 3 base": (
        "<s><|start_header_id|>user<|end_header_id|>\n\nQ<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n⟦A<|eot_id|>⟧",
        "<s><|start_header_id|>user<|end_header_id|>\n\nQ<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n⟦A<|eot_id|><|end_of_text|>⟧",
    ),
}


@pytest.mark.parametrize("family", BASE)
@pytest.mark.parametrize("adapter", [False, True], ids=["whole", "adapter"])
def test_an_adapter_whose_base_does_not_stop_at_the_end_of_turns_learns_a_token_that_it_stops_at(
    tokenizer_of, family: str, adapter: bool
) -> None:
    tokenizer = tokenizer_of(family)
    assert shown(tokenizer, sample_of(tokenizer, family, [ASK, SAY], adapter=adapter)) == BASE[family][adapter]


def test_an_adapter_learns_it_behind_each_turn(tokenizer_of) -> None:
    tokenizer = tokenizer_of("qwen2.5 base")
    text = shown(tokenizer, sample_of(tokenizer, "qwen2.5 base", [ASK, SAY, AGAIN, THEN], adapter=True))
    assert text.count("<|im_end|>{\n→<|endoftext|>}⟧") == 2


CALLS = {
    "qwen2.5": "⟦<tool_call>f {}</tool_call><|im_end|>\n⟧",
    "qwen3": "⟦<think>\n\n</think>\n\n<tool_call>f{}</tool_call><|im_end|>\n⟧",
    "glm 4.5": "⟦\n<think></think>\n<tool_call>f</tool_call><|observation|>⟧",
    "gpt-oss": "⟦ to=functions.f<|channel|>commentary json<|message|>{}<|call|>⟧",
}


@pytest.mark.parametrize("family", CALLS)
def test_a_call_ends_where_generation_stops_for_its_result(tokenizer_of, family: str) -> None:
    tokenizer = tokenizer_of(family)
    assert shown(tokenizer, sample_of(tokenizer, family, [ASK, CALL])).endswith(CALLS[family])
    with_result = shown(tokenizer, sample_of(tokenizer, family, [ASK, CALL, RESULT, SAY]))
    end = CALLS[family].removeprefix("⟦").replace("<think>\n\n</think>\n\n", "")
    assert with_result.count("⟦") == 2
    assert end in with_result


# By family: the end of a conversation whose last answer has thoughts.
THOUGHTS = {
    "qwen3": "⟦<think>\nT\n</think>\n\nA<|im_end|>\n⟧",
    "glm 4.5": "⟦\n<think>T</think>\nA<|user|>⟧",
    "gpt-oss": "⟦<|channel|>analysis<|message|>T<|end|><|start|>assistant<|channel|>final<|message|>A<|return|>⟧",
    "magistral": "⟦[THINK]T[/THINK]A</s>⟧",
}


@pytest.mark.parametrize("family", THOUGHTS)
@pytest.mark.parametrize("given", [KEY, INLINE, {**KEY, "thinking": "T"}], ids=["key", "inline", "two keys"])
def test_thoughts_are_written_where_the_template_has_a_place_for_them(tokenizer_of, family: str, given) -> None:
    tokenizer = tokenizer_of(family)
    assert shown(tokenizer, sample_of(tokenizer, family, [ASK, given])).endswith(THOUGHTS[family])


KEEPS_TAGS = ["qwen2.5", "gemma 3", "llama 3", "smollm3", "granite", "cohere", "phi 4", "phi 3.5"]


@pytest.mark.parametrize("family", KEEPS_TAGS)
def test_think_tags_stay_in_the_content_where_the_template_has_no_other_place(tokenizer_of, family: str) -> None:
    tokenizer = tokenizer_of(family)
    assert "<think>\nT\n</think>\n\nA<" in shown(tokenizer, sample_of(tokenizer, family, [ASK, INLINE]))


@pytest.mark.parametrize("family", KEEPS_TAGS)
def test_thoughts_in_a_key_that_the_template_does_not_read_are_refused(tokenizer_of, family: str) -> None:
    with pytest.raises(RequestError, match=r"leaves the thoughts of an answer out: 'T'.*Write them into the content"):
        sample_of(tokenizer_of(family), family, [ASK, KEY])


@pytest.mark.parametrize("family", ["deepseek r1", "deepseek v3.1"])
@pytest.mark.parametrize(
    "given", [KEY, INLINE, {"role": "assistant", "content": "T</think>A"}], ids=["key", "inline", "open"]
)
def test_thoughts_that_the_template_cuts_out_of_the_last_answer_are_refused(tokenizer_of, family: str, given) -> None:
    with pytest.raises(RequestError, match=r"leaves the thoughts of an answer out: 'T'.*chat_template: deepseek-r1"):
        sample_of(tokenizer_of(family), family, [ASK, given])


def test_thoughts_are_missed_although_the_answer_says_the_same(tokenizer_of) -> None:
    given = {"role": "assistant", "content": "<think>A</think>A"}
    with pytest.raises(RequestError, match="leaves the thoughts of an answer out: 'A'"):
        sample_of(tokenizer_of("deepseek r1"), "deepseek r1", [ASK, given])


@pytest.mark.parametrize(
    ("family", "messages", "expected"),
    [
        ("qwen3", [ASK, INLINE, AGAIN, THEN], (1, 0)),
        ("qwen3", [ASK, KEY, AGAIN, KEY], (1, 0)),
        ("qwen3", [ASK, {**CALL, "reasoning_content": "T"}, RESULT, KEY], (0, 0)),
        ("gpt-oss", [ASK, {**CALL, "reasoning_content": "T"}, RESULT, KEY], (1, 0)),
        ("deepseek r1", [ASK, INLINE, AGAIN, THEN], (1, 0)),
        ("deepseek r1", [ASK, {**INLINE, "weight": 0}, AGAIN, THEN], (0, 1)),
        ("llama 3", [ASK, INLINE, AGAIN, THEN], (0, 0)),
        ("llama 3", [ASK, {**SAY, "weight": 0}, AGAIN, THEN], (0, 1)),
        ("smollm3", [ASK, {**SAY, "weight": 0}, AGAIN, THEN], (0, 1)),
    ],
)
def test_what_is_left_out_in_is_counted(tokenizer_of, family: str, messages, expected: tuple[int, int]) -> None:
    sample = sample_of(tokenizer_of(family), family, messages)
    assert (sample.thoughts_left_out, sample.answers_left_out) == expected


@pytest.mark.parametrize("family", ["llama 3", "smollm3"])
def test_an_answer_of_no_weight_is_not_supervised(tokenizer_of, family: str) -> None:
    tokenizer = tokenizer_of(family)
    text = shown(tokenizer, sample_of(tokenizer, family, [ASK, {**SAY, "weight": 0}, AGAIN, THEN]))
    assert text.count("⟦") == 1
    assert "B" in text.partition("⟦")[2]
    assert "A" not in text.partition("⟦")[2]
    ended = shown(tokenizer, sample_of(tokenizer, family, [ASK, SAY, AGAIN, {**THEN, "weight": 0}]))
    assert "B" not in ended.partition("⟦")[2].partition("⟧")[0]
    assert ended.count("⟦") == 1


@pytest.mark.parametrize(
    ("family", "last", "call"),
    [
        ("qwen3", ["<|im_end|>"], "<|im_end|>"),
        ("glm 4.5", [], None),
        ("gpt-oss", ["<|return|>"], "<|call|>"),
        ("phi 3.5", ["<|end|>", "<|endoftext|>"], None),  # its template does not write calls
        ("plain", [], None),
    ],
)
def test_the_ends_of_turns_are_found(tokenizer_of, family: str, last: list[str], call: str | None) -> None:
    tokenizer = tokenizer_of(family)
    ends = turn_ends(tokenizer, tokenizer.chat_template)
    assert tokenizer.convert_ids_to_tokens(list(ends.last)) == last
    assert (None if ends.call is None else tokenizer.convert_ids_to_tokens(ends.call)) == call


def test_a_token_that_begins_an_answer_is_not_its_end(tokenizer_of) -> None:
    tokenizer = tokenizer_of("phi, bare")
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    assert turn_ends(tokenizer, template).call is None
    assert unstopped(turn_ends(tokenizer, template), ()) == []


contents = st.lists(
    st.sampled_from(["A", " b", "\n", "<think>", "</think>", "<|im_end|>", "</s>", "7", " "]), max_size=4
).map("".join)
thoughts = st.one_of(st.none(), st.just("hm"))


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, object]]:
    found: list[dict[str, object]] = [{"role": "system", "content": "S"}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 4))):
        found.append({"role": "user", "content": draw(contents)})
        answer = {"role": "assistant", "content": draw(contents), "reasoning_content": draw(thoughts)}
        found.append(
            {**{k: v for k, v in answer.items() if v is not None}, "weight": draw(st.sampled_from([1, 1, 1, 0]))}
        )
    return found


def outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except RequestError as error:
        return str(error)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=20)
@given(messages=conversations(), adapter=st.booleans())
def test_turns_are_found_as_by_rendering_and_tokenising_each_beginning(
    tokenizer_of, family: str, messages: list[dict[str, object]], adapter: bool
) -> None:
    tokenizer = tokenizer_of(family)
    found = outcome(lambda: sample_of(tokenizer, family, messages, adapter=adapter))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenize, "_separators", lambda _: {})
        patch.setattr(Conversation, "_render_turns", lambda _: None)
        patch.setattr(Conversation, "render", render_alone)
        patch.setattr(chat_template, "_common", lambda one, other: len(os.path.commonprefix([one, other])))  # noqa: RUF071
        assert found == outcome(lambda: sample_of(tokenizer, family, messages, adapter=adapter))


def render_alone(self: Conversation, count: int, *, add_generation_prompt: bool = False) -> str:
    """One beginning of a conversation, with a call of its own."""
    messages = [dict(m) for m in self.messages[:count]]
    prompted = {"add_generation_prompt": add_generation_prompt}
    return str(self.tokenizer.apply_chat_template(messages, tools=self.tools, tokenize=False, **prompted))
