"""The masked LM loss straight from hidden states: logits exist for a few rows at a time, and are never stored.

Shape letters: R rows at a time, M masked positions, D hidden, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor

from .linear import multiply

# Logits that are in memory at once: about the second-level caches of a CPU; on a GPU enough to keep it busy.
_LOGITS_AT_ONCE = {"cpu": 4 << 20, "cuda": 128 << 20}
_LEAST_ROWS = 32


def vocabulary_loss(hidden_MD: Tensor, weight_VD: Tensor, bias_V: Tensor, labels_M: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the cross entropy of `hidden @ weight.T + bias` over M targets, and count where the target scores highest.

    A label below 0 is no target. Equal to torch's `linear`, then `cross_entropy` in float32, to rounding. The gradient
    of a cross entropy is known as soon as its logits are, so it is formed on the way forward; matrices are multiplied
    in autocast's precision.
    """
    total, correct = _VocabularyLoss.apply(hidden_MD, weight_VD, bias_V, labels_M)
    return total, correct


class _VocabularyLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_MD: Tensor, weight_VD: Tensor, bias_V: Tensor, labels_M: Tensor
    ) -> tuple[Tensor, Tensor]:
        dtype, needed = _matrix_dtype(hidden_MD), any(ctx.needs_input_grad)
        given = hidden_MD.dtype
        hidden_MD, matrix_VD, offset_V = hidden_MD.to(dtype), weight_VD.to(dtype), bias_V.to(dtype)
        total = hidden_MD.new_zeros((), dtype=torch.float32)
        correct = labels_M.new_zeros(())
        hidden_grad_MD = torch.empty_like(hidden_MD)
        weight_grad_VD = torch.zeros_like(weight_VD) if needed else None
        bias_grad_V = torch.zeros_like(bias_V)
        rows = max(_LEAST_ROWS, _LOGITS_AT_ONCE.get(hidden_MD.device.type, 4 << 20) // len(weight_VD))
        with torch.autocast(hidden_MD.device.type, enabled=False):
            for first in range(0, len(hidden_MD), rows):
                hidden_RD, label_R1 = hidden_MD[first : first + rows], labels_M[first : first + rows, None]
                scores_RV = multiply(hidden_RD, matrix_VD, offset_V).float()
                target_R1 = (label_R1 >= 0).float()
                label_R1 = label_R1.clamp(min=0)
                highest_R1, best_R1 = scores_RV.max(1, keepdim=True)
                own_R1 = scores_RV.gather(1, label_R1)
                exp_RV = scores_RV.sub_(highest_R1).exp_()
                sum_R1 = exp_RV.sum(1, keepdim=True)
                total += ((sum_R1.log() + highest_R1 - own_R1) * target_R1).sum()
                correct += ((best_R1 == label_R1) & (target_R1 > 0)).sum()
                if weight_grad_VD is None:
                    continue
                # Softmax minus one at the target.
                grad_RV = exp_RV.mul_(target_R1 / sum_R1).scatter_add_(1, label_R1, -target_R1)
                bias_grad_V += grad_RV.sum(0)
                grad_RV = grad_RV.to(dtype)
                hidden_grad_MD[first : first + rows] = multiply(grad_RV, matrix_VD.t())
                weight_grad_VD += multiply(grad_RV.t(), hidden_RD.t())
        if needed:
            ctx.save_for_backward(hidden_grad_MD.to(given), weight_grad_VD, bias_grad_V)
        ctx.mark_non_differentiable(correct)
        return total, correct

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        if torch.is_grad_enabled():
            raise RuntimeError("the loss without logits has no second derivative: leave masked_labels out")
        hidden_grad_MD, weight_grad_VD, bias_grad_V = ctx.saved_tensors
        return hidden_grad_MD * gradient, weight_grad_VD * gradient, bias_grad_V * gradient, None


def _matrix_dtype(tensor: Tensor) -> torch.dtype:
    device = tensor.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensor.dtype
