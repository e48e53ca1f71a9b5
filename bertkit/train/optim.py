"""AdamW as the paper uses it, with its state as named tensors."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer


def build_optimizer(
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> AdamW:
    """AdamW with bias correction and no decay on biases and LayerNorm (Devlin et al. 2019, appendix A.2)."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # Biases and LayerNorm's gain are exactly the parameters of one dimension.
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=learning_rate, betas=(beta1, beta2), eps=epsilon, fused=True)


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Sets the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def optimizer_tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's state under `parameter name/state name`, ready for a safetensors file."""
    return {
        f"{name}/{key}": value
        for name, parameter in _trained(model)
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(model: nn.Module, optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts back what `optimizer_tensors` returned, on the device of each parameter."""
    state: dict[str, dict[str, Tensor]] = {}
    for full_name, value in tensors.items():
        name, _, key = full_name.rpartition("/")
        state.setdefault(name, {})[key] = value
    for name, parameter in _trained(model):
        if name in state:
            optimizer.state[parameter] = {
                key: value.to(parameter.device if key != "step" or _is_fused(optimizer) else torch.device("cpu"))
                for key, value in state[name].items()
            }


def _trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def _is_fused(optimizer: Optimizer) -> bool:
    return bool(optimizer.param_groups[0].get("fused"))
