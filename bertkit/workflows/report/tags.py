"""Tagging: figures by type, which types are taken for which, confidence, and sentences whose entities are wrong."""

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from bertkit.errors import TaskError
from bertkit.tasks.scoring.chunks import lenient_chunks, read_tags
from bertkit.workflows.report.blocks import Block, Card, Cell, Line, Mark, Row, Section, Span, Table
from bertkit.workflows.report.entities import EntityCounts
from bertkit.workflows.report.numbers import ClassFigures, Ints, class_figures
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

_MOST_WORDS: Final = 150


class TagReport:
    """Takes in the predictions of one split, one at a time; keeps counts and numbers, and the words of the worst."""

    def __init__(self) -> None:
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._entities = EntityCounts()
        self._confidence = array("d")
        self._is_right = array("b")
        self._length = array("l")
        self._error = array("d")
        self._worst = Worst()
        self._has_texts = True

    def add(self, judged: Judged) -> None:
        """Takes in one prediction."""
        gold, predicted = judged.label, judged.prediction
        confidence = judged.details.get("probabilities") or []
        is_right = [g == p for g, p in zip(gold, predicted, strict=True)]
        self._pairs.update(zip(gold, predicted, strict=True))
        self._entities.add(gold, predicted)
        self._has_texts &= bool(judged.texts) or not gold
        if gold:
            self._length.append(len(gold))
            self._error.append(1 - sum(is_right) / len(gold))
        # Without a confidence of its own, a tag has no place among those that have one.
        if confidence:
            self._confidence.extend(confidence)
            self._is_right.extend(is_right)
        wrong = [sure for sure, right in zip(confidence, is_right, strict=False) if not right]
        if wrong:
            self._worst.offer(max(wrong), judged)

    def sections(self, salt: str) -> list[Section]:
        """All that is to be seen."""
        entities = self._entities.figures()
        is_chunks = entities is not None
        names, counts = self._confusion(is_chunks)
        charts: list[Block] = calibration_blocks(self._confidence, self._is_right, salt, what="words' tags")
        charts += length_blocks(
            self._length, self._error, salt, title="Wrong tags by length", unit="words of the sentence"
        )
        table = (
            class_table("Figures by tag", names, class_figures(counts), what="tag")
            if entities is None
            else _entity_table(entities)
        )
        mistakes = [_card(each, is_chunks) for each in self._worst]
        return [
            Section("Entities" if is_chunks else "Tags", [table]),
            Section("Confusion of words", confusion_blocks(names, counts, what="type" if is_chunks else "tag")),
            Section("Confidence and length", [Row(charts)]),
            Section(
                "Most confident mistakes",
                cards("Sentences with a wrong tag", mistakes, has_texts=self._has_texts),
            ),
        ]

    def _confusion(self, is_chunks: bool) -> tuple[list[str], Ints]:
        """The types or tags, O last, and how often each was taken for each."""
        kinds: Counter[tuple[str, str]] = Counter()
        for (gold, predicted), count in self._pairs.items():
            kinds[_kind(gold, is_chunks), _kind(predicted, is_chunks)] += count
        names = sorted({name for pair in kinds for name in pair}, key=lambda name: (name == "O", name))
        ids = {name: number for number, name in enumerate(names)}
        counts = np.zeros((len(names), len(names)), np.int64)
        for (gold, predicted), count in kinds.items():
            counts[ids[gold], ids[predicted]] = count
        return names, counts


def _entity_table(entities: Mapping[str, ClassFigures]) -> Table:
    rows: list[Sequence[Cell]] = [
        (
            name,
            percent(each.precision),
            percent(each.recall),
            percent(each.f1, bar=True),
            whole(each.support),
            whole(each.predicted),
        )
        for name, each in sorted(entities.items(), key=lambda item: (item[1].f1, item[0]))
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


def _card(judged: Judged, is_chunks: bool) -> Card:
    gold, predicted = _entities(judged.label, is_chunks), _entities(judged.prediction, is_chunks)
    common = {(each.start, each.end, each.kind) for each in gold} & {(e.start, e.end, e.kind) for e in predicted}
    words: Any = judged.texts or ["▢"] * len(judged.label)
    lines = [
        Line("gold", _marked(words, gold, common, "gold")),
        Line("predicted", _marked(words, predicted, common, "predicted")),
    ]
    sure = [
        p for p, g, t in zip(judged.details.get("probabilities") or [], judged.label, judged.prediction, strict=False)
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
