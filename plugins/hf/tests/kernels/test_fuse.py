"""Fused layers: the same numbers and gradients as PEFT and torch compute, and PEFT's own wherever they do not apply."""

import contextlib
import copy
import inspect
import itertools
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from transformers.models.llama import modeling_llama  # noqa: E402 - as torch

from tunewright_hf.kernels import cross_entropy, rms_norm, rotary  # noqa: E402 - needs torch
from tunewright_hf.kernels.lora import FusedLinear, LoraFunction, fuse_lora  # noqa: E402
from tunewright_hf.train import objective  # noqa: E402

SIZES = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 1}
SIZES |= {"pad_token_id": None}
LAYERS = 2 * 7


def doubles(*shape: int, grad: bool = True):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("grad", [True, False], ids=["inner layer", "first layer"])
def test_gradients_of_a_lora_group_are_right(grad: bool) -> None:
    frozen = [(doubles(4, 3, grad=False), doubles(4, grad=False)), (doubles(5, 3, grad=False), None)]
    adapters = doubles(2, 3), doubles(1, 3), doubles(4, 2), doubles(5, 1)  # both A, then both B

    def group(x, *adapters):
        return LoraFunction.apply(x, frozen, [0.5, 3.0], *adapters)

    x = doubles(2, 3, 3, grad=grad)
    first, second = group(x, *adapters)
    a, _, b, _ = adapters
    torch.testing.assert_close(first, torch.nn.functional.linear(x, *frozen[0]) + 0.5 * x @ a.T @ b.T)
    assert torch.autograd.gradcheck(group, (x, *adapters))
    used = torch.autograd.grad(second.sum(), adapters, allow_unused=True)
    assert [g is None for g in used] == [True, False, True, False], "what was not used gets no gradient, not zeros"


def test_a_model_may_add_to_its_projections_in_place() -> None:
    layers, x = (
        torch.nn.ModuleDict({name: torch.nn.Linear(3, 4) for name in ("q_proj", "k_proj", "v_proj")}),
        torch.ones(2, 3, 3),
    )
    model = peft.get_peft_model(layers, peft.LoraConfig(r=2, target_modules=["q_proj", "k_proj", "v_proj"]))
    found = []
    for fused in (0, 3):
        assert (fuse_lora(model) if fused else 0) == fused
        model.zero_grad()
        q, k, v = (layers[name](x) for name in ("q_proj", "k_proj", "v_proj"))
        q += 2 * k
        v.mul_(q)
        v.sum().backward()
        found.append([p.grad.clone() for p in model.parameters() if p.requires_grad])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("trained", [True, False], ids=["head trained", "head frozen"])
def test_gradients_of_the_loss_are_right(trained: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "_LOGITS", 1)
    monkeypatch.setattr(cross_entropy, "_FEWEST_ROWS", 2)  # three pieces
    hidden, weight, targets = doubles(5, 3), doubles(7, 3, grad=trained), torch.tensor([0, 6, 3, 3, 1])
    expected = torch.nn.functional.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    torch.testing.assert_close(cross_entropy.fused_loss(hidden, weight, targets), expected)
    assert torch.autograd.gradcheck(lambda h, w: cross_entropy.fused_loss(h, w, targets) * 0.3, (hidden, weight))


@pytest.mark.parametrize("trained", [True, False], ids=["weight trained", "weight frozen"])
def test_gradients_of_a_norm_are_right(trained: bool) -> None:
    x, weight = doubles(2, 3, 5), doubles(5, grad=trained)
    found = rms_norm.NormFunction.apply(x, weight, 0.1)
    torch.testing.assert_close(found, torch.nn.functional.rms_norm(x, (5,), weight, 0.1))
    assert torch.autograd.gradcheck(lambda x, w: rms_norm.NormFunction.apply(x, w, 0.1), (x, weight))


def test_gradients_of_a_rotation_are_right() -> None:
    x, cos, sin = doubles(2, 3, 4, 6), doubles(2, 4, 6, grad=False), doubles(2, 4, 6, grad=False)
    found = rotary.RotaryFunction.apply(x, cos[:, None], sin[:, None])
    torch.testing.assert_close(found, modeling_llama.apply_rotary_pos_emb(x, x, cos, sin)[0])
    assert torch.autograd.gradcheck(rotary.RotaryFunction.apply, (x, cos[:, None], sin[:, None]))


