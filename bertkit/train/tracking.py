"""What a run leaves to read: `metrics.jsonl`, one JSON object a line, and accelerate's trackers when asked."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from bertkit.errors import CheckpointError
from bertkit.train.loop import StepReport
from bertkit.train.state import TrainState
from bertkit.whole import written_whole


class MetricsLog:
    """Appends rows to `metrics.jsonl` on the main process; opening it at a step drops the rows behind that step."""

    def __init__(self, path: Path, *, accelerator: Accelerator, from_step: int = 0) -> None:
        self._path = path
        self._accelerator = accelerator
        if accelerator.is_main_process:
            _drop_rows_behind(path, from_step)

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends one row, which has a `step`, and hands its figures to the trackers.

        Raises:
            CheckpointError: the file cannot be written, most often because the disk is full.
        """
        if not self._accelerator.is_main_process:
            return
        with _named(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        figures = {name: value for name, value in row.items() if name != "step" and isinstance(value, int | float)}
        self._accelerator.log(figures, step=int(row["step"]))


class Window:
    """Means over the steps since the last log line, kept on the device until somebody takes them."""

    def __init__(self) -> None:
        self._mark_s = time.monotonic()
        self._begin()

    def add(self, report: StepReport) -> None:
        """Takes in one step, which ended just now."""
        now = time.monotonic()
        self._seconds += now - self._mark_s
        self._mark_s = now
        self._reports += 1
        self._tokens += report.tokens
        self._learning_rate = report.learning_rate
        figures = {f"{name}_loss": value for name, value in report.losses.items()}
        figures |= {f"{name}_accuracy": value for name, value in report.accuracies.items()}
        for name, value in (figures | {"grad_norm": report.grad_norm}).items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()

    def take(self, state: TrainState) -> dict[str, float]:
        """One row of `metrics.jsonl`; waits for the device and begins a new window."""
        seconds = max(self._seconds, 1e-9)
        means = {name: float(value) / self._reports for name, value in self._sums.items()}
        row = {
            "step": state.step,
            "loss": sum(value for name, value in means.items() if name.endswith("_loss")),
            **means,
            "learning_rate": self._learning_rate,
            "tokens_per_s": self._tokens / seconds,
            "tokens": state.tokens,
            "elapsed_s": state.elapsed_s,
        }
        self._begin()
        return row

    def skip_time(self) -> None:
        """Leaves the time since the last step out of the rate: something else than training was done in it."""
        self._mark_s = time.monotonic()

    def _begin(self) -> None:
        self._reports = self._tokens = 0
        self._seconds = 0.0
        self._learning_rate = 0.0
        self._sums: dict[str, Any] = {}


@dataclass(frozen=True)
class ReadLog:
    """The rows of a `metrics.jsonl` that are whole; num_damaged: lines that are not, but for a last one cut short."""

    rows: list[dict[str, Any]]
    num_damaged: int


def read_log(path: Path) -> ReadLog:
    """Every whole row of a `metrics.jsonl`, and how many lines are damaged; a kill may cut the last one short."""
    lines = path.read_bytes().splitlines()
    rows = [_row(line) for line in lines]
    damaged = [number for number, row in enumerate(rows) if row is None and number + 1 < len(lines)]
    return ReadLog([row for row in rows if row is not None], len(damaged))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`, without what is damaged."""
    return read_log(path).rows


def numbers_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a row: what is no number, as an edited log may have it, is left out."""
    return {name: value for name, value in row.items() if isinstance(value, int | float)}


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None


def _drop_rows_behind(path: Path, step: int) -> None:
    """Rows behind the checkpoint a run resumes from will be written again."""
    if not path.exists():
        return
    kept = [row for row in read_metrics(path) if row["step"] <= step]
    with _named(path), written_whole(path) as aside:
        aside.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {error.strerror}; mend that and run it again") from error
