"""Accuracy, F1 and Matthews' correlation of label names; each agrees with scikit-learn (zero_division=0)."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from bertkit.errors import TaskError, nearest
from bertkit.tasks.scoring.checks import (
    Scores,
    check_names,
    check_paired,
    precision_recall_f1,
    ratio,
)


def accuracy(predictions: Sequence[str], references: Sequence[str]) -> Scores:
    """The share of examples whose label is predicted (scikit-learn's `accuracy_score`).

    Raises:
        TaskError: unequal lengths, nothing to score, or a label that is not text.
    """
    _check_labels(predictions, references)
    return {"accuracy": ratio(_num_equal(predictions, references), len(references))}


def f1(predictions: Sequence[str], references: Sequence[str], *, positive: str | None = None) -> Scores:
    """F1, precision and recall of one label (scikit-learn's `f1_score` with `pos_label`).

    Raises:
        TaskError: no positive label named or a name that never occurs, or input that cannot be scored.
    """
    _check_labels(predictions, references)
    labels = {*predictions, *references}
    if positive is None:
        raise TaskError(f"f1 is the figure of one label: name it with positive=, one of {_list(labels)}")
    if positive not in labels and len(labels) > 1:
        raise TaskError(
            f"positive label '{positive}' never occurs{nearest(positive, labels)}; there are {_list(labels)}"
        )
    table = _per_label(predictions, references)
    figures = table.get(positive, precision_recall_f1(0, 0, 0))
    return {name: figures[name] for name in ("f1", "precision", "recall")}


def macro_f1(predictions: Sequence[str], references: Sequence[str]) -> Scores:
    """The mean F1 of the labels that are predicted or referred to (scikit-learn's `average="macro"`), and their table.

    Raises:
        TaskError: unequal lengths, nothing to score, or a label that is not text.
    """
    _check_labels(predictions, references)
    table = _per_label(predictions, references)
    return {"macro_f1": _mean_f1(table), "per_label": table}


def matthews(predictions: Sequence[str], references: Sequence[str]) -> Scores:
    """Matthews' correlation of any number of classes, 0.0 if one side is constant (`matthews_corrcoef`, sklearn).

    Raises:
        TaskError: unequal lengths, nothing to score, or a label that is not text.
    """
    _check_labels(predictions, references)
    # Python integers: the products of counts outgrow 64 bits on large sets.
    num_examples, correct = len(references), _num_equal(predictions, references)
    predicted, gold = Counter(predictions), Counter(references)
    covariance = correct * num_examples - sum(count * gold[label] for label, count in predicted.items())
    predicted_variance = num_examples**2 - sum(count**2 for count in predicted.values())
    gold_variance = num_examples**2 - sum(count**2 for count in gold.values())
    return {"matthews": ratio(covariance, math.sqrt(predicted_variance * gold_variance))}


def multi_label(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> Scores:
    """Micro and macro F1 over all labels, and the share of examples whose whole set is right (as scikit-learn).

    Raises:
        TaskError: unequal lengths, nothing to score, or an example that is not a list of names.
    """
    check_paired(predictions, references)
    predicted_sets = [_label_set(labels, "predictions") for labels in predictions]
    gold_sets = [_label_set(labels, "references") for labels in references]
    pairs = list(zip(predicted_sets, gold_sets, strict=True))
    correct = Counter(label for guess, gold in pairs for label in guess & gold)
    predicted = Counter(label for guess in predicted_sets for label in guess)
    gold = Counter(label for labels in gold_sets for label in labels)
    table = _table(correct, predicted, gold)
    return {
        "micro_f1": precision_recall_f1(correct.total(), predicted.total(), gold.total())["f1"],
        "macro_f1": _mean_f1(table),
        "exact_match": ratio(sum(guess == gold for guess, gold in pairs), len(pairs)),
        "per_label": table,
    }


def confusion_matrix(predictions: Sequence[str], references: Sequence[str], labels: Sequence[str]) -> list[list[int]]:
    """How often the gold label of a row was predicted as that of a column (scikit-learn's `confusion_matrix`).

    Raises:
        TaskError: a label outside `labels`, unequal lengths, or nothing to score.
    """
    _check_labels(predictions, references)
    place = {label: index for index, label in enumerate(labels)}
    unknown = sorted({*predictions, *references} - set(place))
    if unknown:
        raise TaskError(f"label '{unknown[0]}' is not one of {_list(labels)}{nearest(unknown[0], labels)}")
    rows = np.fromiter((place[label] for label in references), np.int64, len(references))
    columns = np.fromiter((place[label] for label in predictions), np.int64, len(predictions))
    counts: list[list[int]] = (
        np.bincount(rows * len(labels) + columns, minlength=len(labels) ** 2).reshape(len(labels), -1).tolist()
    )
    return counts


def _check_labels(predictions: Sequence[str], references: Sequence[str]) -> None:
    check_paired(predictions, references)
    check_names(predictions, "predictions")
    check_names(references, "references")


def _label_set(labels: Sequence[str], what: str) -> set[str]:
    if isinstance(labels, str):
        raise TaskError(f"{what} hold the text {labels!r} where a list of label names belongs")
    check_names(labels, what)
    return set(labels)


def _num_equal(predictions: Sequence[str], references: Sequence[str]) -> int:
    return sum(guess == gold for guess, gold in zip(predictions, references, strict=True))


def _per_label(predictions: Sequence[str], references: Sequence[str]) -> dict[str, dict[str, float]]:
    correct = Counter(guess for guess, gold in zip(predictions, references, strict=True) if guess == gold)
    return _table(correct, Counter(predictions), Counter(references))


def _table(correct: Counter[str], predicted: Counter[str], gold: Counter[str]) -> dict[str, dict[str, float]]:
    return {
        label: {**precision_recall_f1(correct[label], predicted[label], gold[label]), "support": gold[label]}
        for label in sorted({*predicted, *gold})
    }


def _mean_f1(table: dict[str, dict[str, float]]) -> float:
    return ratio(math.fsum(figures["f1"] for figures in table.values()), len(table))


def _list(labels: Sequence[str] | set[str]) -> str:
    names = sorted(labels)
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
