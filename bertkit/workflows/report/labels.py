"""Classification: confusion, classes, confidence, length, and the most confident mistakes."""

from collections.abc import Sequence

import numpy as np

from bertkit.workflows.report.blocks import Block, Card, Line, Row, Section, Span
from bertkit.workflows.report.numbers import Ints, class_figures, confusion
from bertkit.workflows.report.parts import (
    Worst,
    calibration_blocks,
    cards,
    class_table,
    confusion_blocks,
    length_blocks,
    shortened,
)
from bertkit.workflows.scoring import Judged

TEXT_NAMES = {1: ("text",), 2: ("first text", "second text")}


class LabelReport:
    """Takes in the predictions of one split, one at a time; keeps numbers, and the texts of the worst."""

    def __init__(self, labels: Sequence[str] = ()) -> None:
        self._has_order = bool(labels)
        self._ids = {name: number for number, name in enumerate(labels)}
        self._gold: list[int] = []
        self._predicted: list[int] = []
        self._confidence: list[float] = []
        self._length: list[int] = []
        self._worst = Worst()
        self._has_texts = True

    def add(self, judged: Judged) -> None:
        """Takes in one prediction."""
        self._gold.append(self._id(judged.label))
        self._predicted.append(self._id(judged.prediction))
        self._confidence.append(judged.probability or 0.0)
        self._length.append(sum(map(len, judged.texts)))
        self._has_texts &= bool(judged.texts)
        if judged.prediction != judged.label:
            self._worst.offer(judged.probability or 0.0, judged)

    def sections(self, salt: str) -> list[Section]:
        """All that is to be seen."""
        names, counts = self._confusion()
        right = np.equal(self._gold, self._predicted)
        charts: list[Block] = calibration_blocks(self._confidence, right, salt)
        if self._has_texts:
            charts += length_blocks(
                self._length, ~right, salt, title="Error rate by length", unit="characters of the text"
            )
        return [
            Section("Classes", [class_table("Figures by class", names, class_figures(counts))]),
            Section("Confusion", confusion_blocks(names, counts)),
            Section("Confidence and length", [Row(charts)]),
            Section(
                "Most confident mistakes",
                cards("Mistakes", [_card(each) for each in self._worst], has_texts=self._has_texts),
            ),
        ]

    def _confusion(self) -> tuple[list[str], Ints]:
        """The labels in the task's own order, or in that of the alphabet, and the counts in it."""
        names = list(self._ids)
        counts = confusion(self._gold, self._predicted, len(names))
        if self._has_order:
            return names, counts
        order = sorted(range(len(names)), key=lambda number: names[number])
        return [names[number] for number in order], counts[np.ix_(order, order)]

    def _id(self, label: object) -> int:
        return self._ids.setdefault(str(label), len(self._ids))


def text_lines(texts: Sequence[str]) -> list[Line]:
    """The texts of an example, named."""
    names = TEXT_NAMES.get(len(texts), tuple(f"text {number}" for number in range(1, len(texts) + 1)))
    return [Line(name, [Span(shortened(text))]) for name, text in zip(names, texts, strict=True)]


def _card(judged: Judged) -> Card:
    gold_probability = judged.details.get("probabilities", {}).get(str(judged.label))
    gold = str(judged.label) + (f", {100 * gold_probability:.1f} %" if gold_probability is not None else "")
    predicted = f"{judged.prediction}, {100 * (judged.probability or 0):.1f} %"
    return Card(judged.key, text_lines(judged.texts), (("gold", gold), ("predicted", predicted)))
