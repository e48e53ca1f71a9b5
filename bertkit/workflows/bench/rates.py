"""What a model's work is in FLOPs, and how many FLOP/s this device multiplies at.

Letters: L layers, D hidden, F feed-forward, V vocabulary, T tokens, n_i tokens of instance i, I instances, M masked
positions. A multiplication and an addition are two FLOPs; backward is twice forward.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from bertkit.data.features import Array
from bertkit.model.linear import linear
from bertkit.workflows.bench.sides import Round, Worker

FORMULA = (
    "model FLOPs of a step = 6 x matmul weights of the layers x real tokens + 12 x layers x hidden x sum of squared "
    "lengths (attention) + 6 x (hidden^2 + hidden x vocabulary) x masked positions + 6 x hidden^2 x instances "
    "(pooler); a third of it for prediction; utilisation = model FLOPs / seconds / the matmul rate of the same round"
)
SQUARE = 2048
SECONDS_A_SHAPE = 0.3
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Shape(Protocol):
    """The shape of a BERT, as transformers and our config name it."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def num_hidden_layers(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...


@dataclass(frozen=True)
class Sizes:
    """What there was to compute: the length of every instance, and how many positions were masked."""

    lengths_I: Array
    num_masked: int = 0

    @classmethod
    def of(cls, batch: Any) -> "Sizes":
        """Of a packed batch."""
        masked = batch.get("masked_positions")
        return cls(np.diff(batch["cu_seqlens"].numpy()), 0 if masked is None else len(masked))

    @property
    def num_tokens(self) -> int:
        """Real tokens."""
        return int(self.lengths_I.sum())


def encoder_flops(shape: Shape, lengths_I: Array) -> float:
    """Forward through the layers: 2 L (4 D^2 + 2 D F) T + 4 L D sum n_i^2."""
    hidden, layers = shape.hidden_size, shape.num_hidden_layers
    weights = layers * (4 * hidden**2 + 2 * hidden * shape.intermediate_size)
    lengths_I = lengths_I.astype(np.float64)
    return float(2 * weights * lengths_I.sum() + 4 * layers * hidden * np.square(lengths_I).sum())


def pretraining_flops(shape: Shape, sizes: Sizes, *, vocab_size: int, has_pairs: bool = True) -> float:
    """Forward and backward of masked LM and next sentence prediction, the vocabulary at masked positions only."""
    hidden = shape.hidden_size
    heads = 2 * sizes.num_masked * (hidden**2 + hidden * vocab_size)
    if has_pairs:
        heads += 2 * len(sizes.lengths_I) * (hidden**2 + 2 * hidden)
    return 3 * (encoder_flops(shape, sizes.lengths_I) + heads)


def classification_flops(shape: Shape, sizes: Sizes, *, num_labels: int, trains: bool) -> float:
    """Forward, and backward where it `trains`, of a classifier of whole inputs."""
    hidden = shape.hidden_size
    heads = 2 * len(sizes.lengths_I) * (hidden**2 + hidden * num_labels)
    return (3 if trains else 1) * (encoder_flops(shape, sizes.lengths_I) + heads)


def build_rates(precisions: Sequence[str], shape: Shape, num_tokens: int, *, device: str) -> Worker:
    """A side that measures FLOP/s by precision, the best of a square and of the model's own feed-forward shape."""
    shapes = ((SQUARE, SQUARE, SQUARE), (max(num_tokens, 1), shape.hidden_size, shape.intermediate_size))

    def work(_: int) -> Round:
        started_s = time.perf_counter()
        best = {p: max(_matmul_flops(*each, dtype=DTYPES[p], device=device) for each in shapes) for p in precisions}
        return Round((time.perf_counter() - started_s,), outcome=best)

    return Worker(work, pace_s=work(0).total_s, device=device)


@torch.inference_mode()
def _matmul_flops(rows: int, width: int, outputs: int, *, dtype: torch.dtype, device: str) -> float:
    input_MK = torch.randn(rows, width, device=device).to(dtype)
    weight_NK = torch.randn(outputs, width, device=device).to(dtype)
    linear(input_MK, weight_NK)
    fastest_s, until_s = float("inf"), time.perf_counter() + SECONDS_A_SHAPE
    while fastest_s == float("inf") or time.perf_counter() < until_s:
        synchronize(device)
        started_s = time.perf_counter()
        linear(input_MK, weight_NK)
        synchronize(device)
        fastest_s = min(fastest_s, time.perf_counter() - started_s)
    return 2 * rows * width * outputs / fastest_s


def synchronize(device: str) -> None:
    """Waits until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
