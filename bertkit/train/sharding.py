"""Weights that lie in parts on several processes (FSDP2): how, and how a checkpoint's whole ones come of them and back.

Who holds them, and how many processes there are, is no part of a checkpoint: any number goes on from it.
"""

import os
from collections.abc import Mapping
from typing import Any

import torch
from accelerate.utils import FullyShardedDataParallelPlugin, is_torch_version
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor

from bertkit.errors import ConfigError

# The class of module whose weights are gathered at a time. The embeddings are no such unit: a head shares theirs.
GATHERED_TOGETHER = "BertKitLayer"
# Before it, modules that share weights were lost where one of them was not called: the loss calls no decoder.
LEAST_TORCH = "2.13"
_HOW_TO = "see recipes/accelerate/fsdp2.yaml"


def wants_sharding() -> bool:
    """Whether accelerate was told to spread the weights over the processes, which only FSDP2 does here.

    Raises:
        ConfigError: it was told to by another means, or torch is too old for this one.
    """
    if _is_set("ACCELERATE_USE_DEEPSPEED"):
        # Its backward pass clips and updates too, so neither could a bad update be stopped nor a checkpoint be shared.
        raise ConfigError(f"DeepSpeed is not supported; FSDP2 spreads weights and optimizer as ZeRO does: {_HOW_TO}")
    if not _is_set("ACCELERATE_USE_FSDP"):
        return False
    if os.environ.get("FSDP_VERSION", "1") != "2":
        # The first version's flat parameters have no names of their own.
        raise ConfigError(f"FSDP is supported in its second version only: {_HOW_TO}")
    if not is_torch_version(">=", LEAST_TORCH):
        raise ConfigError(
            f"FSDP2 needs torch {LEAST_TORCH} or newer and this is {torch.__version__}: update it, or train without"
        )
    return True


def sharding_plugin(dtype: torch.dtype | None) -> FullyShardedDataParallelPlugin:
    """FSDP2 by layers, in which matrices are multiplied in `dtype`; sums of gradients and losses stay in float32."""
    return FullyShardedDataParallelPlugin(
        mixed_precision_policy=MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32),
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=[GATHERED_TOGETHER],
        # train.gradient_checkpointing is bertkit's own, and leaves parameters their names.
        activation_checkpointing=False,
        # Every process draws or reads the same model.
        cpu_ram_efficient_loading=False,
    )


def is_sharded(model: nn.Module) -> bool:
    """Whether `model` lies in parts on several processes; what makes it whole is then the work of all of them."""
    return any(isinstance(module, FSDPModule) for module in model.modules())


def take_apart(model: nn.Module) -> None:
    """Gives back the parts that a forward pass without a backward pass leaves whole on every process."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def gather(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """The tensors made whole, on the host where they were in parts; all processes take part, some `keep` the result."""
    gathered: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        whole = made_whole(tensor).cpu() if isinstance(tensor, DTensor) else tensor
        if keep:
            gathered[name] = whole
    return gathered


def made_whole(tensor: Tensor) -> Tensor:
    """The tensor itself, or all its parts together on the device of every process; all processes take part."""
    if not isinstance(tensor, DTensor):
        return tensor
    # Parts that are kept on the host travel between processes on the device all the same.
    moved: Any = tensor.to(tensor.device_mesh.device_type)
    whole: Tensor = moved.full_tensor()
    return whole


def shard_like(whole: Tensor, tensor: Tensor) -> Tensor:
    """`whole` on the device of `tensor`, and in parts as it is; all processes take part, with the same `whole`."""
    if isinstance(tensor, DTensor):
        whole = distribute_tensor(whole, tensor.device_mesh, tensor.placements)
    return whole.to(tensor.device)


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() == "true"