def test_positions_with_nothing_to_learn_cost_nothing_and_harm_nothing() -> None:
    labels = torch.tensor([[7, -100, 5, 6], [-100, -100, -100, 4], [9, -100, -100, -100]])
    assert cross_entropy.supervised_positions(labels).tolist() == [1, 2, 6]
    nothing = cross_entropy.fused_loss(hidden := doubles(0, 3), doubles(7, 3), torch.tensor([], dtype=torch.int64))
    nothing.backward()
    assert nothing.item() == 0.0
    assert hidden.grad.shape == (0, 3)


def adapted(kind: str = "llama", *, dtype=torch.float64, config=None, **lora):
    """A model of random weights with a random adapter, and its twin with fused layers; and how much was fused."""
    torch.manual_seed(1)
    given = (
        {**SIZES, **(config or {})} if kind != "gpt2" else {"vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 4}
    )
    settings = {"dtype": dtype, "experts_implementation": "eager"}  # others have no float64
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **given), **settings)
    settings = {"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **lora}
    plain = peft.get_peft_model(model, peft.LoraConfig(**settings), autocast_adapter_dtype=False)
    for name, weight in plain.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    fused = copy.deepcopy(plain)
    return plain.train(), fused.train(), (fuse_lora(fused), cross_entropy.fuse_loss(fused))


def batch(rows: int = 2, length: int = 9) -> dict[str, object]:
    """Padded on the right, with a part that is not trained on, as prompts are."""
    torch.manual_seed(2)
    ids = torch.randint(2, 50, (rows, length))
    mask, labels = torch.ones_like(ids), ids.clone()
    mask[-1, -3:], labels[-1, -3:], labels[0, :4] = 0, -100, -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def step(model, seed: int = 3, **more):
    """Loss and gradients of a step, as Trainer makes it."""
    model.zero_grad()
    torch.manual_seed(seed)
    loss = model(**batch(), **more).loss
    loss.backward()
    return loss, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def assert_same(plain, fused, **tolerance: float) -> None:
    for more in ({}, {"num_items_in_batch": torch.tensor(40)}):
        (expected, gradients), (found, others) = step(plain, **more), step(fused, **more)
        torch.testing.assert_close(found, expected, check_dtype=False, **tolerance)
        assert others.keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(others[name], gradient, msg=lambda m, name=name: f"{name}: {m}", **tolerance)


@pytest.mark.parametrize(
    ("kind", "lora", "fused"),
    [
        ("llama", {}, (LAYERS, True)),
        ("llama", {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"k_proj": 1}}, (LAYERS, True)),
        ("llama", {"target_modules": ["q_proj", "v_proj", "up_proj"]}, (6, True)),
        ("llama", {"lora_dropout": 0.3}, (0, True)),
        ("llama", {"use_dora": True}, (0, True)),
        ("llama", {"lora_bias": True, "target_modules": ["q_proj"], "bias": "lora_only"}, (0, True)),
        ("llama", {"modules_to_save": ["lm_head"]}, (LAYERS, False)),
        ("mistral", {}, (LAYERS, True)),
        ("qwen2", {}, (LAYERS, True)),
        ("qwen3", {}, (LAYERS, True)),
        ("gemma", {}, (LAYERS, True)),
        ("gemma2", {}, (LAYERS, False)),  # caps its logits
        ("gemma3_text", {"target_modules": ["q_proj"]}, (2, False)),
        ("granite", {}, (LAYERS, False)),  # scales them
        ("mixtral", {"target_modules": ["q_proj", "k_proj", "v_proj"]}, (6, False)),
        ("gpt2", {}, (0, False)),
    ],
    ids=str,
)
def test_a_step_is_what_peft_makes_of_it(kind: str, lora: dict[str, object], fused: tuple[int, bool]) -> None:
    config = {"attention_bias": True} if lora.get("lora_bias") else None
    plain, twin, found = adapted(kind, config=config, **lora)
    assert found == fused
    # transformers computes the loss of float64 logits in float32.
    assert_same(plain, twin, rtol=1e-5, atol=1e-6)


def test_without_the_loss_it_is_exact_to_float64() -> None:
    plain, twin, _ = adapted("gemma2")
    ids = batch()["input_ids"]
    for model in (plain, twin):
        model(input_ids=ids).logits.square().sum().backward()
    for (name, p), q in zip(plain.named_parameters(), twin.parameters(), strict=True):
        if p.grad is not None:
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing(reentrant: bool) -> None:
    plain, twin, _ = adapted()
    for model in (plain, twin):
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    assert_same(plain, twin, rtol=1e-5, atol=1e-6)


