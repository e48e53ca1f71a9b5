"""What a long workflow tells whoever watches; the command line draws it, a library caller may ignore it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class TrainingStatus:
    """Where training stands after a step; `numbers` are means since the last logged step, empty in between.

    `pairs` is what to call the figures of pairs, which are `nsp_...` in `numbers` whatever is learned of them.
    """

    step: int
    progress: float
    elapsed_s: float
    phase: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    pairs: str = "nsp"

    @property
    def remaining_s(self) -> float | None:
        """Seconds to go at the pace so far."""
        return self.elapsed_s * (1 / self.progress - 1) if self.progress > 0 else None


class Watcher(Protocol):
    """Receives the progress of a workflow."""

    def begin(self, title: str) -> None:
        """A part of the workflow begins."""

    def work(self, description: str, done: int, total: int | None) -> None:
        """`done` of `total` pieces of work are over; total None where it is not known."""

    def training(self, status: TrainingStatus) -> None:
        """One optimizer step is over."""


class Unwatched:
    """Tells nobody."""

    def begin(self, title: str) -> None:
        pass

    def work(self, description: str, done: int, total: int | None) -> None:
        pass

    def training(self, status: TrainingStatus) -> None:
        pass
