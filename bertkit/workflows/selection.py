"""Which checkpoint was the best, when to stop looking for a better one, and whether training came to anything."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
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


def collapse_remedy(model: Mapping[str, Any]) -> str:
    """What to try after a collapse that a run with this `model` section of a config may set."""
    again = "--set train.retry_collapsed=3"
    if model.get("freeze") != "encoder" and model.get("lora") is None:
        return f"try --recipe stable, or {again}"
    # Recipe stable begins a layer anew, which neither a frozen encoder nor adapters would train.
    return f"try a higher or lower optim.learning_rate, more train.epochs, or {again}"


def collapse_reason(
    problem: str,
    judged: Sequence[Judged],
    train: Sequence[Example],
    losses: Sequence[float],
    *,
    class_weights: Mapping[str, float] | None = None,
) -> str | None:
    """Why a run is to be called collapsed, None where it is not (Mosbach et al. 2021; Zhang et al. 2021).

    `losses` are the logged training losses, in order; `class_weights` what they were weighted by, None: all alike.
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
        if any(to_find) and not any(found):
            return "nothing was found in any example"
    if problem == "tagging" and len(tags := set(chain(*given))) == 1 and len(set(chain(*wanted))) > 1:
        return f"every word got the tag {tags.pop()!r}"
    if problem in ("classification", "multi_label") and len(set(wanted)) > 1 and len(set(given)) == 1:
        return f"every example got the label {given[0]!r}"
    if problem in ("classification", "multiple_choice") and len(losses) >= 4:
        last = float(np.mean(losses[-len(losses) // 4 :]))
        if last >= _FLAT * _loss_of_guessing(problem, train, class_weights):
            return "the training loss never fell below what guessing gives"
    return None


def _loss_of_guessing(problem: str, train: Sequence[Example], class_weights: Mapping[str, float] | None) -> float:
    """The loss of whoever knows the labels' frequencies, weighted as in training, or how many choices there are."""
    if problem == "multiple_choice":
        return float(np.mean([math.log(len(example.texts) - 1) for example in train]))
    counts = Counter(example.label for example in train)
    weighted = np.array([count * (class_weights or {}).get(str(label), 1.0) for label, count in counts.items()])
    return float(-(weighted / weighted.sum() * np.log(weighted / weighted.sum())).sum())