def test_full_fine_tuning_with_tied_embeddings() -> None:
    config = transformers.AutoConfig.for_model("llama", **SIZES, tie_word_embeddings=True)
    plain = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float64).train()
    twin = copy.deepcopy(plain)
    assert cross_entropy.fuse_loss(twin)
    assert_same(plain, twin, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("adapter", [torch.float32, torch.bfloat16], ids=["fp32 adapter", "bf16 adapter"])
def test_bf16_autocast(adapter) -> None:
    plain, twin, _ = adapted(dtype=torch.bfloat16)
    with count(LoraFunction) as made, torch.autocast("cpu", torch.bfloat16):
        for model in (plain, twin):
            for name, p in model.named_parameters():
                if "lora" in name:
                    p.data = p.data.to(adapter)
        assert_same(plain, twin, rtol=0.05, atol=0.02)
    assert made


@contextlib.contextmanager
def count(function):
    """The calls of an autograd function in here."""
    made: list[object] = []
    apply = function.apply
    function.apply = lambda *args: made.append(args) or apply(*args)
    try:
        yield made
    finally:
        function.apply = apply


@pytest.mark.parametrize(
    ("kind", "norms", "rotations"),
    [
        ("llama", 5, 2),
        ("mistral", 5, 2),
        ("qwen2", 5, 2),
        ("qwen3", 9, 2),  # of queries and keys, too
        ("gemma", 0, 2),  # adds 1 to the weight
        ("granite", 5, 2),
        ("cohere", 0, 0),  # layer norms; rotates neighbours
        ("glm", 5, 0),  # rotates neighbours, and some of them
        ("gpt2", 0, 0),
    ],
)
def test_norms_and_rotations_change_no_step(kind: str, norms: int, rotations: int) -> None:
    plain, twin, _ = adapted(kind, dtype=torch.float32)
    assert (rms_norm.fuse_norms(twin), rotary.fuse_rotary(twin)) == (norms, rotations)
    with count(rms_norm.NormFunction) as normed, count(rotary.RotaryFunction) as rotated:
        step(twin)
    assert (len(normed), len(rotated)) == (norms, 2 * rotations)
    assert_same(plain, twin, rtol=1e-4, atol=1e-5)
    for model in (plain, twin):
        model.eval()
    inputs = {k: v for k, v in batch().items() if k != "labels"}
    assert torch.equal(twin(**inputs).logits, plain(**inputs).logits), "evaluation is transformers' own"


def test_norms_and_rotations_of_other_models_stay_as_they_are() -> None:
    known = modeling_llama.apply_rotary_pos_emb
    _, twin, _ = adapted(dtype=torch.float32)
    rms_norm.fuse_norms(twin)
    rotary.fuse_rotary(twin)
    plain, _, _ = adapted(dtype=torch.float32)
    with count(rms_norm.NormFunction) as normed, count(rotary.RotaryFunction) as rotated:
        step(plain)
    assert not normed
    assert not rotated
    assert modeling_llama.apply_rotary_pos_emb is known


def test_other_dtypes_are_pefts() -> None:
    plain, twin, _ = adapted(dtype=torch.bfloat16)
    for model in (plain, twin):
        for name, p in model.named_parameters():
            if "lora" in name:
                p.data = p.data.float()
    with count(LoraFunction) as made:
        inputs = {name: value for name, value in batch().items() if name != "labels"}
        assert torch.equal(plain(**inputs).logits, twin(**inputs).logits)
    assert not made


def test_trainer_still_finds_what_the_model_takes() -> None:
    plain, twin, _ = adapted()
    expected = inspect.signature(plain.get_base_model().forward)
    assert inspect.signature(twin.get_base_model().forward) == expected
    assert "labels" in expected.parameters


def test_one_call_for_q_k_and_v_and_one_for_gate_and_up() -> None:
    _, twin, _ = adapted()
    with count(LoraFunction) as made:
        step(twin)
    assert len(made) == 2 * 4
    assert not any(m.group._waiting or m.group._input for m in twin.modules() if isinstance(m, FusedLinear))


def test_members_with_inputs_of_their_own() -> None:
    plain, twin, _ = adapted()
    theirs, ours = (m.get_base_model().model.layers[0].self_attn for m in (plain, twin))
    one, other = doubles(1, 3, 32), doubles(1, 3, 32)
    for name, x in itertools.product(("q_proj", "k_proj", "q_proj", "v_proj"), (one, other)):
        torch.testing.assert_close(getattr(ours, name)(x), getattr(theirs, name)(x))
    x = doubles(1, 3, 32, grad=False)
    ours.q_proj(x)
    x.add_(1)
    torch.testing.assert_close(ours.k_proj(x), theirs.k_proj(x))


def test_evaluation_and_disabled_adapters_are_pefts_own() -> None:
    plain, twin, _ = adapted()
    inputs = {k: v for k, v in batch().items() if k != "labels"}
    with plain.disable_adapter(), twin.disable_adapter():
        assert torch.equal(plain(**inputs).logits, twin(**inputs).logits)
    for model in (plain, twin):
        model.eval()
    with count(LoraFunction) as made, count(cross_entropy.LossFunction) as losses:
        found, expected = twin(**batch()), plain(**batch())
    assert not made
    assert not losses
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.loss, expected.loss)
    assert torch.equal(twin.generate(**inputs, max_new_tokens=3), plain.generate(**inputs, max_new_tokens=3))


