"""Which checkpoint was the best, when to stop looking for a better one, and whether training came to anything."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bertkit.tasks.spec import Example
from bertkit.workflows.scoring import Judged

# A loss of training above this share of the labels' own entropy has learned nothing.
_FLAT = 0.98
_NO_ANSWER: dict[str, Any] = {"tagging": "O", "multi_label": (), "span_qa": ""}


class Selection:
    """The best evaluation so far; figures are higher when better, and of equal ones the earlier is kept."""

    def __init__(self, figure: str, *, patience: int | None = None) -> None:
        self.figure = figure
        self.best_step: int | None = None
        self.best_value = -math.inf
        self._patience = patience
        self._since_best = 0

    def add(self, step: int, value: float) -> None:
        """Takes in one evaluation."""
        value = -math.inf if math.isnan(value) else value
        if self.best_step is None or value > self.best_value:
            self.best_step, self.best_value, self._since_best = step, value, 0
        else:
            self._since_best += 1

    def add_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Takes in the evaluations of a run that goes on, from its metrics.jsonl."""
        for row in rows:
            if self.figure in row:
                self.add(int(row["step"]), float(row[self.figure]))

    @property
    def is_over(self) -> bool:
        """Whether as many evaluations as patience lasts brought nothing better."""
        return self._patience is not None and self._since_best >= self._patience


def collapse_reason(
    problem: str, judged: Sequence[Judged], train: Sequence[Example], losses: Sequence[float]
) -> str | None:
    """Why a run is to be called collapsed, None where it is not (Mosbach et al. 2021; Zhang et al. 2021).

    `losses` are the logged training losses, in order.
    """
    given = [each.prediction for each in judged]
    wanted = [each.label for each in judged]
    if problem == "regression":
        if np.std([float(value) for value in given]) < 1e-3 * np.std([float(value) for value in wanted]):
            return "every example got about the same number"
        return None
    if problem in _NO_ANSWER:
        nothing = _NO_ANSWER[problem]
        found = [v != nothing if problem != "tagging" else any(tag != nothing for tag in v) for v in given]
        to_find = [v not in (nothing, ()) if problem != "tagging" else any(t != nothing for t in v) for v in wanted]
        return "nothing was found in any example" if any(to_find) and not any(found) else None
    if problem == "classification" and len(given) > 1 and len(set(wanted)) > 1 and len(set(given)) == 1:
        return f"every example got the label {given[0]!r}"
    if problem == "classification" and len(losses) >= 4:
        last = float(np.mean(losses[-len(losses) // 4 :]))
        if last >= _FLAT * _entropy(train):
            return "the training loss never fell below what label frequencies alone give"
    return None


def _entropy(examples: Sequence[Example]) -> float:
    counts = np.array(list(Counter(example.label for example in examples).values()))
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())
