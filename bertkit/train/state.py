"""Everything that training changes: what a checkpoint must hold and nothing else."""

from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer


@dataclass
class TrainState:
    """The model, its optimizer and how far they have come; `position` is the data loader's, opaque here.

    Dropout is a pure function of (`seed`, `step`, process), so no random state needs saving.
    """

    model: nn.Module
    optimizer: Optimizer
    seed: int = 0
    step: int = 0
    phase: int = 0
    position: Any = None
    tokens: int = 0
    instances: int = 0
    elapsed_s: float = 0.0

    def advance(self, position: Any, *, tokens: int, instances: int) -> None:
        """Counts one optimizer step over so many tokens and instances, behind which the data goes on at `position`."""
        self.step, self.position = self.step + 1, position
        self.tokens, self.instances = self.tokens + tokens, self.instances + instances
