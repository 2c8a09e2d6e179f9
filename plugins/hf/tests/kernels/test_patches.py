"""Replaced code: only what was tested, only if it proves equal, and through one door. Changed libraries stay as they are."""

import ast
import logging
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from peft.tuners import lora as peft_lora  # noqa: E402 - as torch
from transformers.loss import loss_utils  # noqa: E402
from transformers.models.llama import modeling_llama  # noqa: E402

import tunewright_hf  # noqa: E402
from tunewright_hf.kernels import attention, cross_entropy, lora, patches, rms_norm, rotary  # noqa: E402 - needs torch
from tunewright_hf.model.attention import choose_attention  # noqa: E402

SIZES = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
SIZES |= {"num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": None}


def adapted():
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES))
    return peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))


# What a release may bring: each is the layer's code with another formula.


def centred_norm(self, hidden_states):
    input_dtype = hidden_states.dtype
    hidden_states = hidden_states.to(torch.float32)
    hidden_states = hidden_states - hidden_states.mean(-1, keepdim=True)
    variance = hidden_states.pow(2).mean(-1, keepdim=True)
    hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
    return self.weight * hidden_states.to(input_dtype)


def norm_with_another_epsilon(self, hidden_states):
    input_dtype = hidden_states.dtype
    hidden_states = hidden_states.to(torch.float32)
    variance = hidden_states.pow(2).mean(-1, keepdim=True)
    hidden_states = hidden_states * torch.rsqrt(variance + 2 * self.variance_epsilon)
    return self.weight * hidden_states.to(input_dtype)


def rotate_neighbours(x):
    x1, x2 = x[..., 0::2], x[..., 1::2]
    return torch.stack((-x2, x1), dim=-1).flatten(-2)


def scaled_rotation(q, k, cos, sin, unsqueeze_dim=1):
    cos = cos.unsqueeze(unsqueeze_dim)
    sin = sin.unsqueeze(unsqueeze_dim)
    q_embed = 0.5 * ((q * cos) + (modeling_llama.rotate_half(q) * sin))
    k_embed = (k * cos) + (modeling_llama.rotate_half(k) * sin)
    return q_embed, k_embed


def lora_with_a_limit(self, x, *args, **kwargs):
    result = self.base_layer(x, *args, **kwargs)
    for name in self.active_adapters:
        result = result + torch.tanh(self.lora_B[name](self.lora_A[name](x))) * self.scaling[name]
    return result


def capped_loss(logits, labels, vocab_size, num_items_in_batch=None, ignore_index=-100, **kwargs):
    logits = 5 * torch.tanh(logits.float() / 5)
    return loss_utils.fixed_cross_entropy(
        logits[:, :-1].reshape(-1, vocab_size), labels[:, 1:].reshape(-1), num_items_in_batch, ignore_index
    )


CHANGES = {
    "a norm": (modeling_llama.LlamaRMSNorm, "forward", centred_norm),
    "a norm's epsilon": (modeling_llama.LlamaRMSNorm, "forward", norm_with_another_epsilon),
    "halves": (modeling_llama, "rotate_half", rotate_neighbours),
    "the rotation": (modeling_llama, "apply_rotary_pos_emb", scaled_rotation),
    "LoRA": (peft_lora.Linear, "forward", lora_with_a_limit),
    "the loss": (loss_utils, "fixed_cross_entropy", lambda *a, **k: 2 * _usual_cross_entropy(*a, **k)),
    "the model's loss": (modeling_llama.LlamaForCausalLM, "loss_function", staticmethod(capped_loss)),
}
_usual_cross_entropy = loss_utils.fixed_cross_entropy


def fused(model) -> dict[str, int]:
    found = {"norms": rms_norm.fuse_norms(model), "rotations": rotary.fuse_rotary(model)}
    return {"LoRA": lora.fuse_lora(model), "loss": int(cross_entropy.fuse_loss(model)), **found}


def step(model):
    ids = torch.arange(12).view(2, 6)
    model.zero_grad()
    loss = model.train()(input_ids=ids, labels=ids).loss
    loss.backward()
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


def test_tested_code_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "tunewright_hf.kernels"):
        assert fused(adapted()) == {"LoRA": 7, "loss": 1, "norms": 3, "rotations": 1}
    assert not caplog.messages


