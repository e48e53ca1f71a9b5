"""Blocks that several kinds of problem have: calibration, errors by length, tables of classes, the worst mistakes."""

import heapq
from collections.abc import Sequence
from itertools import count
from typing import Any, Final

import numpy as np

from bertkit.workflows.report.blocks import Block, Card, Cards, Cell, Matrix, Note, Number, Row, Table
from bertkit.workflows.report.charts import Chart, Form, Series
from bertkit.workflows.report.history import Values
from bertkit.workflows.report.numbers import ClassFigures, Ints, LengthBin, by_length, calibrate
from bertkit.workflows.report.svg import picture

MOST_CARDS: Final = 40
_MOST_CHARS: Final = 1200
_LARGEST_MATRIX: Final = 150
_PAIRS: Final = 40
NO_TEXTS: Final = Note(
    "predictions.jsonl holds no texts: an earlier bertkit wrote it. Another run of bertkit finetune writes them.",
    "warning",
)


class Worst:
    """The examples of highest priority, as many as a page has room for, however many are offered."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Any]] = []
        self._order = count()

    def offer(self, priority: float, example: Any) -> None:
        """Keeps the example if it is among the highest so far."""
        # Of equals the first stays.
        entry = (priority, -next(self._order), example)
        if len(self._heap) < MOST_CARDS:
            heapq.heappush(self._heap, entry)
        elif entry > self._heap[0]:
            heapq.heapreplace(self._heap, entry)

    def __iter__(self) -> Any:
        return (example for _, _, example in sorted(self._heap, key=lambda entry: entry[:2], reverse=True))

    def __len__(self) -> int:
        return len(self._heap)


def shortened(text: str, most: int = _MOST_CHARS) -> str:
    """The text, or its beginning with an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def percent(share: float, *, bar: bool = False) -> Number:
    """A share as a cell, with a bar behind it where asked for."""
    return Number(f"{100 * share:.1f} %", share, share if bar else None)


def whole(number: int) -> Number:
    """A count as a cell."""
    return Number(f"{number:,}", number)


def cards(title: str, worst: Sequence[Card], *, has_texts: bool, note: str = "") -> list[Block]:
    """The cards of mistakes, and a line that says so where there are none or their texts are missing."""
    if not worst:
        return [Note("There is no mistake to show.", "good")]
    return [*([] if has_texts else [NO_TEXTS]), Cards(title, worst, note)]


def calibration_blocks(confidences: Any, is_right: Any, salt: str, *, what: str = "predictions") -> list[Block]:
    """The reliability diagram with the expected calibration error."""
    found = calibrate(confidences, is_right)
    if found is None:
        return []
    diagonal = np.array([0.0, 1.0])
    chart = Chart(
        "calibration",
        f"Calibration of {what}",
        [
            Series("perfectly calibrated", {"confidence": diagonal}, diagonal, "reference", 0),
            Series("share that is right", {"confidence": found.confidence}, found.accuracy, "points", 1),
        ],
        {"confidence": "confidence, mean of a tenth"},
        form="percent",
        x_form="percent",
        limits=(0, 1.03),
        note=_calibration_note(found.error, float(np.mean(confidences)), float(np.mean(is_right))),
    )
    return [picture(chart, salt)]


def _calibration_note(error: float, confidence: float, accuracy: float) -> str:
    leaning = "as sure as it is right"
    if abs(confidence - accuracy) >= 0.02:
        leaning = "surer than it is right" if confidence > accuracy else "less sure than it is right"
    return (
        f"Expected calibration error {100 * error:.1f} % (ten bins). On the whole the model is {leaning}: "
        f"{100 * confidence:.1f} % sure, {100 * accuracy:.1f} % right."
    )


def length_blocks(
    lengths: Sequence[int],
    errors: Sequence[float] | Values,
    salt: str,
    *,
    title: str,
    unit: str,
    form: Form = "percent",
) -> list[Block]:
    """The mean error by length, a bar a bin."""
    bins = by_length(lengths, errors)
    if len(bins) < 2:
        return []
    return [picture(_length_chart(bins, title, unit, form), salt)]


def _length_chart(bins: Sequence[LengthBin], title: str, unit: str, form: Form) -> Chart:
    counts = ", ".join(f"{each.count:,}" for each in bins)
    return Chart(
        f"by-length-{unit.split()[0]}",
        title,
        [
            Series(
                title.lower(), {"length": np.arange(len(bins), dtype=float)}, np.array([b.mean for b in bins]), "bars"
            )
        ],
        {"length": unit},
        form=form,
        limits=(0, None),
        note=f"Examples in each bin: {counts}.",
        x_ticks=[each.name for each in bins],
    )


def class_table(
    title: str, names: Sequence[str], figures: Sequence[ClassFigures], *, what: str = "class", note: str = ""
) -> Table:
    """Precision, recall, F1 and support, the hardest class first."""
    rows: list[Sequence[Cell]] = [
        (
            name,
            percent(each.precision),
            percent(each.recall),
            percent(each.f1, bar=True),
            whole(each.support),
            whole(each.predicted),
        )
        for name, each in sorted(zip(names, figures, strict=True), key=lambda pair: (pair[1].f1, -pair[1].support))
    ]
    return Table(title, (what, "precision", "recall", "F1", "support", "predicted"), rows, note, shown=20)


def confusion_blocks(names: Sequence[str], counts_CC: Ints, *, what: str = "label") -> list[Block]:
    """The matrix, if a page has room for it, and the pairs that are most often taken for each other."""
    blocks: list[Block] = []
    if len(names) <= _LARGEST_MATRIX:
        blocks.append(
            Matrix("Confusion matrix", names, counts_CC.tolist(), f"Rows: gold {what}. Columns: predicted {what}.")
        )
    off = counts_CC.copy()
    np.fill_diagonal(off, 0)
    gold, predicted = np.unravel_index(np.argsort(-off, axis=None, kind="stable")[:_PAIRS], off.shape)
    rows: list[Sequence[Cell]] = [
        (names[g], names[p], whole(int(off[g, p])), percent(off[g, p] / max(counts_CC[g].sum(), 1), bar=True))
        for g, p in zip(gold.tolist(), predicted.tolist(), strict=True)
        if off[g, p]
    ]
    if rows and len(names) > 2:
        header = (f"gold {what}", f"predicted {what}", "examples", "share of gold")
        blocks.append(Table("Most confused pairs", header, rows, shown=10))
    return [Row(blocks)] if len(names) <= 6 and len(blocks) > 1 else blocks
