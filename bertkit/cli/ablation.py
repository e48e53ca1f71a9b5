"""How far a comparison is, for people who look now and then for hours."""

import time
from collections.abc import Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any, Final

from bertkit.cli.console import ConsoleWatcher
from bertkit.workflows.figures import duration

if TYPE_CHECKING:
    from bertkit.workflows.ablate.cells import Outcome
    from bertkit.workflows.ablate.plan import Cell
    from bertkit.workflows.ablate.watch import Progress

# Without a terminal: a line when a cell begins, when it ends, and every so many seconds between.
SECONDS_BETWEEN_LINES: Final = 60.0


class AblationConsole(ConsoleWatcher):
    """A bar for every cell under way and one for all of them; plain lines where there is no terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._total = self._over = 0
        self._workers = 1
        self._left: list[Cell] = []
        self._took: dict[str, list[float]] = {}
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._lines: dict[str, float] = {}

    def planned(self, left: "Sequence[Cell]", *, finished: int, workers: int) -> None:
        """These cells are left, behind so many that had been finished before; so many run at once."""
        self._total, self._over, self._workers = len(left) + finished, finished, workers
        self._left = list(left)
        before = f", {finished:,} of them finished before" if finished else ""
        beside = f", {workers} side by side" if workers > 1 else ""
        self.begin(f"{self._total:,} cells{before}{beside}")
        if self._console.is_terminal and left:
            self._open_bars()

    def started(self, cell: "Cell") -> None:
        """A cell begins."""
        self._lines[cell.key] = time.monotonic()
        if self._bars is not None:
            self._tasks[cell.key] = self._bars.add_task(cell.key, total=1.0)
        else:
            self.note(f"{self._place()} {cell.key} begins")

    def progress(self, progress: "Progress") -> None:
        """A cell goes on."""
        left = "" if progress.remaining_s is None else f", {duration(progress.remaining_s)} left"
        if self._bars is not None:
            self._bars.update(
                self._tasks[progress.key],
                completed=progress.share or 0.0,
                description=f"{progress.key}: {progress.doing}{left}",
            )
        elif time.monotonic() - self._lines[progress.key] >= SECONDS_BETWEEN_LINES:
            self._lines[progress.key] = time.monotonic()
            share = "" if progress.share is None else f" ({progress.share:.0%})"
            self.note(f"{self._place()} {progress.key}: {progress.doing}{share}{left}")

    def ended(self, cell: "Cell", outcome: "Outcome", figure: str) -> None:
        """A cell is over."""
        self._left = [each for each in self._left if each.key != cell.key]
        if outcome.state == "skipped":
            return
        if outcome.state == "finished":
            self._over += 1
            self._took.setdefault(_kind(cell), []).append(outcome.elapsed_s)
        if self._bars is not None:
            self._bars.remove_task(self._tasks.pop(cell.key))
            self._bars.update(self._all, completed=self._over, description=f"all cells{self._time_left()}")
        if outcome.state == "finished":
            told = f"finished in {duration(outcome.elapsed_s)}" + (f": {figure}" if figure else "")
            self.note(f"{self._place()} {cell.key} {told}{self._time_left()}")
        else:
            style = None if outcome.state == "stopped" else "red"
            self.note(f"{self._place()} {cell.key} {outcome.state}: {outcome.reason}", style=style)

    def begin(self, title: str) -> None:
        """A part of the comparison begins."""
        self._close_bars()
        super().begin(title)

    def __exit__(self, *error: Any) -> None:
        self._close_bars()
        super().__exit__(*error)

    def _place(self) -> str:
        return f"[{self._over:,}/{self._total:,}]"

    def _time_left(self) -> str:
        """What the cells to come will take if they take as long as those of their kind took."""
        seconds = [self._expected(cell) for cell in self._left]
        if not seconds or None in seconds:
            return ""
        return f"; about {duration(sum(each for each in seconds if each is not None) / self._workers)} to go"

    def _expected(self, cell: "Cell") -> float | None:
        if took := self._took.get(_kind(cell)):
            return mean(took)
        budget = getattr(cell.config.train, "max_minutes", None)
        return None if budget is None else 60.0 * budget

    def _open_bars(self) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._bars = Progress(
            TaskProgressColumn(), BarColumn(bar_width=20), TextColumn("{task.description}"),
            console=self._console, transient=True,
        )  # fmt: skip
        self._all = self._bars.add_task("all cells", total=self._total, completed=self._over)
        self._bars.start()

    def _close_bars(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._bars = None


def _kind(cell: "Cell") -> str:
    """Cells of one kind take about as long: all models, and the runs of a task."""
    return getattr(cell, "column", "")
