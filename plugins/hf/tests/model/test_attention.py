"""Samples behind each other in one row: computed as if each were alone, whatever the model's attention."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright import RequestError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
datasets = pytest.importorskip("datasets")

from tunewright_hf.data.samples import packing  # noqa: E402 - they need torch
from tunewright_hf.data.samples.collators import Collator  # noqa: E402
from tunewright_hf.kernels import attention as kernel  # noqa: E402 - they need torch
from tunewright_hf.model import attention, probe  # noqa: E402

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "vocab_size": 60,
    "pad_token_id": None,
}
WINDOW = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES = {
    "llama": SIZES,
    "llama-tied": {**SIZES, "tie_word_embeddings": True, "pad_token_id": 0},
    "mistral": {**SIZES, "sliding_window": 4},
    "mixtral": {**SIZES, "num_local_experts": 4},
    "qwen2": {**SIZES, "tie_word_embeddings": True},
    "qwen2-window": {**SIZES, **WINDOW, "use_sliding_window": True},
    "qwen3": {**SIZES, "pad_token_id": 1},
    "gemma": {**SIZES, "pad_token_id": 0},
    "gemma2": {**SIZES, **WINDOW, "attn_logit_softcapping": 0.5, "query_pre_attn_scalar": 8},
    "gemma3_text": {**SIZES, **WINDOW, "query_pre_attn_scalar": 8},
    "cohere2": {**SIZES, **WINDOW},
    "deepseek_v3": {k: v for k, v in SIZES.items() if k != "head_dim"}
    | {"num_key_value_heads": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
    | {"moe_intermediate_size": 16, "first_k_dense_replace": 1, "q_lora_rank": 16, "kv_lora_rank": 16}
    | {"qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8},
    "glm4": {**SIZES, "pad_token_id": 0},
    "gpt_neox": {k: v for k, v in SIZES.items() if k not in ("head_dim", "num_key_value_heads")},
    "granite": SIZES,
    "olmo2": SIZES,
    "phi3": {**SIZES, "pad_token_id": 0},
    "qwen3_moe": {**SIZES, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 60},
}
LENGTHS = [9, 2, 14, 5]


def model_of(family: str, attn_implementation: str):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family.partition("-")[0], **FAMILIES[family], initializer_range=0.5)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    attention.choose_attention(model, attn_implementation, half=False)
    model.config.use_cache = False  # as Trainer does
    return model


def samples(seed: int = 0) -> list[dict[str, list[int]]]:
    numbers = torch.Generator().manual_seed(seed)
    rows = [torch.randint(2, 60, (n,), generator=numbers).tolist() for n in LENGTHS]
    return [{"input_ids": row, "labels": row} for row in rows]


def computed(model, batch: dict[str, object]) -> tuple[object, dict[str, object]]:
    """Logits, and the gradients of the summed loss."""
    model.zero_grad()
    output = model(**batch, num_items_in_batch=1)
    output.loss.backward()
    return output.logits.detach(), {name: w.grad.clone() for name, w in model.named_parameters()}


@pytest.mark.parametrize(
    ("family", "attn_implementation"), [*((f, "segments") for f in FAMILIES), ("mistral", "sdpa"), ("gpt2", "eager")]
)
def test_samples_in_a_row_are_computed_as_if_alone(family: str, attn_implementation: str) -> None:
    together = computed(model_of(family, attn_implementation), Collator(0, padding_free=True)(samples()))
    model = model_of(family, "eager")
    alone = [computed(model, Collator(0)([sample])) for sample in samples()]
    logits = torch.cat([a[0] for a in alone], dim=1)
    torch.testing.assert_close(together[0], logits, rtol=1e-4, atol=1e-4)
    for name, gradient in together[1].items():
        expected = sum(a[1][name] for a in alone)
        scale = float(expected.abs().max())
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5 * scale, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_that_changes_leaves_the_others_logits_alone(family: str) -> None:
    model, collate = model_of(family, "auto"), Collator(0, padding_free=True)
    assert attention.attends_per_sample(model)
    changed = [samples()[0], samples(seed=1)[1], *samples()[2:]]
    with torch.no_grad():
        before, after = (model(**collate(rows)).logits[0].split(LENGTHS) for rows in (samples(), changed))
    # An expert computes the tokens of all samples at once, and how a product is summed depends on how many they are.
    apart = 1e-4 if any("expert" in name for name, _ in model.named_modules()) else 0
    assert [float((a - b).abs().max()) <= apart for a, b in zip(before, after, strict=True)] == [
        True,
        False,
        True,
        True,
    ]
    assert probe.isolates_samples(model, collate)
    assert probe.isolates_samples(model, collate, sharded=True)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2"])
@pytest.mark.parametrize("cache", [False, True])
def test_positions_alone_or_a_filled_cache_are_as_good(family: str, cache: bool) -> None:
    model, ids = model_of(family, "segments"), torch.arange(42).reshape(3, 14) + 2
    positions = torch.stack([torch.cat([torch.arange(n), torch.arange(14 - n)]) for n in (5, 9, 3)])
    bounds = torch.tensor([0, 5, 14], dtype=torch.int32)
    given = {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": 9, "max_length_k": 9}
    with torch.no_grad():
        expected = model_of(family, "eager")(input_ids=ids, position_ids=positions).logits
        found = model(input_ids=ids, position_ids=positions).logits
        model.config.use_cache = cache
        one = model(input_ids=ids[:1], position_ids=positions[:1], **given).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(one, expected[:1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("family", "name"), [("gemma3_text", "sdpa"), ("gemma2", "eager")])
def test_padded_batches_and_answers_are_transformers_own(family: str, name: str) -> None:
    ours, theirs = (model_of(family, n) for n in ("segments", name))
    batch = Collator(0)(samples())
    batch.pop("labels")
    with torch.no_grad():
        torch.testing.assert_close(*(m(**batch).logits[batch["attention_mask"] > 0] for m in (ours, theirs)))
    ids = batch["input_ids"][:1, :9]
    answers = [m.generate(ids, max_new_tokens=20, do_sample=False, use_cache=True) for m in (ours, theirs)]
    assert torch.equal(*answers)


@pytest.mark.parametrize("family", ["qwen3_next", "lfm2"])
def test_layers_with_a_state_are_found_out(family: str) -> None:
    kinds = {"qwen3_next": "linear_attention", "lfm2": "conv"}
    given = {**SIZES, "layer_types": [kinds[family], "full_attention"]}
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(family, **given))
    attention.choose_attention(model, "auto", half=False)
    collate = Collator(0, padding_free=True)
    assert not probe.isolates_samples(model, collate)
    assert not probe.isolates_samples(model, collate, sharded=True)
    assert not probe.isolates_samples(model.bfloat16(), collate)


def test_little_that_leaks_is_found_out_in_half_precision_too() -> None:
    config = transformers.AutoConfig.for_model("bloom", hidden_size=32, n_layer=2, n_head=4, vocab_size=60)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).bfloat16()
    assert not probe.isolates_samples(model, Collator(0, padding_free=True))


def test_a_model_that_does_not_tell_its_attention_where_samples_begin_has_a_mask() -> None:
    config = transformers.AutoConfig.for_model("stablelm", **{k: v for k, v in SIZES.items() if k != "head_dim"})
    model = transformers.AutoModelForCausalLM.from_config(config)
    attention.choose_attention(model, "auto", half=False)
    model.config.use_cache = False  # as Trainer does
    assert not attention.attends_per_sample(model)
    assert probe.isolates_samples(model, Collator(0, padding_free=True))


def test_dropout_is_applied() -> None:
    heads = [torch.randn(1, 2, 8, 4) for _ in range(3)]
    bounds = torch.tensor([0, 3, 8], dtype=torch.int32)
    for softcap in (None, 1.0):
        found, again = (
            kernel.attend(torch.nn.Module(), *heads, None, cu_seq_lens_q=bounds, dropout=0.5, softcap=softcap)[0]
            for _ in range(2)
        )
        assert found.shape == (1, 8, 2, 4)
        assert not torch.equal(found, again)


def test_attention_to_later_tokens_is_refused() -> None:
    heads, bounds = [torch.randn(1, 2, 8, 4)] * 3, torch.tensor([0, 8], dtype=torch.int32)
    with pytest.raises(ValueError, match="is not causal"):
        kernel.attend(torch.nn.Module(), *heads, None, cu_seq_lens_q=bounds, is_causal=False)


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(40, 50))
def test_the_plan_has_every_sample_once_in_rows_that_hold_them(lengths: list[int], size: int) -> None:
    rows = packing.plan(np.array(lengths, np.int64), size).to_pylist()
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    used = [sum(lengths[i] for i in row) for row in rows]
    assert all(u <= size for u in used)
    assert all(a + b > size for i, a in enumerate(used) for b in used[:i]), "no two rows would have fit into one"
    assert rows == sorted(rows)


def test_rows_are_their_samples_behind_each_other(tmp_path: Path) -> None:
    rows = [{"input_ids": [n] * n, "labels": [-100, *[n] * (n - 1)], "length": n} for n in (5, 3, 8, 2)]
    ids = datasets.List(datasets.Value("int32"))
    features = datasets.Features({"input_ids": ids, "labels": ids, "length": datasets.Value("int64")})
    packed = packing.pack(datasets.Dataset.from_list(rows, features=features), 11, tmp_path / "packed.arrow")
    assert packed.features == {**features, "segments": ids}
    assert packed.to_list() == [
        {
            "input_ids": rows[a]["input_ids"] + rows[b]["input_ids"],
            "labels": rows[a]["labels"] + rows[b]["labels"],
            "length": rows[a]["length"] + rows[b]["length"],
            "segments": [rows[a]["length"], rows[b]["length"]],
        }
        for a, b in ((0, 3), (1, 2))
    ]
    packed.save_to_disk(tmp_path / "saved")
    assert isinstance(datasets.load_from_disk(tmp_path / "saved")[:2], dict), "what a data loader reads"


def test_a_batch_of_rows_is_the_batch_of_their_samples() -> None:
    alone = samples()
    row = {key: [t for s in alone[1:] for t in s[key]] for key in ("input_ids", "labels")}
    together = Collator(0, padding_free=True)([alone[0], {**row, "segments": LENGTHS[1:]}])
    apart = Collator(0, padding_free=True)(alone)
    assert together.keys() == apart.keys()
    for key, value in apart.items():
        torch.testing.assert_close(together[key], value, rtol=0, atol=0)
    assert together["position_ids"][0].tolist() == [i for n in LENGTHS for i in range(n)]
    assert together["cu_seq_lens_q"].tolist() == [0, 9, 11, 25, 30]
    first = {i for i, position in enumerate(together["position_ids"][0].tolist()) if position == 0}
    assert {i for i, label in enumerate(together["labels"][0].tolist()) if label == -100} == first


PACKED = {"data": {"packing": True, "max_length": 50}}
PACE = {"num_train_epochs": 2, "learning_rate": 1e-2, "logging_steps": 1, "save_strategy": "no"}


@pytest.mark.slow
def test_batches_with_and_without_padding_make_the_same_training(train, qa: Path, tmp_path: Path) -> None:
    padding_free, padded = (
        train(tmp_path / name, qa, **PACE, attn_implementation=name, lora_config={"r": 4}) for name in ("auto", "sdpa")
    )
    assert list(padding_free.losses.values()) == pytest.approx(list(padded.losses.values()), abs=1e-5)
    evaluations = [[e["eval_loss"] for e in training.of("eval")] for training in (padding_free, padded)]
    assert evaluations[0] == pytest.approx(evaluations[1], abs=1e-5)


def test_packed_and_unpacked_samples_of_one_step_have_the_same_loss(train, qa: Path, tmp_path: Path) -> None:
    given = {**PACE, "num_train_epochs": 4, "per_device_train_batch_size": 64}
    packed, unpacked = (train(tmp_path / f"{len(data)}", qa, **given, data=data) for data in (PACKED["data"], {}))
    assert len(packed.losses) == 4, "all samples are in one step"
    assert list(packed.losses.values()) == pytest.approx(list(unpacked.losses.values()), abs=1e-5)
    assert '"packed_rows": ' in (packed.result / "README.md").read_text()
    assert "segments" not in (packed.result / "config.json").read_text()


def test_packing_is_refused_where_samples_would_see_each_other(
    train, qa: Path, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "mask", lambda **_: None)
    monkeypatch.setattr(kernel, "attend", kernel.sdpa_attention_forward)
    with pytest.raises(
        RequestError,
        match=r"DataParams\.packing=True: .*LlamaForCausalLM.*does not isolate the samples of a row from each other",
    ):
        train(tmp_path / "packed", qa, **PACE, **PACKED)
    assert train(tmp_path / "unpacked", qa, max_steps=1).losses, "it falls back to padding"


@pytest.mark.parametrize(
    "given", [{}, {"attn_implementation": "sdpa"}, {"lora_config": {}}], ids=["auto", "sdpa", "lora"]
)
def test_a_model_that_keeps_a_mask_of_its_context_is_refused_before_it_trains(
    given, train, qa: Path, tmp_path: Path, model_folder: Path
) -> None:
    shutil.copytree(model_folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    sizes = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]}
    ids = {"vocab_size": 400, "bos_token_id": 0, "eos_token_id": 1, "max_position_embeddings": 64, "window_size": 8}
    config = transformers.AutoConfig.for_model("gpt_neo", **sizes, **ids)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    with pytest.raises(
        RequestError, match=r"does not isolate the samples of a row from each other\. Leave packing out"
    ):
        train(tmp_path / "packed", qa, model=tmp_path / "model", **PACKED, max_steps=1, **given)
    assert train(tmp_path / "padded", qa, model=tmp_path / "model", max_steps=1).losses


def test_noise_that_depends_on_a_samples_length_is_refused(train, qa: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="packed rows do not have"):
        train(tmp_path / "out", qa, **PACKED, neftune_noise_alpha=5.0)
