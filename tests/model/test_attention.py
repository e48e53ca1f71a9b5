"""Backends agree, and no token sees another instance."""

import pytest
import torch

from bertkit.model.attention import BACKENDS, attend
from bertkit.model.packing import Layout, packed_layout, padded_layout

LENGTHS = (3, 1, 2)
CPU = torch.device("cpu")
CU_SEQLENS = torch.tensor([0, 3, 4, 6], dtype=torch.int32)


def layouts() -> dict[str, Layout]:
    return {
        "ragged": packed_layout(CU_SEQLENS, 3, 6),
        "full": packed_layout(torch.tensor([0, 3, 6], dtype=torch.int32), 3, 6),
        "custom": padded_layout(2, 3, torch.tril(torch.ones(2, 3, 3)), device=torch.device("cpu")),
        "additive": padded_layout(2, 3, -torch.rand(2, 1, 3, 3), device=torch.device("cpu")),
        "padded in front": padded_layout(3, 3, torch.tensor([[0, 1, 1], [1, 1, 1], [0, 0, 1]]), device=CPU),
    }


def qkv(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(6, 3, 2, 4, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()


@pytest.mark.parametrize("case", ["ragged", "full", "custom", "additive", "padded in front"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("causal", [False, True])
def test_every_backend_equals_eager_in_values_and_gradients(case: str, dtype: torch.dtype, causal: bool) -> None:
    layout, tolerance = layouts()[case], {"atol": 1e-6, "rtol": 1e-5} if dtype == torch.float32 else {}
    expected_qkv = qkv(dtype)
    expected, _ = attend(expected_qkv, layout, implementation="eager", causal=causal)
    assert expected.isfinite().all()
    expected.square().sum().backward()
    for name in BACKENDS:
        given = qkv(dtype)
        context, _ = attend(given, layout, implementation=name, causal=causal)
        context.square().sum().backward()
        torch.testing.assert_close(context, expected, **tolerance)
        torch.testing.assert_close(given.grad, expected_qkv.grad, **tolerance)


@pytest.mark.parametrize("implementation", sorted(BACKENDS))
def test_packed_attention_equals_each_instance_alone(implementation: str) -> None:
    given = qkv()
    context, _ = attend(given, layouts()["ragged"], implementation=implementation)
    for start, length in zip((0, 3, 4), LENGTHS, strict=True):
        query, key, value = given[start : start + length].transpose(0, 2).unbind(1)
        alone = (query @ key.transpose(1, 2) / 2).softmax(-1) @ value
        torch.testing.assert_close(context[start : start + length], alone.transpose(0, 1), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("implementation", sorted(BACKENDS))
@pytest.mark.parametrize("case", ["ragged", "padded in front"])
def test_causal_attention_is_that_of_each_prefix_alone(implementation: str, case: str) -> None:
    given, layout = qkv(), layouts()[case]
    context, _ = attend(given, layout, implementation=implementation, causal=True)
    for start, stop in zip(layout.cu_seqlens[:-1], layout.cu_seqlens[1:], strict=True):
        for end in range(start + 1, stop + 1):
            query, key, value = given[start:end].transpose(0, 2).unbind(1)
            alone = (query[:, -1:] @ key.transpose(1, 2) / 2).softmax(-1) @ value
            torch.testing.assert_close(context[end - 1], alone[:, 0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("implementation", sorted(BACKENDS))
def test_changing_one_instance_leaves_the_others_bit_equal(implementation: str) -> None:
    given = qkv().detach()
    before, _ = attend(given, layouts()["ragged"], implementation=implementation)
    changed = given.clone()
    changed[3] += 100
    after, _ = attend(changed, layouts()["ragged"], implementation=implementation)
    assert torch.equal(after[:3], before[:3])
    assert torch.equal(after[4:], before[4:])


def test_only_eager_returns_weights_and_they_sum_to_one() -> None:
    _, weights = attend(qkv(), layouts()["ragged"], implementation="eager")
    assert weights is not None
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 3))
    assert weights[1, :, :, 1:].abs().max() == 0  # the one-token instance has no other key
    assert attend(qkv(), layouts()["ragged"], implementation="sdpa")[1] is None


def test_dropout_of_one_silences_attention() -> None:
    for name in BACKENDS:
        context, _ = attend(qkv(), layouts()["ragged"], implementation=name, dropout=1.0)
        assert context.abs().max() == 0
