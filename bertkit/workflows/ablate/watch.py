"""How far a comparison is, for whoever watches."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from bertkit.workflows.watch import TrainingStatus, Unwatched, Watcher

if TYPE_CHECKING:
    from bertkit.workflows.ablate.cells import Outcome
    from bertkit.workflows.ablate.plan import Cell

SECONDS_BETWEEN_REPORTS: Final = 1.0


@dataclass(frozen=True)
class Progress:
    """What a cell is at; `share` of its training that is over and seconds left, where they are known."""

    key: str
    doing: str
    share: float | None = None
    remaining_s: float | None = None


class CellWatch(Unwatched):
    """Tells of one cell, about once a second."""

    def __init__(self, key: str, tell: Callable[[Progress], None]) -> None:
        self._key, self._tell = key, tell
        self._told_s = 0.0
        self._doing = ""

    def begin(self, title: str) -> None:
        self._doing = title
        self._tell(Progress(self._key, title))

    def work(self, description: str, done: int, total: int | None) -> None:
        if self._is_time():
            self._tell(Progress(self._key, description, done / total if total else None))

    def training(self, status: TrainingStatus) -> None:
        if self._is_time():
            doing = f"step {status.step:,}"
            self._tell(Progress(self._key, doing, status.progress, status.remaining_s))

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now - self._told_s < SECONDS_BETWEEN_REPORTS:
            return False
        self._told_s = now
        return True


class AblationWatcher(Watcher, Protocol):
    """Receives the progress of a comparison; as a `Watcher`, of what comes before its cells."""

    def planned(self, left: Sequence["Cell"], *, finished: int, workers: int) -> None:
        """These cells are left, behind so many that had been finished before; so many run at once."""

    def started(self, cell: "Cell") -> None:
        """A cell begins."""

    def progress(self, progress: Progress) -> None:
        """A cell goes on."""

    def ended(self, cell: "Cell", outcome: "Outcome", figure: str) -> None:
        """A cell is over; `figure` is what it came to, empty where that is nothing."""


class UnwatchedAblation(Unwatched):
    """Tells nobody."""

    def planned(self, left: Sequence["Cell"], *, finished: int, workers: int) -> None:
        pass

    def started(self, cell: "Cell") -> None:
        pass

    def progress(self, progress: Progress) -> None:
        pass

    def ended(self, cell: "Cell", outcome: "Outcome", figure: str) -> None:
        pass
