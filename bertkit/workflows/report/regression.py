"""Regression: predictions over gold values, what is left, and the largest errors."""

import numpy as np

from bertkit.workflows.report.blocks import Block, Card, Row, Section
from bertkit.workflows.report.charts import Chart, Series
from bertkit.workflows.report.history import Values
from bertkit.workflows.report.labels import text_lines
from bertkit.workflows.report.parts import Worst, cards, length_blocks
from bertkit.workflows.report.svg import picture
from bertkit.workflows.scoring import Judged

# Points of a scatter plot: more are a bigger file and one cloud.
MOST_DRAWN = 1500
RESIDUAL_BINS = 25


class NumberReport:
    """Takes in the predictions of one split, one at a time; keeps numbers, and the texts of the worst."""

    def __init__(self) -> None:
        self._gold: list[float] = []
        self._predicted: list[float] = []
        self._length: list[int] = []
        self._worst = Worst()
        self._has_texts = True

    def add(self, judged: Judged) -> None:
        """Takes in one prediction."""
        self._gold.append(float(judged.label))
        self._predicted.append(float(judged.prediction))
        self._length.append(sum(map(len, judged.texts)))
        self._has_texts &= bool(judged.texts)
        self._worst.offer(abs(judged.prediction - judged.label), judged)

    def sections(self, salt: str) -> list[Section]:
        """All that is to be seen."""
        gold, predicted = np.array(self._gold), np.array(self._predicted)
        residual = predicted - gold
        charts: list[Block] = [picture(_scatter(gold, predicted), salt), picture(_residuals(residual), salt)]
        if self._has_texts:
            charts += length_blocks(
                self._length,
                np.abs(residual),
                salt,
                title="Mean absolute error by length",
                unit="characters of the text",
                form="plain",
            )
        mistakes = [_card(each) for each in self._worst]
        return [
            Section("Predictions and what is left", [Row(charts)]),
            Section("Largest errors", cards("Mistakes", mistakes, has_texts=self._has_texts)),
        ]


def _scatter(gold: Values, predicted: Values) -> Chart:
    chosen = np.sort(np.random.default_rng(0).permutation(len(gold))[:MOST_DRAWN])
    ends = np.array([min(gold.min(), predicted.min()), max(gold.max(), predicted.max())])
    note = f"{len(chosen):,} of {len(gold):,} examples." if len(chosen) < len(gold) else ""
    return Chart(
        "scatter",
        "Predicted over gold",
        [
            Series("examples", {"gold": gold[chosen]}, predicted[chosen], "scatter", 1),
            Series("predicted equals gold", {"gold": ends}, ends, "reference", 0),
        ],
        {"gold": "gold value"},
        note=note,
    )


def _residuals(residual: Values) -> Chart:
    counts, edges = np.histogram(residual, bins=min(RESIDUAL_BINS, max(5, len(residual) // 5)))
    # Stairs: the height of every bin from its left edge to its right one.
    x, y = np.repeat(edges, 2)[1:-1], np.repeat(counts, 2).astype(float)
    note = (
        f"Mean {residual.mean():+.3f} (the bias), standard deviation {residual.std():.3f}, "
        f"mean absolute error {np.abs(residual).mean():.3f}."
    )
    series = Series("examples", {"residual": x}, y, "line", 1)
    return Chart(
        "residuals",
        "Predicted less gold",
        [series],
        {"residual": "predicted less gold"},
        form="count",
        limits=(0, None),
        note=note,
    )


def _card(judged: Judged) -> Card:
    facts = (
        ("gold", f"{judged.label:g}"),
        ("predicted", f"{judged.prediction:.4g}"),
        ("off by", f"{judged.prediction - judged.label:+.4g}"),
    )
    return Card(judged.key, text_lines(judged.texts), facts)
