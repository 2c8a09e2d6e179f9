"""Other families of models: tied embeddings, their own layers, with and without a token to pad with."""

import json
import shutil
from pathlib import Path

import pytest

from tunewright import RequestError
from tunewright_hf import DataParams
from tunewright_hf.data.samples.language_modeling import Encoder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 1}
FAMILIES = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "gemma3_text": {**SIZES, "pad_token_id": 0},
    "mistral": SIZES,
    "mixtral": {**SIZES, "num_local_experts": 4},
    "qwen2": {**SIZES, "tie_word_embeddings": True},
    "qwen3": {**SIZES, "pad_token_id": 1},
}


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.slow) if name in ("mistral", "qwen2") else name for name in FAMILIES]
)
def family(request: pytest.FixtureRequest, model_folder: Path, tmp_path: Path) -> Path:
    return made(request.param, model_folder, tmp_path / "model")


def made(family: str, model_folder: Path, folder: Path, **more: object) -> Path:
    shutil.copytree(model_folder, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    given = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 1, **FAMILIES[family], **more}
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **given)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def logits(model):
    with torch.no_grad():
        return model.eval()(torch.arange(5, 25)[None]).logits


def load(folder: Path):
    return transformers.AutoModelForCausalLM.from_pretrained(folder)


def trained(result: Path, base: Path):
    """The result as its card says to load it."""
    return (
        peft.PeftModel.from_pretrained(load(base), result)
        if (result / "adapter_config.json").exists()
        else load(result)
    )


def test_the_loss_of_padded_texts_is_that_of_unpadded_ones(
    train, dataset_of, model_folder: Path, tmp_path: Path
) -> None:
    # transformers counts the first labels of classes that are called LMHeadModel, which are never predicted.
    no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    family = made("gpt2", model_folder, tmp_path / "model", **no_dropout)
    texts = dataset_of([{"text": "What is 1?"}, {"text": "What is 1 and 1? The sum is 2."}])
    given = {"max_steps": 1, "save_strategy": "no", "per_device_train_batch_size": 2}
    found = [
        train(tmp_path / name, texts, model=family, attn_implementation=name, **given).losses[1]
        for name in ("segments", "sdpa")
    ]
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_tokens_that_the_model_does_not_have_are_refused(train, qa: Path, model_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    small = transformers.AutoConfig.from_pretrained(model_folder, vocab_size=50)
    transformers.AutoModelForCausalLM.from_config(small).save_pretrained(tmp_path / "model")
    with pytest.raises(RequestError, match=r"produces token \d+, but embeddings for only 50"):
        train(tmp_path / "out", qa, model=tmp_path / "model", max_steps=1)


def test_a_prompt_that_fills_the_context_gets_no_answer(train, qa: Path, tmp_path: Path) -> None:
    training = train(tmp_path / "out", qa, max_steps=1, sample_prompts=["What is 3? " * 100, "What is 3?"])
    texts = [e["text"] for e in training.of("sample") if "step" not in e]
    assert texts[0] == ""
    assert texts[1]


@pytest.mark.parametrize(
    "given",
    [{}, *(pytest.param(g, marks=pytest.mark.slow) for g in ({"lora_config": {}}, {"lora_config": {}, "merge": True}))],
    ids=["full", "lora", "merged"],
)
def test_it_learns_and_the_result_is_what_was_trained(given, family: Path, train, qa: Path, tmp_path: Path) -> None:
    pace = {"max_steps": 8, "learning_rate": 1e-2, "save_strategy": "no", "seed": 1}
    training = train(tmp_path / "out", qa, model=family, **pace, **given, sample_prompts=["What is 1?"])
    losses = list(training.losses.values())
    assert losses[-1] < losses[0]
    result = trained(training.result, family)
    assert (logits(result) - logits(load(family))).abs().max() > 1e-3
    # The evaluation at the end was the trained model's own.
    assert eval_loss(result, training.result, qa) == pytest.approx(training.of("eval")[-1]["eval_loss"], abs=1e-5)


def test_experts_with_a_loss_of_their_own_are_evaluated(train, qa: Path, model_folder: Path, tmp_path: Path) -> None:
    family = made("mixtral", model_folder, tmp_path / "model", output_router_logits=True)
    training = train(tmp_path / "out", qa, model=family, max_steps=1, save_strategy="no")
    expected = eval_loss(load(training.result), training.result, qa)
    assert training.of("eval")[-1]["eval_loss"] == pytest.approx(expected, abs=1e-5)


def eval_loss(model, folder: Path, dataset: Path) -> float:
    encoder = Encoder(transformers.AutoTokenizer.from_pretrained(folder), "prompt_completion", DataParams())
    samples = [encoder(json.loads(line)).cut(64) for line in (dataset / "validation.jsonl").read_text().splitlines()]
    total = count = 0
    for sample in samples:
        with torch.no_grad():
            scores = model.eval()(torch.tensor([sample.ids])).logits[0, :-1].double()
        total += torch.nn.functional.cross_entropy(scores, torch.tensor(sample.labels[1:]), reduction="sum").item()
        count += sample.supervised
    return total / count
