"""The user's chat template and end-of-text token, in place of the tokenizer's own."""

# ruff: noqa: RUF001 - DeepSeek's tokens are written with wide bars

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright import RequestError
from tunewright_hf import DataParams
from tunewright_hf.config.named_templates import NAMED

transformers = pytest.importorskip("transformers")

from tunewright_hf.data.samples.language_modeling import Encoder  # noqa: E402
from tunewright_hf.data.templates.overrides import check_ends, override, warn_of_prompt  # noqa: E402

SYSTEM = {"role": "system", "content": "S"}
CHAT = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
CHAT += [{"role": "user", "content": "R"}, {"role": "assistant", "content": "B"}]


@pytest.fixture
def tokenizer_with(model_folder: Path) -> Callable[..., object]:
    def make(*tokens: str):
        tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
        tokenizer.add_special_tokens({"additional_special_tokens": list(tokens)})
        return tokenizer

    return make


def learnt(tokenizer, messages) -> tuple[str, str]:
    """The conversation, and its supervised tokens in pieces."""
    sample = Encoder(tokenizer, "chat", DataParams())({"messages": messages})
    pieces: list[list[int]] = [[]]
    for label in sample.labels:
        if label != -100:
            pieces[-1].append(label)
        elif pieces[-1]:
            pieces.append([])
    return tokenizer.decode(sample.ids), "|".join(tokenizer.decode(p) for p in pieces if p)


WRITTEN = {
    "chatml": (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
        "<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\nB<|im_end|>\n",
        "A<|im_end|>\n|B<|im_end|>\n",
    ),
    "llama3": (
        "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nQ<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nR<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nB<|eot_id|>",
        "A<|eot_id|>|B<|eot_id|>",
    ),
    "gemma": (
        "<s><start_of_turn>user\nS\n\nQ<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n"
        "<start_of_turn>user\nR<end_of_turn>\n<start_of_turn>model\nB<end_of_turn>\n",
        "A<end_of_turn>\n|B<end_of_turn>\n",
    ),
    "mistral": ("<s>[INST]S\n\nQ[/INST]A</s>[INST]R[/INST]B</s>", "A</s>|B</s>"),
    "alpaca": (
        "<s>S\n\n### Instruction:\nQ\n\n### Response:\nA</s>\n\n### Instruction:\nR\n\n### Response:\nB</s>\n\n",
        "A</s>\n\n|B</s>\n\n",
    ),
    "deepseek-r1": (
        "<s>S<｜User｜>Q<｜Assistant｜>A<｜end▁of▁sentence｜><｜User｜>R<｜Assistant｜><think>\n\n</think>\n\nB<｜end▁of▁sentence｜>",
        "A<｜end▁of▁sentence｜>|\n</think>\n\nB<｜end▁of▁sentence｜>",
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_named_template_writes_conversations(name: str, tokenizer_with) -> None:
    tokenizer = override(tokenizer_with(*NAMED[name]), DataParams(chat_template=name))
    assert learnt(tokenizer, [SYSTEM, *CHAT]) == WRITTEN[name]
    asked = tokenizer.apply_chat_template(CHAT[:1], tokenize=False, add_generation_prompt=True)
    answered = tokenizer.apply_chat_template(CHAT[:2], tokenize=False)
    assert answered.startswith(asked), "the model is asked as it is trained"


@pytest.mark.parametrize("name", [n for n in NAMED if NAMED[n]])
def test_a_named_template_whose_tokens_are_missing_is_refused(name: str, tokenizer_with) -> None:
    *some, last = NAMED[name]
    with pytest.raises(RequestError, match=r"cut into pieces.*fits this tokenizer: alpaca") as error:
        override(tokenizer_with(*some), DataParams(chat_template=name))
    assert f"writes {last}, which" in str(error.value)


def test_a_named_template_needs_an_end_of_text_token(tokenizer_with) -> None:
    tokenizer = tokenizer_with()
    tokenizer.eos_token = None
    with pytest.raises(RequestError, match=r"needs an end-of-text token.*trainer\.data\.eos_token"):
        override(tokenizer, DataParams(chat_template="alpaca"))
    assert override(tokenizer, DataParams(chat_template="alpaca", eos_token="</s>")).eos_token == "</s>"


@pytest.mark.parametrize(
    "thought",
    [{"content": "<think>\nT\n</think>\n\nA"}, {"content": "A", "reasoning_content": "T"}, {"content": "T</think>A"}],
)
def test_deepseeks_named_template_keeps_the_last_thoughts(thought: dict[str, str], tokenizer_with) -> None:
    tokenizer = override(tokenizer_with(*NAMED["deepseek-r1"]), DataParams(chat_template="deepseek-r1"))
    asked = tokenizer.apply_chat_template(CHAT[:1], tokenize=False, add_generation_prompt=True)
    text, answer = learnt(tokenizer, [CHAT[0], {"role": "assistant", **thought}])
    assert text == asked + answer
    assert answer == "T\n</think>\n\nA<｜end▁of▁sentence｜>"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("<|im_endd|>", r"Did you mean '<\|im_end\|>'"),
        ("<s> </s>", "'</s>'"),
        ("", "its own, '</s>'"),
        ("What is", "leave it out"),
    ],
)
def test_an_end_of_text_that_is_not_one_token_is_refused(given: str, expected: str, tokenizer_with) -> None:
    with pytest.raises(RequestError, match=f"is not a token of the model's tokenizer.*{expected}") as error:
        override(tokenizer_with("<|im_end|>"), DataParams(eos_token=given))
    assert error.value.field == "DataParams.eos_token"