def test_an_evaluation_needs_no_logits() -> None:
    plain, twin, _ = adapted()
    inputs = batch()
    where = cross_entropy.supervised_positions(inputs["labels"])
    expected, found = plain.eval()(**inputs), twin.eval()(**inputs, supervised=where)
    assert "logits" not in found
    torch.testing.assert_close(found.loss, expected.loss, check_dtype=False)
    theirs, ours = (objective.token_losses(x, inputs["labels"]) for x in (expected.logits, found.losses))
    torch.testing.assert_close(ours, theirs)


def test_saved_and_merged_as_ever(tmp_path: Path) -> None:
    plain, twin, _ = adapted()
    for model, name in ((plain, "plain"), (twin, "twin")):
        model.save_pretrained(tmp_path / name)
    files = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("plain", "twin")]
    assert files[0] == files[1]
    ids = batch()["input_ids"]
    merged = twin.merge_and_unload().eval()
    torch.testing.assert_close(merged(input_ids=ids).logits, plain.eval()(input_ids=ids).logits)
    merged.save_pretrained(tmp_path / "merged")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float64).eval()
    written, kept = again.state_dict(), merged.state_dict()
    assert written.keys() == kept.keys()
    assert all(torch.equal(written[name], kept[name]) for name in kept)
    # The same weights; products of the same numbers may differ in their last bit by where they lie in memory.
    torch.testing.assert_close(again(input_ids=ids).logits, merged(input_ids=ids).logits, rtol=1e-12, atol=1e-12)


_FAULTS = """
import resource
import sys

import torch
from tunewright_hf.kernels.allocator import keep_freed_memory

torch.set_num_threads(1)
if sys.argv[1] == "keep":
    keep_freed_memory()
def use():
    for _ in range(4):
        torch.ones(48 << 20, dtype=torch.uint8)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
@pytest.mark.slow
def test_freed_memory_is_kept() -> None:
    def faults(how: str) -> int:
        env = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        done = subprocess.run([sys.executable, "-c", _FAULTS, how], env=env, check=True, capture_output=True, text=True)
        return int(done.stdout)

    assert faults("keep") < 1_000 < faults("give back")


@pytest.mark.slow
@pytest.mark.parametrize("packing", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_training_is_the_same_with_and_without(packing: bool, train, qa: Path, tmp_path: Path, caplog) -> None:
    given = {"num_train_epochs": 2, "learning_rate": 1e-2, "lora_config": {"r": 4}, "save_strategy": "no"}
    given |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "data": {"packing": packing}}
    with caplog.at_level("INFO", "tunewright_hf.kernels.fuse"):
        fused = train(tmp_path / "fused", qa, **given)
    assert caplog.messages == ["fused_layers: 14 LoRA layers, 5 norms, 2 rotations, 0 gates, loss"]
    plain = train(tmp_path / "plain", qa, **given, fused_layers=False)
    assert len(caplog.messages) == 1
    assert list(fused.losses.values()) == pytest.approx(list(plain.losses.values()), abs=1e-5)
    losses = [[e["eval_loss"] for e in t.of("eval")] for t in (fused, plain)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    ids = torch.arange(5, 25)[None]
    logits = [peft.AutoPeftModelForCausalLM.from_pretrained(t.result)(ids).logits for t in (fused, plain)]
    torch.testing.assert_close(*logits, rtol=0, atol=1e-3)
