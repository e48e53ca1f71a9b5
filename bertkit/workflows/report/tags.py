"""Tagging: figures by type, which types are taken for which, confidence, and sentences whose entities are wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertkit.errors import TaskError
from bertkit.tasks.scoring import score
from bertkit.tasks.scoring.chunks import has_chunk_tags, lenient_chunks, read_tags
from bertkit.workflows.report.blocks import Block, Card, Cell, Line, Mark, Row, Section, Span, Table
from bertkit.workflows.report.numbers import class_figures, confusion
from bertkit.workflows.report.parts import (
    Worst,
    calibration_blocks,
    cards,
    class_table,
    confusion_blocks,
    length_blocks,
    percent,
    whole,
)
from bertkit.workflows.scoring import Judged

_MOST_WORDS = 150


class TagReport:
    """Takes in the predictions of one split, one at a time; keeps tags and numbers, and the words of the worst."""

    def __init__(self) -> None:
        self._gold: list[tuple[str, ...]] = []
        self._predicted: list[tuple[str, ...]] = []
        self._confidence: list[float] = []
        self._worst = Worst()
        self._has_texts = True

    def add(self, judged: Judged) -> None:
        """Takes in one prediction."""
        gold, predicted = tuple(judged.label), tuple(judged.prediction)
        confidence = judged.details.get("probabilities", [])
        self._gold.append(gold)
        self._predicted.append(predicted)
        self._confidence += confidence
        self._has_texts &= bool(judged.texts) or not gold
        wrong = [sure for sure, g, p in zip(confidence, gold, predicted, strict=True) if g != p]
        if wrong:
            self._worst.offer(max(wrong), judged)

    def sections(self, salt: str) -> list[Section]:
        """All that is to be seen."""
        is_chunks = has_chunk_tags([*self._gold, *self._predicted])
        kinds_gold = [_kind(tag, is_chunks) for tags in self._gold for tag in tags]
        kinds_predicted = [_kind(tag, is_chunks) for tags in self._predicted for tag in tags]
        names = sorted({*kinds_gold, *kinds_predicted}, key=lambda name: (name == "O", name))
        ids = {name: number for number, name in enumerate(names)}
        counts = confusion([ids[k] for k in kinds_gold], [ids[k] for k in kinds_predicted], len(names))
        right = np.equal(
            np.array([tag for tags in self._gold for tag in tags], object),
            np.array([tag for tags in self._predicted for tag in tags], object),
        )
        charts: list[Block] = calibration_blocks(self._confidence, right, salt, what="words' tags")
        errors = [_error_rate(g, p) for g, p in zip(self._gold, self._predicted, strict=True) if g]
        lengths = [len(gold) for gold in self._gold if gold]
        charts += length_blocks(lengths, errors, salt, title="Wrong tags by length", unit="words of the sentence")
        title = "Entities" if is_chunks else "Tags"
        table = (
            self._entity_table()
            if is_chunks
            else class_table("Figures by tag", names, class_figures(counts), what="tag")
        )
        mistakes = [_card(each, is_chunks) for each in self._worst]
        return [
            Section(title, [table]),
            Section("Confusion of words", confusion_blocks(names, counts, what="type" if is_chunks else "tag")),
            Section("Confidence and length", [Row(charts)]),
            Section(
                "Most confident mistakes",
                cards("Sentences with a wrong tag", mistakes, has_texts=self._has_texts),
            ),
        ]

    def _entity_table(self) -> Table:
        """Figures by type of entity, as conlleval.pl counts them."""
        figures: Any = score("tagging", self._predicted, self._gold).get("per_type", {})
        rows: list[Sequence[Cell]] = [
            (
                name,
                percent(each["precision"]),
                percent(each["recall"]),
                percent(each["f1"], bar=True),
                whole(each["gold"]),
                whole(each["predicted"]),
            )
            for name, each in sorted(figures.items(), key=lambda item: item[1]["f1"])
        ]
        header = ("type", "precision", "recall", "F1", "entities", "predicted")
        return Table("Figures by type of entity", header, rows, "An entity counts when its words and type are right.")


@dataclass(frozen=True)
class _Entity:
    start: int
    end: int
    kind: str


def _kind(tag: str, is_chunks: bool) -> str:
    return tag.partition("-")[2] or tag if is_chunks and tag != "O" else tag


def _error_rate(gold: Sequence[str], predicted: Sequence[str]) -> float:
    return sum(g != p for g, p in zip(gold, predicted, strict=True)) / len(gold)


def _card(judged: Judged, is_chunks: bool) -> Card:
    gold, predicted = _entities(judged.label, is_chunks), _entities(judged.prediction, is_chunks)
    common = {(each.start, each.end, each.kind) for each in gold} & {(e.start, e.end, e.kind) for e in predicted}
    words: Any = judged.texts or ["▢"] * len(judged.label)
    lines = [
        Line("gold", _marked(words, gold, common, "gold")),
        Line("predicted", _marked(words, predicted, common, "predicted")),
    ]
    sure = [
        p for p, g, t in zip(judged.details.get("probabilities", []), judged.label, judged.prediction, strict=True)
        if g != t
    ]  # fmt: skip
    facts = (
        ("wrong tags", f"{sum(g != t for g, t in zip(judged.label, judged.prediction, strict=True))}"),
        ("surest of them", f"{100 * max(sure):.1f} %" if sure else "unknown"),
    )
    return Card(judged.key, lines, facts)


def _entities(tags: Sequence[str], is_chunks: bool) -> list[_Entity]:
    """Entities by their words; of tags that are no chunks, every word is one."""
    if not is_chunks:
        return [_Entity(place, place + 1, tag) for place, tag in enumerate(tags)]
    types: dict[str, int] = {}
    try:
        chunks = lenient_chunks(read_tags([tags], types))
    except TaskError:
        return []
    names = {number: name for name, number in types.items()}
    return [
        _Entity(int(start), int(end), names[int(kind)])
        for start, end, kind in zip(chunks.start_K, chunks.end_K, chunks.type_K, strict=True)
    ]


def _marked(words: Sequence[str], entities: Sequence[_Entity], common: set[Any], mark: Mark) -> list[Span]:
    """The words with their entities marked; what both sides agree on is marked as such."""
    spans, place = [], 0
    for each in entities:
        if each.start >= _MOST_WORDS:
            break
        if place < each.start:
            spans.append(Span(" ".join(words[place : each.start]) + " "))
        agreed = (each.start, each.end, each.kind) in common
        spans += [Span(" ".join(words[each.start : each.end]), "both" if agreed else mark, each.kind), Span(" ")]
        place = each.end
    rest = words[place:_MOST_WORDS]
    if rest or len(words) > _MOST_WORDS:
        spans.append(Span(" ".join(rest) + (" …" if len(words) > _MOST_WORDS else "")))
    return spans
