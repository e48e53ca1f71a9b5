"""Correlations and squared error of real numbers; each agrees with scipy where scipy has a value."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bertkit.errors import TaskError
from bertkit.tasks.scoring.checks import Scores, check_paired


def pearson(predictions: Sequence[float], references: Sequence[float]) -> Scores:
    """Pearson's r (scipy's `pearsonr`), and 0.0 where scipy has nan: a constant prediction is correlated with nothing.

    Raises:
        TaskError: unequal lengths, nothing to score, or a value that is not a finite number.
    """
    return {"pearson": _correlation(*_numbers(predictions, references))}


def spearman(predictions: Sequence[float], references: Sequence[float]) -> Scores:
    """Spearman's rho, ties sharing their mean rank (scipy's `spearmanr`), and 0.0 where one side is constant.

    Raises:
        TaskError: unequal lengths, nothing to score, or a value that is not a finite number.
    """
    predicted, gold = _numbers(predictions, references)
    return {"spearman": _correlation(_mean_ranks(predicted), _mean_ranks(gold))}


def mse(predictions: Sequence[float], references: Sequence[float]) -> Scores:
    """The mean squared error (scikit-learn's `mean_squared_error`): lower is better, 0.0 is perfect.

    Raises:
        TaskError: unequal lengths, nothing to score, or a value that is not a finite number.
    """
    predicted, gold = _numbers(predictions, references)
    return {"mse": float(np.mean((predicted - gold) ** 2))}


def _numbers(
    predictions: Sequence[float], references: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    check_paired(predictions, references)
    return _column(predictions, "predictions"), _column(references, "references")


def _column(values: Sequence[float], what: str) -> NDArray[np.float64]:
    try:
        column = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TaskError(f"{what} hold something that is not a number: {error}") from error
    if column.ndim != 1:
        raise TaskError(f"{what} have shape {column.shape}: give one number for each example")
    if not np.isfinite(column).all():
        row = int(np.flatnonzero(~np.isfinite(column))[0])
        raise TaskError(f"{what} hold {column[row]} at example {row + 1}: give finite numbers")
    return column


def _correlation(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    # Compared, not subtracted: the mean of equal numbers may differ from them in the last bit.
    if (left == left[0]).all() or (right == right[0]).all():
        return 0.0
    return float(np.clip(_unit(left) @ _unit(right), -1.0, 1.0))


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = values - values.mean()
    # Scaled first: squares of very small or very large numbers leave the range of floats.
    centred /= np.abs(centred).max()
    unit: NDArray[np.float64] = centred / np.linalg.norm(centred)
    return unit


def _mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return mean_ranks
