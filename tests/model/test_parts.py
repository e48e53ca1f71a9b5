"""Attention over instances of like length by themselves is attention over all of them at once."""

from dataclasses import replace

import pytest
import torch

from bertkit.model.attention import attend
from bertkit.model.packing import MOST_PARTS, packed_layout

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def layout_for(lengths):
    return packed_layout(
        torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32), max(lengths), sum(lengths)
    )


@pytest.mark.parametrize(
    ("lengths", "sizes"),
    [
        ((12, 12, 11, 6, 6, 2), [(3, 12), (2, 6), (1, 2)]),
        ((2, 2, 9, 9, 9), [(2, 2), (3, 9)]),
        ((8, 7, 6), []),  # alike: one layout serves
        ((8, 8), []),  # no padding at all
        ((9, 2) * MOST_PARTS, []),  # in no order: too many parts to be worth it
    ],
)
def test_instances_of_like_length_stand_together(lengths, sizes) -> None:
    parts = layout_for(lengths).parts
    assert [(part.num_rows, part.row_length) for part in parts] == sizes
    if parts:
        assert sum(part.num_tokens for part in parts) == sum(lengths)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_results_and_gradients_are_those_of_one_layout(implementation) -> None:
    lengths = (12, 12, 11, 6, 6, 2)
    layout = layout_for(lengths)
    assert len(layout.parts) == 3
    found = []
    for chosen in (replace(layout, parts=()), layout):
        qkv = torch.randn(sum(lengths), 3, 2, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
        context, _ = attend(qkv, chosen, implementation=implementation)
        context.square().sum().backward()
        found.append((context, qkv.grad))
    torch.testing.assert_close(*found, **CLOSE)


def test_weights_are_given_for_all_instances_at_once() -> None:
    layout = layout_for((6, 6, 2))
    assert layout.parts
    _, weights = attend(torch.randn(14, 3, 2, 4), layout, implementation="eager")
    assert weights.shape == (3, 2, 6, 6)
