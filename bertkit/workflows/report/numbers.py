"""The numbers behind the pictures: calibration, precision and recall by class, errors by length, thresholds.

Letters: N predictions, B bins, C classes, L lengths.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bertkit.workflows.report.history import Values

Ints = NDArray[np.int64]
CALIBRATION_BINS: Final = 10
LENGTH_BINS: Final = 6


@dataclass(frozen=True)
class Calibration:
    """Bins [B] of equal width that are not empty: mean confidence, share that is right, and how many.

    error: the expected calibration error (Guo et al. 2017): mean distance of the two, weighted by the bins' counts.
    """

    confidence: Values
    accuracy: Values
    count: Ints
    error: float


def calibrate(confidences: Sequence[float] | Values, is_right: Sequence[bool] | Values) -> Calibration | None:
    """How far confidences from 0 to 1 are to be believed; None without any (bins: sklearn's `calibration_curve`)."""
    confidence_N, right_N = np.asarray(confidences, np.float64), np.asarray(is_right, np.float64)
    if not len(confidence_N):
        return None
    inner_edges = np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1]
    bin_N = np.searchsorted(inner_edges, confidence_N)
    count_B = np.bincount(bin_N, minlength=CALIBRATION_BINS)
    filled = count_B > 0
    confidence_B = np.bincount(bin_N, confidence_N, CALIBRATION_BINS)[filled] / count_B[filled]
    accuracy_B = np.bincount(bin_N, right_N, CALIBRATION_BINS)[filled] / count_B[filled]
    distance_B = np.abs(confidence_B - accuracy_B)
    return Calibration(
        confidence_B, accuracy_B, count_B[filled], float((distance_B * count_B[filled]).sum() / len(confidence_N))
    )


@dataclass(frozen=True)
class ClassFigures:
    """Precision, recall and F1 from 0 to 1, 0 where nothing is divided; support: how often the class is right."""

    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


def class_figures(counts_CC: Ints) -> list[ClassFigures]:
    """The figures of every class of a confusion matrix, gold by predicted (scikit-learn's, zero_division=0)."""
    hits_C, gold_C, predicted_C = np.diag(counts_CC), counts_CC.sum(1), counts_CC.sum(0)
    return [
        figures_of(int(hits), int(predicted), int(gold))
        for hits, predicted, gold in zip(hits_C, predicted_C, gold_C, strict=True)
    ]


def figures_of(hits: int, predicted: int, gold: int) -> ClassFigures:
    """The figures of one class from its counts."""
    return ClassFigures(
        hits / predicted if predicted else 0.0,
        hits / gold if gold else 0.0,
        2 * hits / (predicted + gold) if predicted + gold else 0.0,
        gold,
        predicted,
    )


def confusion(gold_N: Sequence[int], predicted_N: Sequence[int], num_classes: int) -> Ints:
    """[C, C] how often the class of a row was taken for that of a column."""
    places = np.asarray(gold_N, np.int64) * num_classes + np.asarray(predicted_N, np.int64)
    counts: Ints = np.bincount(places, minlength=num_classes**2).reshape(num_classes, num_classes)
    return counts


@dataclass(frozen=True)
class LengthBin:
    """Examples of some length: its name, how many there are, and the mean of what was measured."""

    name: str
    count: int
    mean: float


def by_length(lengths: Sequence[int], values: Sequence[float] | Values) -> list[LengthBin]:
    """The mean of values in up to `LENGTH_BINS` bins of lengths with about as many examples each."""
    length_N, value_N = np.asarray(lengths, np.int64), np.asarray(values, np.float64)
    if not len(length_N):
        return []
    # Each edge is the last length of its bin.
    edges = np.unique(np.quantile(length_N, np.linspace(0, 1, LENGTH_BINS + 1)[1:], method="inverted_cdf"))
    bin_N = np.searchsorted(edges, length_N)
    bins = []
    for number in range(len(edges)):
        inside = bin_N == number
        low, high = int(length_N[inside].min()), int(length_N[inside].max())
        name = f"{low}" if low == high else f"{low}\u2013{high}"
        bins.append(LengthBin(name, int(inside.sum()), float(value_N[inside].mean())))
    return bins


@dataclass(frozen=True)
class ThresholdCurve:
    """Over null thresholds: F1 and exact match (0 to 1) of answering where the score difference is not above them."""

    thresholds: Values
    f1: Values
    exact: Values


def null_threshold_curve(
    differences: Sequence[float], f1: Sequence[float], exact: Sequence[float], has_answer: Sequence[bool]
) -> ThresholdCurve:
    """What every threshold on the null score difference would come to; `f1` and `exact` are those of the best spans.

    The first threshold lies below all differences: no question is answered.
    """
    order = np.argsort(np.asarray(differences), kind="stable")
    sorted_N = np.asarray(differences, np.float64)[order]
    no_answer_N = ~np.asarray(has_answer, bool)
    # Equal differences are answered together.
    last = np.flatnonzero(np.append(sorted_N[1:] != sorted_N[:-1], True))
    thresholds = np.append(np.nextafter(sorted_N[0], -np.inf), sorted_N[last])

    def over(figure: Sequence[float]) -> Values:
        gains = np.where(no_answer_N, -1.0, np.asarray(figure, np.float64))[order]
        total: Values = np.append(0.0, np.cumsum(gains)[last]) + no_answer_N.sum()
        return total / len(sorted_N)

    return ThresholdCurve(thresholds, over(f1), over(exact))
