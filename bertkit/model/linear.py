"""The linear layer by the fastest float32 multiplication at hand; any other precision and device is torch's own.

On x86 torch multiplies float32 by MKL, which does not use AVX-512 on processors that are not Intel's. oneDNN, which
torch ships for bfloat16, does: 420 GFLOP/s against 190 on two cores of an AMD EPYC, in full float32 (recipes/LOG.md).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.utils.import_utils import is_tracing


class Linear(nn.Linear):
    """`nn.Linear`, its parameters and its results, by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """What `torch.nn.functional.linear` gives, to rounding: input [..., K] and weight [N, K] to [..., N]."""
    if not _by_onednn(input, weight):
        return F.linear(input, weight, bias)
    product: Tensor = _OneDnnLinear.apply(input.flatten(0, -2), weight, bias)
    return product if input.dim() == 2 else product.view(*input.shape[:-1], weight.shape[0])


def multiply(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`linear` for matrices, without a gradient: input [M, K] and weight [N, K] of one dtype to [M, N]."""
    if not _by_onednn(input, weight):
        return F.linear(input, weight, bias)
    return _onednn(input, weight, bias)


class _OneDnnLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input_MK: Tensor, weight_NK: Tensor, bias_N: Tensor | None) -> Tensor:
        ctx.save_for_backward(input_MK, weight_NK)
        return _onednn(input_MK, weight_NK, bias_N)

    @staticmethod
    def backward(ctx: Any, gradient_MN: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        input_MK, weight_NK = ctx.saved_tensors
        gradient_MN = gradient_MN.contiguous()
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            linear(gradient_MN, weight_NK.t()) if needs_input else None,
            linear(gradient_MN.t(), input_MK.t()) if needs_weight else None,
            gradient_MN.sum(0) if needs_bias else None,
        )


def _onednn(input_MK: Tensor, weight_NK: Tensor, bias_N: Tensor | None) -> Tensor:
    # What torch.compile takes for linear layers on a CPU; it reads transposed matrices as they lie.
    product: Tensor = torch.ops.mkldnn._linear_pointwise(input_MK, weight_NK, bias_N, "none", [], "")
    return product


def _by_onednn(input: Tensor, weight: Tensor) -> bool:
    return (
        input.device.type == "cpu"
        and input.dtype == weight.dtype == torch.float32
        and input.dim() > 1
        and input.numel() > 0
        and _HAS_ONEDNN
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
        and not is_tracing(input)
    )


# Builds without MKL (ARM, macOS) multiply by libraries made for their processors.
_HAS_ONEDNN = torch.backends.mkl.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