@pytest.mark.parametrize(
    ("change", "left"),
    [
        pytest.param("a norm", "norms", marks=pytest.mark.slow),
        ("a norm's epsilon", "norms"),
        pytest.param("halves", "rotations", marks=pytest.mark.slow),
        ("the rotation", "rotations"),
        ("LoRA", "LoRA"),
        ("the loss", "loss"),
        pytest.param("the model's loss", "loss", marks=pytest.mark.slow),
    ],
)
def test_changed_code_is_not_replaced(change: str, left: str, monkeypatch, caplog) -> None:
    owner, name, changed = CHANGES[change]
    monkeypatch.setattr(owner, name, changed)
    plain, twin = adapted(), adapted()
    with caplog.at_level(logging.INFO, "tunewright_hf.kernels"):
        found = fused(twin)
    assert [part for part, count in found.items() if not count] == [left]
    assert len(caplog.messages) == 1
    assert "not fused: the source of " in caplog.text
    assert "that was tested (" in caplog.text
    for one, other in zip(step(twin), step(plain), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("patch", "left"),
    [(rms_norm.NORMS, "norms"), (rotary.ROTATIONS, "rotations"), (lora.LAYERS, "groups of LoRA layers")],
)
def test_what_computes_otherwise_in_spite_of_its_source_is_left(patch, left: str, monkeypatch, caplog) -> None:
    """Something below the digested code may change, too: the trial shows it."""
    if patch is rms_norm.NORMS:
        monkeypatch.setattr(torch, "rsqrt", lambda x: 1 / (x.sqrt() + 0.01))
    elif patch is rotary.ROTATIONS:
        monkeypatch.setattr(torch, "cat", lambda tensors, dim=0, _cat=torch.cat: _cat(tensors[::-1], dim))
    else:
        monkeypatch.setattr(
            torch.nn.Linear, "forward", lambda self, x: torch.nn.functional.linear(x, self.weight * 1.01)
        )
    model = adapted()
    with caplog.at_level(logging.INFO, "tunewright_hf.kernels"):
        found = fused(model)
    assert found["LoRA" if patch is lora.LAYERS else left] == 0
    assert f"{left} not fused: its results on a trial input differ" in caplog.text
    assert not any("forward" in vars(m) or isinstance(m, lora.FusedLinear) for m in touched(model, left))


def touched(model, left: str) -> list[object]:
    kinds = {"norms": modeling_llama.LlamaRMSNorm, "rotations": modeling_llama.LlamaAttention}
    return [m for m in model.modules() if isinstance(m, kinds.get(left, peft_lora.Linear))]


def changed_attention(module, query, key, value, attention_mask, **given):
    y = torch.nn.functional.scaled_dot_product_attention(query, key, value, attention_mask, enable_gqa=True)
    return 1.1 * y.transpose(1, 2), None


def test_segments_is_not_chosen_where_the_attention_of_transformers_is_another(monkeypatch, caplog) -> None:
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES))
    choose_attention(model, "auto", half=False)
    assert model.config._attn_implementation == "segments"
    monkeypatch.setattr(attention, "sdpa_attention_forward", changed_attention)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES))
    with caplog.at_level(logging.INFO, "tunewright_hf.kernels"):
        choose_attention(model, "auto", half=False)
    assert model.config._attn_implementation == "sdpa"
    assert "attention not fused: the source of " in caplog.text


def test_a_trial_leaves_no_trace() -> None:
    model, twin = adapted(), adapted()
    numbers = torch.random.get_rng_state()
    fused(twin)
    assert torch.equal(torch.random.get_rng_state(), numbers)
    for (name, one), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other), name
        assert other.grad is None
    assert [m.training for m in twin.modules()] == [m.training for m in model.modules()]
    assert not any(m._forward_hooks for m in twin.modules())


def test_a_digest_is_of_what_computes() -> None:
    def one(x, size: int = 2):
        """A docstring."""
        found: int = x * size  # a comment
        return found

    inner = one

    def other(x, size=2):
        found = x * size
        return found  # noqa: RET504 - the same as above

    other.__name__ = "one"
    source = "def one(x, size=2):\n    found = x * size\n    return found\n"
    assert patches._plain(ast.parse(source).body[0]) == patches._plain(
        ast.parse(source.replace("(x, size=2)", "(x: float, size: int = 2) -> float")).body[0]
    )
    assert patches.digest_of(inner) is not None
    assert patches.digest_of(inner) != patches.digest_of(other), "the name counts, too: it is in the source"
    scope: dict[str, object] = {}
    exec(source, scope)
    assert patches.digest_of(scope["one"]) is None, "without a source nobody knows what it computes"


WORDS = (".forward", "__class__", "loss_function", "MethodType", "FunctionType", "Interface")


def test_no_other_module_takes_what_a_trainer_keeps_to_itself() -> None:
    root = Path(tunewright_hf.__file__).parent
    found = {file.name for file in root.rglob("*.py") if "_tr_loss" in file.read_text("utf-8")}
    assert found == {"patches.py"}


def test_no_other_module_replaces_code_of_a_library() -> None:
    root = Path(tunewright_hf.__file__).parent
    found = {
        f"{file.relative_to(root)}:{node.lineno}"
        for file in root.rglob("*.py")
        if any(word in (text := file.read_text("utf-8")) for word in WORDS)
        for node in ast.walk(ast.parse(text))
        if _replaces(node)
    }
    assert {place.partition(":")[0] for place in found} == {str(Path("kernels", "patches.py"))}


def _replaces(node: ast.AST) -> bool:
    if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = [t.attr for t in targets if isinstance(t, ast.Attribute)]
        return any(name in {"forward", "__class__", "loss_function", "__code__", "__globals__"} for name in names)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        made = isinstance(node.func.value, ast.Name) and node.func.value.id == "types"
        registers = "Interface" in ast.unparse(node.func.value)
        return (made and node.func.attr in {"MethodType", "FunctionType"}) or (
            registers and node.func.attr == "register"
        )
    return False
