"""Questions about a context: scores by kind and length of question, spans marked in their context, null thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np

from bertkit.tasks.scoring import exact_match, token_f1
from bertkit.workflows.report.blocks import Block, Card, Cell, Line, Mark, Row, Section, Span, Table
from bertkit.workflows.report.charts import Chart, Series
from bertkit.workflows.report.numbers import null_threshold_curve
from bertkit.workflows.report.parts import Worst, calibration_blocks, cards, length_blocks, percent, whole
from bertkit.workflows.report.svg import picture
from bertkit.workflows.scoring import Judged

_KINDS: Final = ("who", "what", "which", "when", "where", "why", "how many", "how much", "how long", "how")
# Characters of the context on either side of what is marked.
_AROUND: Final = 220
_MOST_THRESHOLDS: Final = 300
_BY_ANSWER: Final = ("with an answer", "without an answer")


@dataclass(frozen=True)
class _Scored:
    """What is kept of one question."""

    kind: str
    length: int
    exact: float
    f1: float
    best_exact: float
    best_f1: float
    has_answer: bool
    difference: float
    confidence: float


class AnswerReport:
    """Takes in the predictions of one split, one at a time; keeps numbers, and the texts of the worst."""

    def __init__(self, null_threshold: float | None = None) -> None:
        self._null_threshold = null_threshold
        self._rows: list[_Scored] = []
        self._worst = Worst()
        self._has_texts = True

    def add(self, judged: Judged) -> None:
        """Takes in one prediction."""
        question = judged.texts[0] if judged.texts else ""
        golds = [answer.text for answer in judged.label]
        best_span = judged.details.get("best_span", judged.prediction)
        exact, f1 = _figures(judged.prediction, golds)
        best_exact, best_f1 = _figures(best_span, golds) if golds else (0.0, 0.0)
        row = _Scored(
            kind_of_question(question),
            len(question.split()),
            exact,
            f1,
            best_exact,
            best_f1,
            bool(golds),
            float(judged.details.get("null_score_difference", 0.0)),
            judged.probability or 0.0,
        )
        self._rows.append(row)
        self._has_texts &= bool(judged.texts)
        if f1 < 1:
            self._worst.offer(row.confidence * (1 - f1), judged)

    def sections(self, salt: str) -> list[Section]:
        """All that is to be seen."""
        rows = self._rows
        charts: list[Block] = calibration_blocks([r.confidence for r in rows], [r.exact > 0 for r in rows], salt)
        blocks: list[Block] = []
        if self._has_texts:
            blocks.append(_kind_table(rows))
            charts += length_blocks(
                [row.length for row in rows], [row.f1 for row in rows], salt,
                title="F1 by length of the question", unit="words of the question",
            )  # fmt: skip
        mistakes = [_card(each) for each in self._worst]
        sections = [Section("Questions", [*blocks, Row(charts)])]
        if not all(row.has_answer for row in rows):
            sections.append(Section("Null threshold", [Row([picture(self._threshold_chart(), salt)])]))
        note = "Sorted by how sure the model was of an answer that is off."
        shown = cards("Wrong or partly right answers", mistakes, has_texts=self._has_texts, note=note)
        return [*sections, Section("Answers in their context", shown)]

    def _threshold_chart(self) -> Chart:
        rows = self._rows
        curve = null_threshold_curve(
            [row.difference for row in rows],
            [row.best_f1 for row in rows],
            [row.best_exact for row in rows],
            [row.has_answer for row in rows],
        )
        best = int(curve.f1.argmax())
        # Always among those drawn: the best, and both ends.
        spread = np.linspace(0, len(curve.thresholds) - 1, min(_MOST_THRESHOLDS, len(curve.thresholds))).astype(int)
        drawn = np.unique([*spread, best])
        x = {"threshold": curve.thresholds[drawn]}
        series = [Series("F1", x, curve.f1[drawn], "line", 1), Series("exact match", x, curve.exact[drawn], "line", 2)]
        used = self._null_threshold
        if used is not None:
            at = np.array([used, used])
            series.append(Series("threshold in use", {"threshold": at}, np.array([0.0, 1.0]), "reference", 0))
        note = (
            f"Best F1 {100 * curve.f1[best]:.1f} % at {curve.thresholds[best]:.3f}"
            + ("" if used is None else f"; in use: {used:.3f}")
            + ". Left of all scores every question is left without an answer, right of them each gets one."
            # Whoever took it for a threshold of this curve would answer nearly everything.
            + (" No answer to everything is best, whose threshold the official script calls 0." if best == 0 else "")
        )
        return Chart(
            "threshold", "Scores by null threshold", series,
            {"threshold": "score of no answer less that of the best span"}, form="percent", limits=(0, 1.03), note=note,
        )  # fmt: skip


def kind_of_question(question: str) -> str:
    """The question word it begins with, or the first one in it; "other" without any."""
    words = question.lower().replace("?", " ").split()
    joined = " ".join(words)
    for kind in _KINDS:
        if joined.startswith(f"{kind} "):
            return kind
    single = [kind for kind in _KINDS if " " not in kind]
    return next((word for word in words if word in single), "other")


def _figures(text: str, golds: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 from 0 to 1 against the gold answers; against none, that nothing is said."""
    wanted = golds or [""]
    return max(exact_match(text, gold) for gold in wanted), max(token_f1(text, gold) for gold in wanted)


