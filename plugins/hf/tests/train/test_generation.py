"""Where the generation of a result stops: at the end of the answer that was learnt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from plugins.hf.tests.data.template_families import CHATML, GLM45

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from tunewright_hf import HuggingFaceTrainParams  # noqa: E402
from tunewright_hf.data.templates.turn_ends import Stops  # noqa: E402
from tunewright_hf.model.generation import (  # noqa: E402
    answer_settings,
    goal_of,
    stop_at_turn_ends,
    stop_tokens,
    warn_of_untrained,
)

ASK = [{"role": "user", "content": "1?"}]
ROWS = [{"messages": [*ASK, {"role": "assistant", "content": "One."}]}] * 8
TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|observation|>")


@pytest.fixture(scope="module")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As Qwen 2.5 before instruction tuning: its template ends turns with <|im_end|>, and it stops at <|endoftext|> only."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("base") / "model"
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=list(TOKENS), initial_alphabet=letters, show_progress=False
    )
    raw.train_from_iterator([], trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=TOKENS[0], pad_token=TOKENS[0])
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=128,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
        **sizes,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def generated(model, tokenizer) -> str:
    """What plain `generate` answers, without any argument about ends."""
    asked = tokenizer.apply_chat_template(ASK, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**asked, max_new_tokens=24, do_sample=False)
    return str(tokenizer.decode(output[0, asked["input_ids"].shape[1] :]))


METHODS = {
    "full": ({}, "One.<|im_end|>"),
    "merged": ({"lora_config": {"r": 16}, "merge": True}, "One.<|im_end|>"),
    "adapter": ({"lora_config": {"r": 16}}, "One.<|im_end|><|endoftext|>"),
    "eos_token": ({"data": {"eos_token": "<|im_end|>"}}, "One.<|im_end|>"),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_learnt_conversations_stops_after_its_answer(
    method: str, base_model: Path, dataset_of: Callable[..., Path], train, tmp_path: Path
) -> None:
    given, expected = METHODS[method]
    done = train(
        tmp_path / "out", dataset_of(ROWS), model=base_model, max_steps=30, learning_rate=1e-2,
        sample_prompts=["1?"], save_strategy="no", **given,
    )  # fmt: skip
    assert done.of("sample")[-1]["text"] == "One.", "the last one is the trained model's"
    tokenizer = transformers.AutoTokenizer.from_pretrained(done.result)
    assert tokenizer.chat_template == CHATML
    assert generated(transformers.AutoModelForCausalLM.from_pretrained(done.result), tokenizer) == expected
    if method == "adapter":
        assert generated(peft.AutoPeftModelForCausalLM.from_pretrained(done.result), tokenizer) == expected
    settings = json.loads((done.result / "generation_config.json").read_text())
    assert {0, 2} == set(settings["eos_token_id"])


@pytest.mark.slow
def test_the_result_has_the_template_that_it_was_trained_with(
    base_model: Path, dataset_of: Callable[..., Path], train, tmp_path: Path
) -> None:
    data = {"chat_template": "alpaca"}
    done = train(tmp_path / "out", dataset_of(ROWS), model=base_model, max_steps=30, learning_rate=1e-2, data=data)
    tokenizer = transformers.AutoTokenizer.from_pretrained(done.result)
    asked = tokenizer.apply_chat_template(ASK, tokenize=False, add_generation_prompt=True)
    assert asked == "### Instruction:\n1?\n\n### Response:\n"
    answer = generated(transformers.AutoModelForCausalLM.from_pretrained(done.result), tokenizer)
    assert answer == "One.<|endoftext|>"
    card = (done.result / "README.md").read_text()
    assert '"chat_template": "alpaca"' in card


@pytest.fixture
def tiny(base_model: Path):
    return (
        transformers.AutoModelForCausalLM.from_pretrained(base_model),
        transformers.AutoTokenizer.from_pretrained(base_model),
    )


def test_the_end_of_turns_joins_the_generation_config(tiny, caplog: pytest.LogCaptureFixture) -> None:
    model, tokenizer = tiny
    stop_at_turn_ends(model, tokenizer, Stops(tokens=(0,)), turns=True)
    assert model.generation_config.eos_token_id == [0, 2]
    assert "ends turns with <|im_end|>, where the model's generation does not stop" in caplog.text
    assert "adapter" not in caplog.text


def test_of_an_adapter_it_is_told_what_its_samples_end_with(tiny, caplog: pytest.LogCaptureFixture) -> None:
    stop_at_turn_ends(*tiny, Stops(tokens=(0,), fixed=True), turns=True)
    assert "the samples also end with <|endoftext|>" in caplog.text


@pytest.mark.parametrize(
    ("template", "turns", "stops"),
    [(CHATML, True, (0, 2)), (CHATML, False, (0,)), (GLM45, True, (0, 3, 4)), (None, True, (0,))],
    ids=["stops there", "no conversations", "the next message ends a turn", "no template"],
)
def test_other_models_keep_their_ends(tiny, template: str | None, turns: bool, stops: tuple[int, ...], caplog) -> None:
    model, tokenizer = tiny
    tokenizer.chat_template = template
    stop_at_turn_ends(model, tokenizer, Stops(tokens=stops), turns=turns)
    assert model.generation_config.eos_token_id == 0
    assert "ends turns" not in caplog.text


def test_a_tokenizer_without_an_end_of_text_gets_the_end_of_turns(tiny) -> None:
    model, tokenizer = tiny
    tokenizer.eos_token = None
    stop_at_turn_ends(model, tokenizer, Stops(), turns=True)
    assert tokenizer.eos_token == "<|im_end|>"


@pytest.mark.parametrize(
    ("file", "expected"), [(None, (0,)), ({"eos_token_id": 2}, (2,)), ({"eos_token_id": [2, 0]}, (0, 2)), ({}, ())]
)
def test_stops_are_read_from_the_models_folder(
    file: dict[str, object] | None, expected: tuple[int, ...], tmp_path: Path, base_model: Path
) -> None:
    config = transformers.AutoConfig.from_pretrained(base_model)
    if file is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(file))
    assert stop_tokens(tmp_path, config) == expected


@pytest.mark.parametrize(
    ("given", "fixed"), [({}, False), ({"lora_config": {}}, True), ({"lora_config": {}, "merge": True}, False)]
)
def test_an_adapter_cannot_name_ends_of_its_own(given: dict[str, object], fixed: bool, tiny, base_model: Path) -> None:
    params = HuggingFaceTrainParams(**given)
    goal = goal_of(params, base_model, transformers.AutoConfig.from_pretrained(base_model), tiny[1])
    assert goal.stops == Stops(tokens=(0,), fixed=fixed)


def test_an_answer_has_the_room_that_the_prompt_leaves_in_the_context(base_model: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(base_model)
    model = transformers.AutoModelForCausalLM.from_pretrained(base_model)  # a context of 128 tokens

    def room(model, prompt: int) -> int | None:
        settings = answer_settings(model, tokenizer, prompt=prompt, max_tokens=100)
        return settings and settings.max_new_tokens

    assert [room(model, prompt) for prompt in (1, 100, 127, 128, 129)] == [100, 28, 1, None, None]
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "d_model": 8}
    config = transformers.BartConfig(
        vocab_size=300, max_position_embeddings=64, encoder_attention_heads=1, decoder_attention_heads=1, **sizes
    )
    reader = transformers.BartForConditionalGeneration(config)  # its encoder reads the prompt
    assert [room(reader, prompt) for prompt in (1, 64, 65)] == [64, 64, None]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("like", ["zero", "mean"])
def test_tokens_that_an_adapter_leaves_untrained_are_named(
    base_model: Path, tied: bool, like: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As Llama 3 before instruction tuning: the vectors of its turns' tokens are about zero."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(base_model)

    def warned(**lora: object) -> str:
        model = transformers.AutoModelForCausalLM.from_pretrained(base_model, tie_word_embeddings=tied)
        with torch.no_grad():
            for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
                layer.weight[[1, 2]] = layer.weight.mean(dim=0) * (like == "mean")
        if lora:
            model = peft.get_peft_model(
                model, peft.LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", **lora)
            )
        caplog.clear()
        warn_of_untrained(model, tokenizer, turns=True)
        return caplog.text

    text = warned(r=2)
    assert "writes <|im_start|>, <|im_end|>, whose vectors in embed_tokens and lm_head" in text
    indices = json.loads(text.partition("trainable_token_indices: ")[2].partition(", or")[0])
    assert indices == {"embed_tokens": [1, 2], "lm_head": [1, 2]}
    assert warned(trainable_token_indices=indices) == ""
    assert warned(modules_to_save=["embed_tokens", "lm_head"]) == ""
    assert warned() == "", "full fine-tuning trains them"


def test_tokens_that_were_trained_are_not_named(base_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(base_model)
    model = transformers.AutoModelForCausalLM.from_pretrained(base_model)
    warn_of_untrained(
        peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear")),
        tokenizer,
        turns=True,
    )
    assert caplog.text == ""
