"""How much training there is, how far it has come, and the learning rate there.

A run is measured in optimizer steps or by the clock; phases and schedule see only its progress, 0 to 1.
"""

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

Schedule = Literal["linear", "cosine", "constant"]


@dataclass(frozen=True)
class Budget:
    """The length of a run, exactly one of `max_steps` and `max_seconds`, and the shares of its phases (sum 1)."""

    phase_shares: tuple[float, ...]
    max_steps: int | None = None
    max_seconds: float | None = None

    def progress(self, *, step: int, elapsed_s: float) -> float:
        """How much of the run is over, 0 to 1, after `step` steps and `elapsed_s` seconds of training."""
        if self.max_steps is not None:
            return min(1.0, step / self.max_steps)
        return min(1.0, elapsed_s / (self.max_seconds or math.inf))

    def phase(self, *, step: int, elapsed_s: float) -> int | None:
        """The number of the phase that the next step belongs to; None when the run is over."""
        if self.max_steps is not None:
            return next((i for i, end in enumerate(self.phase_ends(self.max_steps)) if step < end), None)
        progress = self.progress(step=step, elapsed_s=elapsed_s)
        ends = list(accumulate(self.phase_shares))
        return None if progress >= 1 else next((i for i, end in enumerate(ends) if progress < end), len(ends) - 1)

    def phase_ends(self, max_steps: int) -> list[int]:
        """The step at which each phase ends, in whole steps; the last is `max_steps`."""
        ends = [round(end * max_steps) for end in accumulate(self.phase_shares)]
        return [*ends[:-1], max_steps]


@dataclass(frozen=True)
class LearningRate:
    """Linear warm-up to `peak`, then linearly to 0 (Devlin et al. 2019, appendix A.2), along a half cosine, or flat.

    `warmup_steps` is a number of optimizer steps, or below 1 a share of the run.
    """

    peak: float
    warmup_steps: float
    schedule: Schedule = "linear"

    def at(self, budget: Budget, *, step: int, elapsed_s: float) -> float:
        """The learning rate of the update that follows `step` updates and `elapsed_s` seconds."""
        progress = budget.progress(step=step, elapsed_s=elapsed_s)
        warmup_share = self._warmup_share(budget)
        if self.warmup_steps >= 1 and step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        if progress < warmup_share:
            # In a run measured in steps, the update itself counts: the first one already moves.
            reached = progress if budget.max_steps is None else progress + 1 / budget.max_steps
            return self.peak * min(1.0, reached / warmup_share)
        return self.peak * self._decay((progress - warmup_share) / (1 - warmup_share) if warmup_share < 1 else 1.0)

    def _warmup_share(self, budget: Budget) -> float:
        if self.warmup_steps < 1:
            return self.warmup_steps
        return min(1.0, self.warmup_steps / budget.max_steps) if budget.max_steps is not None else 0.0

    def _decay(self, progress: float) -> float:
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress))
        return 1.0 - progress
