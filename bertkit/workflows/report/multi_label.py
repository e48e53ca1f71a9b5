"""Many labels a row: figures by label, confidence over all decisions, and the rows that are furthest off."""

from collections.abc import Sequence

import numpy as np

from bertkit.workflows.report.blocks import Block, Card, Row, Section
from bertkit.workflows.report.labels import text_lines
from bertkit.workflows.report.numbers import figures_of
from bertkit.workflows.report.parts import Worst, calibration_blocks, cards, class_table, length_blocks
from bertkit.workflows.scoring import Judged


class MultiLabelReport:
    """Takes in the predictions of one split, one at a time; keeps numbers, and the texts of the worst."""

    def __init__(self, labels: Sequence[str] = (), thresholds: Sequence[float] | None = None) -> None:
        self._labels = dict.fromkeys(labels)
        self._thresholds = dict(zip(labels, thresholds or (), strict=False))
        self._gold: list[frozenset[str]] = []
        self._predicted: list[frozenset[str]] = []
        self._probabilities: list[list[float]] = []
        self._length: list[int] = []
        self._worst = Worst()
        self._has_texts = True

    def add(self, judged: Judged) -> None:
        """Takes in one prediction."""
        gold, predicted = frozenset(judged.label), frozenset(judged.prediction)
        probabilities = judged.details["probabilities"]
        self._labels |= dict.fromkeys((*probabilities, *sorted(gold | predicted)))
        self._gold.append(gold)
        self._predicted.append(predicted)
        self._probabilities.append([probabilities.get(name, 0.0) for name in self._labels])
        self._length.append(sum(map(len, judged.texts)))
        self._has_texts &= bool(judged.texts)
        if gold != predicted:
            self._worst.offer(_distance(gold, predicted, probabilities), judged)

    def sections(self, salt: str) -> list[Section]:
        """All that is to be seen."""
        names = list(self._labels)
        has = np.array([[name in gold for name in names] for gold in self._gold])
        given = np.array([[name in predicted for name in names] for predicted in self._predicted])
        figures = [
            figures_of(int((has[:, c] & given[:, c]).sum()), int(given[:, c].sum()), int(has[:, c].sum()))
            for c in range(len(names))
        ]
        width = len(names)
        probabilities = np.array([row + [0.0] * (width - len(row)) for row in self._probabilities])
        wrong = (has != given).any(1)
        charts: list[Block] = calibration_blocks(probabilities.ravel(), has.ravel(), salt, what="probabilities")
        if self._has_texts:
            charts += length_blocks(
                self._length, wrong, salt, title="Rows not wholly right by length", unit="characters of the text"
            )
        mistakes = [_card(each) for each in self._worst]
        note = ", ".join(f"{name} from {100 * least:.1f} %" for name, least in self._thresholds.items())
        return [
            Section(
                "Labels",
                [class_table("Figures by label", names, figures, what="label", note=note and f"Thresholds: {note}.")],
            ),
            Section("Confidence and length", [Row(charts)]),
            Section("Rows that are furthest off", cards("Mistakes", mistakes, has_texts=self._has_texts)),
        ]


def _distance(gold: frozenset[str], predicted: frozenset[str], probabilities: dict[str, float]) -> float:
    """How far the probability of the label that is most wrong is from the truth."""
    return max(abs((name in gold) - probabilities.get(name, 0.0)) for name in gold ^ predicted)


def _card(judged: Judged) -> Card:
    def listed(names: Sequence[str]) -> str:
        shares = judged.details["probabilities"]
        return ", ".join(f"{name} ({100 * shares.get(name, 0.0):.0f} %)" for name in names) or "none"

    facts = (("gold", listed(judged.label)), ("predicted", listed(judged.prediction)))
    return Card(judged.key, text_lines(judged.texts), facts)
