"""Attention of short samples on a CPU: what torch's own gives for each of them alone, and so its gradients."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch.nn.functional import scaled_dot_product_attention  # noqa: E402 - it needs torch

from tunewright_hf.kernels import attention, attention_cpu  # noqa: E402


def row(lengths: list[int], *, heads: int = 2, size: int = 4, dtype=torch.float64):
    """Query, key and value as a model has them, a token's heads behind each other; and where samples begin."""
    torch.manual_seed(0)
    shape = (1, sum(lengths), heads, size)
    inputs = [torch.randn(shape, dtype=dtype).requires_grad_() for _ in range(3)]
    return inputs, torch.tensor([0, *lengths]).cumsum(0).int()


def one_by_one(inputs, lengths: list[int], scale: float | None = None):
    parts = zip(*(x.transpose(1, 2).split(lengths, 2) for x in inputs), strict=True)
    found = [scaled_dot_product_attention(*qkv, is_causal=True, scale=scale) for qkv in parts]
    return torch.cat(found, 2).transpose(1, 2)


def attend(inputs, starts, **given):
    heads = (x.transpose(1, 2) for x in inputs)
    return attention.attend(torch.nn.Module(), *heads, None, cu_seq_lens_q=starts, **given)[0]


lengths_of_samples = st.lists(st.integers(1, attention_cpu.LONGEST), min_size=1, max_size=5)


@settings(deadline=None, max_examples=30)
@given(lengths_of_samples, st.sampled_from([None, 0.3]))
@example([128, 129, 1, 127], None)
@example([attention_cpu.LONGEST], None)
def test_each_sample_is_computed_as_if_alone(lengths: list[int], scale: float | None) -> None:
    inputs, starts = row(lengths)
    found, expected = attend(inputs, starts, scaling=scale), one_by_one(inputs, lengths, scale)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    gradients = (torch.autograd.grad((y * weights).sum(), inputs) for y in (found, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_its_gradients_are_right() -> None:
    (query, key, value), _ = row([5, 1, 3])
    heads = [x.detach().transpose(1, 2).requires_grad_() for x in (query, key, value[..., :3])]
    assert torch.autograd.gradcheck(lambda *x: attention_cpu.CausalFunction.apply([5, 1, 3], 0.4, *x), heads)


def test_a_sample_that_changes_leaves_the_others_alone_to_the_bit() -> None:
    inputs, starts = row([130, 7, 60], dtype=torch.float32)
    before = attend(inputs, starts)
    with torch.no_grad():
        inputs[1][:, 130:137] += 1
    after = attend(inputs, starts)
    assert torch.equal(before[:, :130], after[:, :130])
    assert torch.equal(before[:, 137:], after[:, 137:])
    assert not torch.equal(before[:, 131:137], after[:, 131:137])


@pytest.mark.parametrize(
    ("lengths", "dtype", "more"),
    [
        ([attention_cpu.LONGEST + 1, 4], torch.float32, {}),
        ([9, 4], torch.bfloat16, {}),
        ([9, 4], torch.float32, {"sliding_window": 8}),
        ([9, 4], torch.float32, {"softcap": 30.0}),
    ],
    ids=["long", "bf16", "window", "softcap"],
)
def test_others_are_not_computed_there(lengths, dtype, more, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, starts = row(lengths, dtype=dtype)
    expected = attend(inputs, starts, **more)
    monkeypatch.setattr(attention_cpu.CausalFunction, "forward", None)
    assert torch.equal(attend(inputs, starts, **more), expected)
    with pytest.raises(TypeError):
        attend(*row([9, 8]))


def test_autocast_decides_what_is_computed_in() -> None:
    inputs, starts = row([9, 4], dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert attend(inputs, starts).dtype is torch.bfloat16


def test_heads_that_share_keys() -> None:
    (query, key, value), starts = row([6, 11], heads=4)
    shared = [query, *(x.detach()[:, :, :2].requires_grad_() for x in (key, value))]
    found = attend(shared, starts)
    expected = one_by_one([query, *(x.repeat_interleave(2, 2) for x in shared[1:])], [6, 11])
    torch.testing.assert_close(found, expected)
    for one, other in zip(*(torch.autograd.grad(y.square().sum(), shared) for y in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)
