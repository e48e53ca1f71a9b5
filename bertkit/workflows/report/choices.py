"""Multiple choice: which places are chosen, confidence, length, and the choices of what went wrong."""

import numpy as np

from bertkit.workflows.report.blocks import Block, Card, Line, Mark, Row, Section, Span
from bertkit.workflows.report.numbers import confusion
from bertkit.workflows.report.parts import Worst, calibration_blocks, cards, confusion_blocks, length_blocks, shortened
from bertkit.workflows.scoring import Judged


class ChoiceReport:
    """Takes in the predictions of one split, one at a time; keeps numbers, and the texts of the worst."""

    def __init__(self) -> None:
        self._gold: list[int] = []
        self._predicted: list[int] = []
        self._confidence: list[float] = []
        self._length: list[int] = []
        self._worst = Worst()
        self._has_texts = True

    def add(self, judged: Judged) -> None:
        """Takes in one prediction."""
        self._gold.append(int(judged.label))
        self._predicted.append(int(judged.prediction))
        self._confidence.append(judged.probability or 0.0)
        self._length.append(sum(map(len, judged.texts)))
        self._has_texts &= bool(judged.texts)
        if judged.prediction != judged.label:
            self._worst.offer(judged.probability or 0.0, judged)

    def sections(self, salt: str) -> list[Section]:
        """All that is to be seen."""
        size = max((*self._gold, *self._predicted)) + 1
        names = [f"choice {number + 1}" for number in range(size)]
        counts = confusion(self._gold, self._predicted, size)
        right = np.equal(self._gold, self._predicted)
        charts: list[Block] = calibration_blocks(self._confidence, right, salt)
        if self._has_texts:
            charts += length_blocks(
                self._length, ~right, salt, title="Error rate by length", unit="characters of context and choices"
            )
        mistakes = [_card(each) for each in self._worst]
        return [
            Section("Places of the choices", confusion_blocks(names, counts, what="place")),
            Section("Confidence and length", [Row(charts)]),
            Section("Most confident mistakes", cards("Mistakes", mistakes, has_texts=self._has_texts)),
        ]


def _card(judged: Judged) -> Card:
    shares = judged.details.get("probabilities", [])
    lines = [Line("context", [Span(shortened(judged.texts[0]))])] if judged.texts else []
    for place, text in enumerate(judged.texts[1:]):
        mark: Mark = "gold" if place == judged.label else "predicted" if place == judged.prediction else ""
        share = f", {100 * shares[place]:.1f} %" if place < len(shares) else ""
        lines.append(Line(f"choice {place + 1}{share}", [Span(shortened(text), mark, mark)]))
    facts = (
        ("gold", f"choice {judged.label + 1}"),
        ("predicted", f"choice {judged.prediction + 1}, {100 * (judged.probability or 0):.1f} %"),
    )
    return Card(judged.key, lines, facts)
