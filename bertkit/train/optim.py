"""AdamW as the paper uses it, with its state as named tensors."""

from collections.abc import Callable, Iterator

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
    scale_of: Callable[[str], float] = lambda name: 1.0,
) -> AdamW:
    """AdamW with bias correction and no decay on biases and LayerNorm (Devlin et al. 2019, appendix A.2).

    `scale_of` says by a parameter's name what multiple of the learning rate it is trained at.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in _trained(model):
        # Biases and LayerNorm's gain are exactly the parameters of one dimension.
        groups.setdefault((scale_of(name), parameter.ndim > 1), []).append(parameter)
    return AdamW(
        [
            {"params": parameters, "weight_decay": weight_decay if decays else 0.0, "scale": scale}
            for (scale, decays), parameters in groups.items()
        ],
        lr=learning_rate,
        betas=(beta1, beta2),
        eps=epsilon,
        fused=True,
    )


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Sets the learning rate of every parameter group, each at its scale."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("scale", 1.0)


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
