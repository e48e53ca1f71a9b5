import pytest
import torch
from torch import nn

from bertkit.train.optim import build_optimizer, optimizer_tensors, restore_optimizer, set_learning_rate


def build(model):
    return build_optimizer(model, learning_rate=0.1, weight_decay=0.5, beta1=0.9, beta2=0.99, epsilon=1e-6)


def test_biases_and_layer_norm_do_not_decay_and_everything_else_does():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 4), nn.LayerNorm(4))
    decayed, plain = build(model).param_groups
    assert decayed["weight_decay"] == 0.5
    assert plain["weight_decay"] == 0.0
    assert {id(p) for p in decayed["params"]} == {id(model[0].weight), id(model[1].weight)}
    assert {id(p) for p in plain["params"]} == {id(model[1].bias), id(model[2].weight), id(model[2].bias)}


def test_frozen_parameters_are_left_alone():
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    assert sum(len(group["params"]) for group in build(model).param_groups) == 1


def test_the_first_update_is_bias_corrected():
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    optimizer = build(model)
    set_learning_rate(optimizer, 0.01)
    model(torch.ones(1, 1)).backward()
    optimizer.step()
    # The learning rate times (decay 0.5 + a unit update): corrected moments of a first gradient of 1 are 1 and 1.
    assert model.weight.item() == pytest.approx(1.0 - 0.01 * (0.5 + 1.0), abs=1e-6)


def test_the_state_comes_back_under_the_names_of_the_parameters():
    model = nn.Linear(2, 2)
    optimizer = build(model)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    tensors = optimizer_tensors(model, optimizer)
    assert set(tensors) == {f"{name}/{key}" for name in ("weight", "bias") for key in ("step", "exp_avg", "exp_avg_sq")}
    other = build(model)
    restore_optimizer(model, other, tensors)
    assert torch.equal(other.state[model.weight]["exp_avg"], optimizer.state[model.weight]["exp_avg"])


def test_a_new_optimizer_has_no_state_to_save():
    model = nn.Linear(2, 2)
    assert optimizer_tensors(model, build(model)) == {}
