"""Batches to where the model is."""

from typing import Any

import torch
from accelerate.utils import send_to_device


def to_device(batch: Any, device: torch.device) -> Any:
    """The tensors of a batch on `device`; on CUDA without waiting for them."""
    # On MPS, a copy that nobody waits for may read memory that was freed meanwhile (pytorch/pytorch#189690).
    return send_to_device(batch, device, non_blocking=device.type == "cuda")
