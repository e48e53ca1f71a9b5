"""Weights in parts: asked for in the one way that is supported, gathered whole, and taken apart again."""

import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from bertkit.errors import ConfigError
from bertkit.train import sharding
from bertkit.train.checkpoint import load_weights, open_checkpoint, save_checkpoint
from bertkit.train.optim import build_optimizer
from bertkit.train.setup import build_accelerator
from bertkit.train.sharding import gather, is_sharded, shard_like, take_apart
from bertkit.train.state import TrainState


@pytest.fixture
def process_group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def whole_model(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def model_in_parts(seed=0):
    model = whole_model(seed)
    mesh = dist.device_mesh.init_device_mesh("cpu", (1,))
    fully_shard(model[0], mesh=mesh)
    return fully_shard(model, mesh=mesh)


def state_of(model):
    optimizer = build_optimizer(model, learning_rate=0.1, weight_decay=0.0, beta1=0.9, beta2=0.99, epsilon=1e-6)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return TrainState(model, optimizer)


def test_what_a_forward_pass_leaves_whole_is_taken_apart_and_gathered_with_the_rest(process_group):
    model = model_in_parts()
    assert is_sharded(model)
    with torch.no_grad():
        model(torch.ones(1, 3))
    assert not all(isinstance(parameter, DTensor) for parameter in model.parameters())
    take_apart(model)
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    expected = dict(whole_model().named_parameters())
    gathered = gather(dict(model.named_parameters()), keep=True)
    assert gathered.keys() == expected.keys()
    for name, tensor in gathered.items():
        assert not isinstance(tensor, DTensor)
        assert torch.equal(tensor, expected[name])


def test_who_does_not_keep_what_is_gathered_holds_nothing_of_it(process_group):
    assert gather(dict(model_in_parts().named_parameters()), keep=False) == {}


def test_a_whole_tensor_is_taken_apart_as_another_is(process_group):
    parameter = next(model_in_parts().parameters())
    whole = torch.randn(parameter.shape)
    parted = shard_like(whole, parameter)
    assert parted.placements == parameter.placements
    assert torch.equal(parted.full_tensor(), whole)
    assert shard_like(whole, torch.empty(1)) is whole


def test_a_checkpoint_of_a_model_in_parts_is_that_of_a_whole_one_bit_for_bit(process_group, tmp_path):
    parted, whole = state_of(model_in_parts()), state_of(whole_model())
    with torch.no_grad():
        parted.model(torch.ones(1, 3))
    paths = [
        save_checkpoint(state, tmp_path / kind, model=state.model) for kind, state in (("a", parted), ("b", whole))
    ]
    for name in ("model.safetensors", "optimizer.safetensors"):
        first, second = (path / name for path in paths)
        assert first.read_bytes() == second.read_bytes()
    other = model_in_parts(seed=1)
    load_weights(open_checkpoint(paths[1]), other)
    for own, its in zip(other.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(own.full_tensor(), its)


def test_only_one_process_writes(process_group, tmp_path):
    state = state_of(model_in_parts())
    assert not save_checkpoint(state, tmp_path / "run", model=state.model, writes=False).exists()


@pytest.mark.parametrize(
    ("settings", "torch_version", "reason"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "2.13.0", "DeepSpeed is not supported.*fsdp2.yaml"),
        ({"ACCELERATE_USE_FSDP": "true"}, "2.13.0", "second version only.*fsdp2.yaml"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, "2.12.1", "FSDP2 needs torch 2.13"),
    ],
)
def test_what_would_train_wrongly_is_refused(settings, torch_version, reason, monkeypatch):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sharding, "is_torch_version", lambda operation, least: torch_version >= least)
    with pytest.raises(ConfigError, match=reason):
        build_accelerator("fp32")


def test_one_process_that_was_told_to_shard_has_nothing_to_share(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    accelerator: Accelerator = build_accelerator("fp32")
    assert not is_sharded(accelerator.prepare(whole_model(), torch.optim.SGD(whole_model().parameters()))[0])