def test_the_given_end_of_text_ends_samples(tokenizer_with) -> None:
    tokenizer = override(tokenizer_with("<|im_end|>"), DataParams(eos_token="<|im_end|>"))
    sample = Encoder(tokenizer, "text", DataParams())({"text": "What"})
    assert tokenizer.decode(sample.labels) == "What<|im_end|>"


OWN = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}END\n{% endfor %}"


def test_a_template_that_ends_turns_with_the_pieces_of_a_token_is_refused(
    tokenizer_with, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        tokenizer = override(tokenizer_with(), DataParams(chat_template=OWN.replace("END", "<|im_end|>")))
    assert "cuts into pieces what the chat template writes: <|im_end|>" in caplog.text
    with pytest.raises(RequestError, match=r"ends turns with <\|im_end\|>.*\{\{ eos_token \}\}"):
        check_ends(tokenizer)
    for end in ("{{ eos_token }}", ""):
        check_ends(override(tokenizer, DataParams(chat_template=OWN.replace("END", end))))
    check_ends(override(tokenizer_with("<|im_end|>"), DataParams(chat_template=OWN.replace("END", "<|im_end|>"))))


def test_a_prompt_that_asks_for_thoughts_that_answers_do_not_begin_with_is_told(
    tokenizer_with, caplog: pytest.LogCaptureFixture
) -> None:
    asks = OWN.replace("END", "{{ eos_token }}") + "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
    warn_of_prompt(override(tokenizer_with(), DataParams(chat_template=asks)))
    assert "ends a prompt with '<think>'" in caplog.text
    caplog.clear()
    warn_of_prompt(tokenizer_with())
    warn_of_prompt(override(tokenizer_with(), DataParams(chat_template=asks.replace("<think>\n", ""))))
    assert not caplog.records


def test_prompts_and_completions_are_not_rendered(tokenizer_with) -> None:
    encoder = Encoder(tokenizer_with(), "prompt_completion", DataParams(chat_template="alpaca"))
    with pytest.raises(RequestError, match=r"concatenated as they are.*trainer\.data\.format: chat"):
        encoder({"prompt": "Q", "completion": "A"})
    assert encoder({"prompt": CHAT[:1], "completion": CHAT[1:2]})
