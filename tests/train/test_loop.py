"""The laws of the training loop, on a model of two numbers."""

from dataclasses import dataclass

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from bertkit.train.loop import LossTerm, MemoryExceededError, NonFiniteLossError, train_steps
from bertkit.train.optim import build_optimizer
from bertkit.train.state import TrainState


@dataclass(frozen=True)
class Step:
    micro_batches: tuple
    position: object = None


def micro_batch(values, targets):
    """Instances of one token; `labels` has a target only where it is not -100."""
    values = torch.tensor(values, dtype=torch.float64)
    return {
        "input_ids": values,
        "cu_seqlens": torch.arange(len(values) + 1),
        "labels": torch.tensor(targets, dtype=torch.float64),
    }


class Line(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([[0.5]], dtype=torch.float64))
        self.dropout = nn.Dropout(dropout)

    def forward(self, input_ids):
        return self.dropout(input_ids * self.slope[0, 0])


def squared_error(model, batch):
    is_target = batch["labels"] != -100
    errors = (model(batch["input_ids"]) - batch["labels"])[is_target]
    return {"fit": LossTerm((errors**2).sum(), is_target.sum(), (errors.abs() < 1).sum())}


def count_targets(batch):
    return {"fit": int((batch["labels"] != -100).sum())}


def train(steps, *, dropout=0.0, seed=0, loss_fn=squared_error, learning_rate=0.1, state=None):
    accelerator = Accelerator(cpu=True)
    if state is None:
        model = Line(dropout)
        optimizer = build_optimizer(model, learning_rate=1.0, weight_decay=0.0, beta1=0.9, beta2=0.99, epsilon=1e-6)
        state = TrainState(model, optimizer, seed=seed)
    reports = list(
        train_steps(
            state,
            iter(steps),
            loss_fn,
            count_fn=count_targets,
            learning_rate_fn=lambda now: learning_rate,
            accelerator=accelerator,
            max_grad_norm=1e9,
        )
    )
    return state, reports


VALUES, TARGETS = [1.0, 2, 3, 4, 5, 6, 7, 8], [2.0, -100, 5, 9, -100, -100, -100, 15]


def test_two_micro_batches_equal_one_of_both_even_with_unequal_numbers_of_targets():
    whole, (one,) = train([Step((micro_batch(VALUES, TARGETS),))])
    halves = (micro_batch(VALUES[:4], TARGETS[:4]), micro_batch(VALUES[4:], TARGETS[4:]))
    split, (two,) = train([Step(halves)])
    assert torch.allclose(whole.model.slope, split.model.slope, rtol=0, atol=1e-15)
    assert one.losses["fit"].item() == pytest.approx(two.losses["fit"].item())
    assert one.grad_norm.item() == pytest.approx(two.grad_norm.item())
    assert one.accuracies["fit"].item() == two.accuracies["fit"].item()


def test_a_report_holds_the_means_over_all_targets_of_the_step():
    _, (report,) = train([Step((micro_batch([2.0, 4.0], [2.0, 8.0]),))])
    assert report.losses["fit"].item() == ((1 - 2) ** 2 + (2 - 8) ** 2) / 2
    assert report.accuracies["fit"].item() == 0.0
    assert (report.step, report.tokens, report.instances) == (1, 2, 2)


def test_the_state_advances_with_every_step_and_carries_the_position_behind_it():
    steps = [Step((micro_batch([1.0], [1.0]),), position=number) for number in (10, 20)]
    state, reports = train(steps)
    assert [report.step for report in reports] == [1, 2]
    assert (state.step, state.position, state.tokens, state.instances) == (2, 20, 2, 2)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_update_and_names_the_step(bad):
    state, _ = train([Step((micro_batch([1.0], [3.0]),))])
    before = state.model.slope.clone()
    with pytest.raises(NonFiniteLossError, match="step 2"):
        train([Step((micro_batch([bad], [3.0]),))], state=state)
    assert torch.equal(state.model.slope, before)
    assert state.step == 1


def test_memory_that_runs_out_stops_before_the_update_and_names_the_tokens_it_ran_out_at():
    def second_does_not_fit(model, batch):
        if len(batch["input_ids"]) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return squared_error(model, batch)

    state, _ = train([Step((micro_batch([1.0], [3.0]),))])
    before = state.model.slope.clone()
    both = (micro_batch([1.0, 2.0], [3.0, 4.0]), micro_batch([1.0, 2.0, 3.0], [3.0, 4.0, 5.0]))
    with pytest.raises(MemoryExceededError, match="out of memory at 3 tokens a forward pass$") as caught:
        train([Step(both)], state=state, loss_fn=second_does_not_fit)
    assert caught.value.tokens == 3
    assert torch.equal(state.model.slope, before)
    assert state.step == 1


def test_the_learning_rate_asked_for_is_the_one_used():
    slow, (report,) = train([Step((micro_batch([1.0], [3.0]),))], learning_rate=0.01)
    assert report.learning_rate == 0.01
    # Adam's first update is the learning rate, whatever the gradient.
    assert slow.model.slope.item() == pytest.approx(0.51, abs=1e-6)


def test_dropout_is_a_function_of_seed_and_step_so_stopping_and_going_on_changes_nothing():
    steps = [Step((micro_batch(VALUES, TARGETS),)) for _ in range(6)]
    straight, _ = train(steps, dropout=0.5)
    stopped, _ = train(steps[:3], dropout=0.5)
    torch.rand(100)  # whatever happens in between draws from the same global stream
    resumed, _ = train(steps[3:], dropout=0.5, state=stopped)
    assert torch.equal(straight.model.slope, resumed.model.slope)
    other, _ = train(steps, dropout=0.5, seed=1)
    assert not torch.equal(straight.model.slope, other.model.slope)


def test_a_term_without_targets_in_a_whole_step_counts_nothing():
    _, (report,) = train([Step((micro_batch([1.0], [-100]),))])
    assert report.losses["fit"].item() == 0.0
