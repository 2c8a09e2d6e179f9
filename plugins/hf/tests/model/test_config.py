"""What is said of a model by its configuration alone, held against the model."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

from tunewright_hf.config.tasks import CAUSAL, CLASSIFICATION, SEQ2SEQ  # noqa: E402
from tunewright_hf.model.config import USES_ALL_WEIGHTS, longest_input, needs_unused_parameter_search  # noqa: E402

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 60}
SIZES |= {"max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
THEIR_OWN = {
    "falcon": {},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "opt": {"word_embed_proj_dim": 32, "ffn_dim": 64},
}


@pytest.mark.parametrize("name", sorted(USES_ALL_WEIGHTS))
def test_a_model_that_ddp_need_not_search_uses_all_weights(name: str) -> None:
    config = transformers.AutoConfig.for_model(name, **SIZES, **THEIR_OWN.get(name, GROUPED))
    model = transformers.AutoModelForCausalLM.from_config(config).train()
    ids = torch.arange(3, 15)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    assert [n for n, weight in model.named_parameters() if weight.grad is None] == []
    assert not needs_unused_parameter_search(config, CAUSAL)


@pytest.mark.parametrize(
    ("name", "task", "given"),
    [
        ("opt", CAUSAL, {"layerdrop": 0.1}),
        ("mixtral", CAUSAL, {}),
        ("gemma3", CAUSAL, {}),
        ("m2m_100", SEQ2SEQ, {}),
        ("xlnet", CLASSIFICATION, {}),
        ("llama", CAUSAL, {"auto_map": {"AutoModelForCausalLM": "own.Own"}}),
    ],
    ids=str,
)
def test_ddp_searches_all_others(name: str, task, given: dict[str, object]) -> None:
    assert needs_unused_parameter_search(transformers.AutoConfig.for_model(name, **given), task)


@pytest.mark.parametrize("name", ["bert", "roberta", "xlm-roberta", "camembert", "longformer", "electra", "mpnet"])
def test_the_longest_input_is_what_a_classifier_reads_at_most(name: str) -> None:
    given = {"attention_window": 8} if name == "longformer" else {}
    config = transformers.AutoConfig.for_model(name, **{**SIZES, "pad_token_id": 1, **given})
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(tokenizers.models.BPE()))
    longest = longest_input(config, tokenizer, CLASSIFICATION)
    model(input_ids=torch.full((1, longest), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, longest + 1), 5))
