"""What a run logged, as arrays over steps, tokens and time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bertkit.train.tracking import ReadLog, numbers_of, read_log
from bertkit.workflows.runs import RunFolder

Values: TypeAlias = NDArray[np.float64]

# What one chart draws: more points are more bytes and no more to see.
MOST_POINTS: Final = 400
AXES: Final = ("steps", "tokens", "time")


@dataclass(frozen=True)
class Curve:
    """A figure over steps, tokens and seconds, one array an axis."""

    steps: Values
    tokens: Values
    seconds: Values
    values: Values

    def __len__(self) -> int:
        return len(self.values)

    def over(self, axis: str) -> Values:
        """The horizontal values of an axis of `AXES`, in its unit: steps, tokens, seconds."""
        return {"steps": self.steps, "tokens": self.tokens, "time": self.seconds}[axis]


@dataclass(frozen=True)
class History:
    """The rows of `metrics.jsonl`: means over training windows, and evaluations between them.

    num_damaged: lines that could not be read and are left out. is_lost: not one row is left.
    """

    training: Sequence[Mapping[str, Any]]
    evaluations: Sequence[Mapping[str, Any]]
    num_damaged: int = 0
    is_lost: bool = False

    def curve(self, name: str) -> Curve:
        """A figure wherever it was logged, thinned to `MOST_POINTS` means; values that are no numbers are left out."""
        rows = [
            (row["step"], row[name])
            for row in (*self.training, *self.evaluations)
            if isinstance(row.get(name), int | float)
        ]
        pairs = np.array(sorted(rows), np.float64).reshape(-1, 2)
        pairs = _thinned(pairs[np.isfinite(pairs).all(1)])
        return self.curve_of(pairs[:, 0], pairs[:, 1])

    def curve_of(self, steps: Values, values: Values) -> Curve:
        """Values at some steps of the run."""
        return Curve(steps, self._at(steps, "tokens"), self._at(steps, "elapsed_s"), values)

    def last(self, name: str) -> float | None:
        """The last value of a figure; None where it was never logged."""
        curve = self.curve(name)
        return float(curve.values[-1]) if len(curve) else None

    def _at(self, steps: Values, name: str) -> Values:
        """Tokens or seconds at some steps: evaluations do not say them, the windows around them do."""
        known = [(row["step"], row[name]) for row in self.training if isinstance(row.get(name), int | float)]
        if not known:
            return np.full(len(steps), np.nan)
        table = np.array([(0, 0), *sorted(known)], np.float64)
        found: Values = np.interp(steps, table[:, 0], table[:, 1])
        return found


def read_history(run: RunFolder, results: Mapping[str, Any]) -> History:
    """What is in `metrics.jsonl`, and the final scores of pre-training; nothing where there is nothing."""
    log = read_log(run.metrics_file) if run.metrics_file.is_file() else ReadLog([], 0)
    if not log.rows:
        return History([], [], log.num_damaged, is_lost=bool(results) or _is_other_than_cut_short(run))
    rows = list(map(numbers_of, log.rows))
    evaluations = [row for row in rows if "loss" not in row]
    heldout = {f"heldout_{name}": value for name, value in results.get("heldout", {}).items()}
    if heldout and all(row["step"] < results["step"] for row in evaluations):
        evaluations.append({"step": results["step"], **heldout})
    return History([row for row in rows if _is_window(row)], evaluations, log.num_damaged)


def _is_other_than_cut_short(run: RunFolder) -> bool:
    """Whether a log without a whole row holds more than the beginning of the first, which a kill leaves."""
    return run.metrics_file.is_file() and run.metrics_file.read_bytes()[:1] not in (b"", b"{")


def _is_window(row: Mapping[str, Any]) -> bool:
    return all(name in row for name in ("loss", "tokens", "elapsed_s"))


def _thinned(pairs: Values) -> Values:
    """Means over as many neighbours as leave `MOST_POINTS`; the last step stays the last."""
    if len(pairs) <= MOST_POINTS:
        return pairs
    groups = np.array_split(pairs, MOST_POINTS)
    return np.array([(group[-1, 0], group[:, 1].mean()) for group in groups])
