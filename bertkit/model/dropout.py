"""Dropout whose random numbers do not cost a CPU more than its matrix products."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.utils.import_utils import is_tracing

# A draw decides by so many bits, so a probability is met to 1 / 131,072.
_LEVELS = 1 << 16


class Dropout(nn.Dropout):
    """`nn.Dropout` by `dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p) if self.training else input


def dropout(input: Tensor, probability: float) -> Tensor:
    """Zero each element with `probability` and scale the others up to keep the mean (Srivastava et al. 2014).

    On a CPU, torch's own draws one number of 32 bits for every element, which takes a third of a fine-tuning step in
    bfloat16; this one decides four elements by one draw of torch's default generator.
    """
    dropped = round(probability * _LEVELS)
    if dropped == 0:
        return input
    if input.device.type != "cpu" or dropped == _LEVELS or is_tracing(input):
        return F.dropout(input, probability)
    kept = _draw(input.numel()) >= dropped - _LEVELS // 2
    return input * kept.view(input.shape).to(input.dtype).mul_(_LEVELS / (_LEVELS - dropped))


def _draw(count: int) -> Tensor:
    """`count` int16 numbers, each of the 65,536 as likely as any other."""
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.int16)[:count]
