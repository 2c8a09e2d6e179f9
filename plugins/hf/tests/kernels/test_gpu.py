"""What a GPU computes in half precision: as near to fp32 as transformers and PEFT come, and without waiting for it."""

import copy

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from tunewright_hf.kernels import attention, cross_entropy, rms_norm, rotary, swiglu  # noqa: E402 - needs torch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

HALF = torch.bfloat16
SIZES = {"vocab_size": 500, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "bos_token_id": None}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "eos_token_id": 1}


def adapted():
    """A Llama with a random adapter, on the GPU: in fp32; in bf16 with an adapter in fp32; and that with fused layers."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model("llama", **SIZES, pad_token_id=None)
    attention.register()
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention.SEGMENTS)
    lora = peft.LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
    exact = peft.get_peft_model(model, lora).cuda().train()
    for name, weight in exact.named_parameters():
        weight.data = torch.randn_like(weight) * 0.1 if "lora_B" in name else weight.data.to(HALF).float()
    plain = copy.deepcopy(exact)
    for weight in plain.parameters():
        weight.data = weight.data if weight.requires_grad else weight.data.to(HALF)
    fused = copy.deepcopy(plain)
    assert (lora.fuse_lora(fused), cross_entropy.fuse_loss(fused)) == (14, True)
    assert (rms_norm.fuse_norms(fused), rotary.fuse_rotary(fused), swiglu.fuse_gates(fused)) == (5, 2, 2)
    return exact, plain, fused


def batch(lengths: list[int]) -> dict[str, object]:
    """Samples behind each other."""
    torch.manual_seed(1)
    ends = torch.tensor(lengths).cumsum(0)
    starts = ends - torch.tensor(lengths)
    ids = torch.randint(2, 500, (1, sum(lengths)))
    labels = ids.clone()
    labels[0, starts] = -100
    bounds = torch.nn.functional.pad(ends, (1, 0)).int().cuda()
    positions = torch.arange(sum(lengths)) - starts.repeat_interleave(torch.tensor(lengths))
    found = {"input_ids": ids.cuda(), "labels": labels.cuda(), "position_ids": positions[None].cuda()}
    found |= {
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
    }
    return {**found, "supervised": cross_entropy.supervised_positions(labels).cuda()}


def step(model, inputs, *, half: bool = True):
    """The loss and the adapter's gradients, in one vector."""
    with torch.autocast("cuda", HALF, enabled=half):
        loss = model(**inputs).loss
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten().float() for p in model.parameters() if p.requires_grad])


@pytest.mark.parametrize("lengths", [[200], [50, 3, 100, 47]], ids=["one sample", "several"])
def test_fused_layers_are_as_near_to_fp32_as_pefts(lengths: list[int]) -> None:
    exact, plain, fused = adapted()
    inputs = batch(lengths)
    others = {name: value for name, value in inputs.items() if name != "supervised"}
    (loss, right), (_, theirs), (ours_loss, ours) = (
        step(exact, others, half=False),
        step(plain, others),
        step(fused, inputs),
    )
    error, their_error = ((found - right).norm() / right.norm() for found in (ours, theirs))
    print(f"relative error of the gradient: {error:.4f}, of PEFT {their_error:.4f}")
    assert error <= 1.2 * their_error
    torch.testing.assert_close(ours_loss.float(), loss.float(), rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("lengths", [[200], [50, 3, 100, 47]], ids=["one sample", "several"])
def test_a_step_never_waits_for_the_gpu(lengths: list[int]) -> None:
    _, _, fused = adapted()
    inputs = batch(lengths)
    step(fused, inputs)  # kernels are loaded
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.autocast("cuda", HALF):
            fused(**inputs).loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("window", [None, 20, 500])
@pytest.mark.parametrize("lengths", [[200], [50, 3, 100, 47]], ids=["one sample", "several"])
def test_the_kernels_attend_as_sample_by_sample(lengths: list[int], window: int | None) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, heads, sum(lengths), 64, device="cuda", dtype=HALF) for heads in (4, 2, 2))
    given = {name: value for name, value in batch(lengths).items() if name in {"cu_seq_lens_q", "max_length_q"}}
    layer = torch.nn.Module()
    found, _ = attention.attend(layer, q, k, v, None, **given, sliding_window=window)
    inputs = [x.float().cpu() for x in (q, k, v)]
    given["cu_seq_lens_q"] = given["cu_seq_lens_q"].cpu()
    expected, _ = attention.attend(layer, *inputs, None, **given, sliding_window=window)
    torch.testing.assert_close(found.float().cpu(), expected, rtol=0.02, atol=0.02)


def test_gates_are_rounded_once() -> None:
    torch.manual_seed(0)
    gate, up, grad = (torch.randn(3, 5, 64, device="cuda", dtype=HALF, requires_grad=True) for _ in range(3))
    right = torch.autograd.grad(torch.nn.functional.silu(gate.double()) * up.double(), (gate, up), grad.double())
    found = torch.autograd.grad(swiglu.GateFunction.apply(gate, up), (gate, up), grad)
    for ours, exact in zip(found, right, strict=True):
        torch.testing.assert_close(ours, exact, rtol=2**-7, atol=1e-6)
