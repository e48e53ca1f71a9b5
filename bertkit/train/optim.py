"""AdamW as the paper uses it, and LAMB for large batches, with their state as named tensors."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from bertkit.errors import ConfigError
from bertkit.installed import is_installed
from bertkit.train.sharding import shard_like


def build_optimizer(
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    name: Literal["adamw", "lamb"] = "adamw",
    scale_of: Callable[[str], float] = lambda name: 1.0,
) -> Optimizer:
    """AdamW with bias correction, or LAMB; no decay on biases and LayerNorm (Devlin et al. 2019, appendix A.2).

    `scale_of` says by a parameter's name what multiple of the learning rate it is trained at.

    Raises:
        ConfigError: LAMB's package is not installed.
    """
    grouped: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter_name, parameter in _trained(model):
        # Biases and LayerNorm's gain are exactly the parameters of one dimension.
        grouped.setdefault((scale_of(parameter_name), parameter.ndim > 1), []).append(parameter)
    groups = [
        {"params": parameters, "decays": decays, "weight_decay": weight_decay * decays, "scale": scale}
        for (scale, decays), parameters in grouped.items()
    ]
    if name == "lamb":
        return _lamb(groups, lr=learning_rate, betas=(beta1, beta2), eps=epsilon)
    return AdamW(groups, lr=learning_rate, betas=(beta1, beta2), eps=epsilon, fused=True)


def _lamb(groups: list[dict[str, Any]], **options: Any) -> Optimizer:
    """LAMB (You et al. 2020, algorithm 2); like its authors' code without Adam's bias correction, as one warms up.

    Biases and LayerNorm, which do not decay, keep the step of Adam.
    """
    if not is_installed("pytorch_optimizer"):
        raise ConfigError(
            "optim.name lamb needs pytorch-optimizer, which is not installed: pip install pytorch-optimizer"
        )
    from pytorch_optimizer import Lamb

    groups = [group | {"adam": not group["decays"]} for group in groups]
    # "adam_debias" leaves out a division of the learning rate that would make the first step ten times as long.
    lamb: Any = Lamb(groups, weight_decouple=False, adam_debias=True, **options)
    # The matrices of a large BERT have norms above the library's bound of 10; the authors' code has none.
    lamb.clamp = math.inf
    optimizer: Optimizer = lamb
    return optimizer


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
        # LAMB also keeps figures of its last step.
        if isinstance(value, Tensor) and (key == "step" or value.shape == parameter.shape)
    }


def restore_optimizer(model: nn.Module, optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts back what `optimizer_tensors` returned, on the device of each parameter and in parts where it is."""
    state: dict[str, dict[str, Tensor]] = {}
    for full_name, value in tensors.items():
        name, _, key = full_name.rpartition("/")
        state.setdefault(name, {})[key] = value
    for name, parameter in _trained(model):
        if name in state:
            optimizer.state[parameter] = {
                key: _placed(value, parameter, optimizer) if key == "step" else shard_like(value, parameter)
                for key, value in state[name].items()
            }


def _trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def _placed(step: Tensor, parameter: Tensor, optimizer: Optimizer) -> Tensor:
    return step.to(parameter.device) if optimizer.param_groups[0].get("fused") else step
