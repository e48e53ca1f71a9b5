"""The report of tags counts as the official scorer does, and keeps counts, not sentences."""

import numpy as np
import pytest

from bertkit.tasks.scoring import score
from bertkit.workflows.report import entities
from bertkit.workflows.report.entities import EntityCounts
from bertkit.workflows.report.tags import TagReport
from bertkit.workflows.scoring import Judged

TAGS = ("O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "E-LOC", "S-ORG")


@pytest.mark.parametrize("at_once", [1, 7, 2000])
def test_entities_are_those_of_the_official_scorer_however_many_sentences_are_counted_at_once(at_once, monkeypatch):
    monkeypatch.setattr(entities, "_SENTENCES_AT_ONCE", at_once)
    draw = np.random.default_rng(3)
    pairs = [tuple(draw.choice(TAGS, size=(2, draw.integers(0, 9))).tolist()) for _ in range(200)]
    counts = EntityCounts()
    for gold, predicted in pairs:
        counts.add(gold, predicted)
    expected = score("tagging", [p for _, p in pairs], [g for g, _ in pairs])["per_type"]
    found = {
        name: {"precision": each.precision, "recall": each.recall, "f1": each.f1, "gold": each.support,
               "predicted": each.predicted}
        for name, each in counts.figures().items()
    }  # fmt: skip
    assert found == {
        name: pytest.approx({key: value for key, value in each.items() if key != "correct"})
        for name, each in expected.items()
    }


def test_parts_of_speech_are_no_entities_and_have_figures_by_tag():
    counts = EntityCounts()
    counts.add(("NN", "VB"), ("NN", "NN"))
    assert counts.figures() is None
    report = TagReport()
    report.add(Judged("1", ("NN", "NN"), ("NN", "VB"), 0.8, {"probabilities": [0.9, 0.7]}, texts=("a", "b")))
    sections = report.sections("x")
    assert sections[0].title == "Tags"
    assert [row[0] for row in sections[0].blocks[0].rows] == ["VB", "NN"]


def test_sentences_without_words_or_probabilities_are_counted_and_cost_nothing():
    report = TagReport()
    report.add(Judged("1", (), (), None, {"probabilities": []}))
    report.add(Judged("2", ("B-PER",), ("O",), texts=("a",)))
    assert report.sections("x")[0].title == "Entities"


def test_what_is_kept_does_not_grow_with_the_words_of_what_was_right():
    report = TagReport()
    for number in range(5000):
        report.add(
            Judged(f"{number}", ("B-PER", "O"), ("B-PER", "O"), 0.9, {"probabilities": [0.9, 0.9]}, texts=("a", "b"))
        )
    held = [name for name, value in vars(report).items() if isinstance(value, list) and len(value) > 100]
    assert held == []
    assert len(report._entities._waiting) < 2000
    assert report._pairs == {("B-PER", "B-PER"): 5000, ("O", "O"): 5000}