def _kind_table(rows: Sequence[_Scored]) -> Table:
    found: dict[str, list[_Scored]] = {}
    for row in rows:
        found.setdefault(row.kind, []).append(row)
        found.setdefault(_BY_ANSWER[not row.has_answer], []).append(row)
    if _BY_ANSWER[1] not in found:
        found.pop(_BY_ANSWER[0])
    cells: list[Sequence[Cell]] = [
        (
            kind,
            whole(len(each)),
            percent(float(np.mean([row.exact for row in each]))),
            percent(float(np.mean([row.f1 for row in each])), bar=True),
        )
        for kind, each in sorted(found.items(), key=lambda item: (item[0] not in _BY_ANSWER, -len(item[1])))
    ]
    return Table("Scores by kind of question", ("kind", "questions", "exact match", "F1"), cells)


def _card(judged: Judged) -> Card:
    question, context = (judged.texts[0], judged.texts[1]) if len(judged.texts) > 1 else ("", "")
    golds = list(dict.fromkeys(answer.text for answer in judged.label))
    facts = (
        ("gold", " / ".join(golds) or "no answer"),
        ("predicted", f"{judged.prediction or 'no answer'}, {100 * (judged.probability or 0):.1f} %"),
    )
    lines = [Line("question", [Span(question)]), Line("context", marked_context(judged, context))] if context else []
    return Card(judged.key, lines, facts)


def marked_context(judged: Judged, context: str) -> list[Span]:
    """The part of the context around the first gold answer and the predicted span, each marked."""
    marks = np.zeros(len(context), np.int8)
    ranges: list[tuple[int, int, int]] = []
    if judged.label:
        ranges.append((judged.label[0].start, judged.label[0].start + len(judged.label[0].text), 1))
    if judged.prediction and "start" in judged.details:
        ranges.append((judged.details["start"], judged.details["end"], 2))
    for start, end, bit in ranges:
        marks[max(start, 0) : end] |= bit
    names: list[Mark] = ["", "gold", "predicted", "both"]
    edges = [0, *(np.flatnonzero(np.diff(marks)) + 1).tolist(), len(context)] if context else []
    return _near_marks([(context[a:b], names[marks[a]]) for a, b in pairwise(edges)])


def _near_marks(pieces: Sequence[tuple[str, Any]]) -> list[Span]:
    """The pieces, those without a mark cut to what stands near one."""
    spans = []
    for number, (text, mark) in enumerate(pieces):
        if not mark:
            after_mark, before_mark = number > 0, number + 1 < len(pieces)
            kept = _AROUND * (after_mark + before_mark or 2)
            if len(text) > kept:
                head = text[:_AROUND] if after_mark or not before_mark else ""
                tail = text[-_AROUND:] if before_mark else ""
                text = f"{head} … {tail}" if head and tail else f"{head}…" if head else f"…{tail}"
        spans.append(Span(text, mark))
    return spans
