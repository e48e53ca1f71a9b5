"""Dropout as defined: the share dropped, the mean kept, independent draws, one generator."""

import pytest
import torch
from torch import nn

from bertkit.model.dropout import Dropout, dropout

ONES = torch.ones(400_000)


@pytest.mark.parametrize("probability", [0.1, 0.25, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_share_is_dropped_and_the_rest_scaled(probability, dtype) -> None:
    torch.manual_seed(0)
    out = dropout(ONES.to(dtype), probability)
    assert out.dtype == dtype
    # Four standard deviations of a binomial share.
    spread = 4 * (probability * (1 - probability) / len(ONES)) ** 0.5
    assert abs((out == 0).double().mean().item() - probability) < spread
    scaled = torch.tensor([1 / (1 - probability)], dtype=torch.double)
    torch.testing.assert_close(out[out > 0].double().unique(), scaled, rtol=5e-3, atol=0)


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 64, 1000])
def test_neighbours_are_dropped_independently(lag) -> None:
    torch.manual_seed(0)
    dropped = (dropout(ONES, 0.1) == 0).double() - 0.1
    correlation = (dropped[lag:] * dropped[:-lag]).mean() / 0.09
    assert abs(correlation) < 4 / len(ONES) ** 0.5


def test_seeds_step_by_step_draw_independently() -> None:
    # As training does it: the generator is seeded anew every step, and one place is drawn once a step.
    drawn = []
    for step in range(4000):
        torch.manual_seed(step)
        drawn.append(dropout(ONES[:64], 0.1) == 0)
    dropped = torch.stack(drawn).double()
    assert abs(dropped.mean() - 0.1) < 4 * 0.3 / dropped.numel() ** 0.5
    # Every place by itself is dropped in a tenth of the steps.
    assert (dropped.mean(0) - 0.1).abs().max() < 5 * 0.3 / len(drawn) ** 0.5


def test_the_gradient_flows_where_the_value_did() -> None:
    given = torch.randn(1001, requires_grad=True)
    out = dropout(given, 0.3)
    out.sum().backward()
    torch.testing.assert_close(given.grad * given, out)


def test_it_follows_torchs_seed() -> None:
    torch.manual_seed(3)
    first, second = dropout(ONES, 0.1), dropout(ONES, 0.1)
    torch.manual_seed(3)
    assert torch.equal(dropout(ONES, 0.1), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0,), (2, 3, 7)])
def test_any_shape(shape) -> None:
    assert dropout(torch.ones(shape), 0.5).shape == shape


def test_nothing_and_everything() -> None:
    assert dropout(ONES, 0.0) is ONES
    assert not dropout(ONES, 1.0).any()


def test_the_module_is_torchs_in_all_but_speed() -> None:
    module = Dropout(0.5)
    assert isinstance(module, nn.Dropout)
    assert module.eval()(ONES) is ONES
    assert (module.train()(ONES) == 0).any()
