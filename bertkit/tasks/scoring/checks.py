"""What every metric asks of its input, and the arithmetic they share."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bertkit.errors import TaskError

# The headline figure comes first; a table of figures is one level deep.
Scores: TypeAlias = dict[str, float | dict[str, dict[str, float]]]
Counts: TypeAlias = NDArray[np.int64]


def check_paired(predictions: Sequence[Any], references: Sequence[Any]) -> None:
    """One prediction for each reference, and at least one.

    Raises:
        TaskError: nothing to score, or one side is longer.
    """
    if len(predictions) != len(references):
        raise TaskError(f"{len(predictions)} predictions for {len(references)} references: score one for each")
    if len(references) == 0:
        raise TaskError("there is nothing to score: no predictions and no references")


def check_names(values: Iterable[Any], what: str) -> None:
    """Labels are names, never ids: an id and its name would silently count as different.

    Raises:
        TaskError: a value that is not text.
    """
    for value in values:
        if not isinstance(value, str):
            raise TaskError(f"{what} hold {value!r}, which is not text: labels are scored by name, never by id")


def ratio(part: float, whole: float) -> float:
    """Part of a whole, 0.0 where there is no whole."""
    return float(part / whole) if whole else 0.0


def precision_recall_f1(correct: float, predicted: float, gold: float) -> dict[str, float]:
    """Precision, recall and F1 of three counts; 0.0 where undefined, as in scikit-learn and conlleval."""
    return {
        "precision": ratio(correct, predicted),
        "recall": ratio(correct, gold),
        "f1": ratio(2 * correct, predicted + gold),
    }
