"""The kernel for sequences of any length is asked only for what it can do, and trusted only after a check."""

import pytest
import torch
import torch.nn.attention.varlen

from bertkit.model import attention
from bertkit.model.attention import attend
from bertkit.model.packing import packed_layout, padded_layout

BOUNDS = torch.tensor([0, 4, 6, 13], dtype=torch.int32)
LAYOUT = packed_layout(BOUNDS, 7, 13)


def instance_by_instance(query, key, value, bounds, _, longest, __, *, window_size=(-1, -1)):
    """A stand-in with the kernel's signature: plain attention inside each pair of boundaries."""
    assert (bounds.dtype, longest) == (torch.int32, int(bounds.diff().max()))
    unseen = {(-1, -1): 0.0, (-1, 0): -torch.inf}[window_size]

    def weights(q, k):
        scores = q.transpose(0, 1) @ k.permute(1, 2, 0) * q.shape[-1] ** -0.5
        return torch.softmax(scores + torch.full(scores.shape[1:], unseen).triu(1).nan_to_num(0.0, neginf=-1e9), -1)

    pieces = [
        weights(q, k).to(v.dtype) @ v.transpose(0, 1)
        for q, k, v in zip(*(tensor.split(bounds.diff().tolist()) for tensor in (query, key, value)), strict=True)
    ]
    return torch.cat([piece.transpose(0, 1) for piece in pieces])


def blind_to_causality(*given, window_size=None):
    return instance_by_instance(*given)


def older(query, key, value, bounds, _, longest, __):
    """The kernel as torch had it before there were windows."""
    return instance_by_instance(query, key, value, bounds, _, longest, __)


def broken(*_, **__):
    raise RuntimeError("no kernel image is available")


def wrong(query, *_, **__):
    return torch.ones_like(query)


@pytest.fixture
def kernel(monkeypatch):
    """Puts a stand-in in the kernel's place, as if this CPU were a GPU that has it."""

    answers = attention._varlen_works

    def put(stand_in):
        monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", stand_in)
        answers.cache_clear()

    yield put
    answers.cache_clear()


@pytest.mark.parametrize("causal", [False, True])
def test_it_is_given_boundaries_and_equals_the_other_backends(kernel, causal) -> None:
    kernel(instance_by_instance)
    qkv = torch.randn(13, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    expected, _ = attend(qkv, LAYOUT, implementation="eager", causal=causal)
    torch.testing.assert_close(attention.varlen_attention(qkv, LAYOUT, causal=causal), expected)


@pytest.mark.parametrize(
    ("stand_in", "works"),
    [(instance_by_instance, True), (broken, False), (wrong, False), (blind_to_causality, True), (older, True)],
)
def test_it_is_used_only_where_it_gives_the_right_answer(kernel, stand_in, works) -> None:
    kernel(stand_in)
    assert attention._varlen_works(torch.device("cpu"), torch.bfloat16, 8) is works


@pytest.mark.parametrize(
    ("stand_in", "works"), [(instance_by_instance, True), (blind_to_causality, False), (older, False)]
)
def test_it_looks_to_the_left_only_where_it_can(kernel, stand_in, works) -> None:
    kernel(stand_in)
    assert attention._varlen_works(torch.device("cpu"), torch.bfloat16, 8, True) is works


def test_it_is_never_asked_for_what_it_cannot_do(kernel, monkeypatch) -> None:
    kernel(broken)
    monkeypatch.setattr(attention, "_varlen_works", lambda *_: True)

    class OnGpu:
        device, dtype, shape = torch.device("cuda"), torch.bfloat16, (13, 3, 2, 4)

    own_mask = padded_layout(2, 4, torch.ones(2, 4, 4), device=torch.device("cpu"))
    assert attention._varlen_takes(OnGpu, LAYOUT, 0.0)
    assert not attention._varlen_takes(OnGpu, LAYOUT, 0.1)
    assert not attention._varlen_takes(OnGpu, own_mask, 0.0)
    assert not attention._varlen_takes(torch.empty(13, 3, 2, 4, dtype=torch.bfloat16), LAYOUT, 0.0)


def test_full_precision_is_left_to_the_other_kernels(kernel) -> None:
    kernel(instance_by_instance)
    assert not attention._varlen_works(torch.device("cpu"), torch.float32, 8)
