import pytest
import torch
from torch import nn

from bertkit.errors import ConfigError
from bertkit.train import optim
from bertkit.train.optim import build_optimizer, optimizer_tensors, restore_optimizer, set_learning_rate


def build(model, **options):
    return build_optimizer(model, learning_rate=0.1, weight_decay=0.5, beta1=0.9, beta2=0.99, epsilon=1e-6, **options)


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


@pytest.mark.parametrize(
    ("name", "keys"), [("adamw", ("step", "exp_avg", "exp_avg_sq")), ("lamb", ("exp_avg", "exp_avg_sq"))]
)
def test_the_state_comes_back_under_the_names_of_the_parameters(name, keys):
    model = nn.Linear(2, 2)
    optimizer = build(model, name=name)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    tensors = optimizer_tensors(model, optimizer)
    assert set(tensors) == {f"{name}/{key}" for name in ("weight", "bias") for key in keys}
    other = build(model, name=name)
    restore_optimizer(model, other, tensors)
    assert torch.equal(other.state[model.weight]["exp_avg"], optimizer.state[model.weight]["exp_avg"])


def test_a_new_optimizer_has_no_state_to_save():
    model = nn.Linear(2, 2)
    assert optimizer_tensors(model, build(model)) == {}


@pytest.mark.parametrize("size", [0.1, 40.0])
def test_lamb_steps_as_its_authors_wrote_it(size):
    # You et al. 2020, algorithm 2 with the identity for phi; like the authors' code without bias correction, and with
    # plain Adam where nothing decays. The norm of 40 is beyond the bound of 10 that some libraries put on phi.
    torch.manual_seed(0)
    model = nn.Linear(3, 4).double()
    model.weight.data *= size / model.weight.norm().item()
    optimizer = build(model, name="lamb")
    weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
    moments = [[torch.zeros_like(x), torch.zeros_like(x)] for x in (weight, bias)]
    for step in range(2):
        set_learning_rate(optimizer, rate := 0.02 / (step + 1))
        model(torch.randn(5, 3).double()).square().sum().backward()
        updates = []
        for moment, gradient in zip(moments, (model.weight.grad, model.bias.grad), strict=True):
            moment[0] = 0.9 * moment[0] + 0.1 * gradient
            moment[1] = 0.99 * moment[1] + 0.01 * gradient**2
            updates.append(moment[0] / (moment[1].sqrt() + 1e-6))
        optimizer.step()
        optimizer.zero_grad()
        decayed = updates[0] + 0.5 * weight
        weight -= rate * weight.norm() / decayed.norm() * decayed
        bias -= rate * updates[1]
        assert torch.allclose(model.weight, weight, rtol=1e-6)
        assert torch.allclose(model.bias, bias, rtol=1e-6)


def test_every_group_of_lamb_is_trained_at_its_scale():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].load_state_dict(model[0].state_dict())
    optimizer = build(model, name="lamb", scale_of=lambda name: 0.5 if name.startswith("0") else 1.0)
    set_learning_rate(optimizer, 0.1)
    before = model[0].weight.detach().clone()
    for layer in model:
        layer.weight.grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.allclose(2 * (model[0].weight - before), model[1].weight - before)


def test_without_its_package_lamb_names_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(optim, "is_installed", lambda name: False)
    with pytest.raises(ConfigError, match=r"lamb needs pytorch-optimizer.* pip install pytorch-optimizer"):
        build(nn.Linear(2, 2), name="lamb")
