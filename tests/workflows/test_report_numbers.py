"""The numbers of a report agree with scikit-learn, with the official scorers, and with what can be counted by eye."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from bertkit.tasks.scoring import best_null_threshold
from bertkit.tasks.spec import Answer
from bertkit.workflows.report.answers import AnswerReport, kind_of_question, marked_context
from bertkit.workflows.report.history import MOST_POINTS, History
from bertkit.workflows.report.numbers import (
    by_length,
    calibrate,
    class_figures,
    confusion,
    figures_of,
    null_threshold_curve,
)
from bertkit.workflows.report.parts import MOST_CARDS, Worst
from bertkit.workflows.scoring import Judged


@pytest.fixture
def draw():
    return np.random.default_rng(7)


def test_the_reliability_diagram_is_scikit_learns(draw):
    confidence = draw.random(500)
    right = draw.random(500) < confidence**2
    found = calibrate(confidence, right)
    accuracy, mean = calibration_curve(right, confidence, n_bins=10)
    assert np.allclose(found.accuracy, accuracy)
    assert np.allclose(found.confidence, mean)
    assert found.count.sum() == 500


def test_the_calibration_error_is_the_mean_distance_by_examples():
    # Three of confidence 0.9, two of them right; one of 0.5, right.
    found = calibrate([0.9, 0.9, 0.9, 0.5], [True, True, False, True])
    assert found.error == pytest.approx(0.75 * abs(0.9 - 2 / 3) + 0.25 * 0.5)
    assert calibrate([], []) is None


def test_certainty_and_zero_fall_into_the_outer_bins():
    found = calibrate([0.0, 1.0], [False, True])
    assert found.confidence.tolist() == [0.0, 1.0]
    assert found.error == 0


def test_figures_by_class_and_the_confusion_matrix_are_scikit_learns(draw):
    gold, guess = draw.integers(0, 5, 300), draw.integers(0, 4, 300)
    counts = confusion(gold, guess, 6)
    assert (counts == confusion_matrix(gold, guess, labels=range(6))).all()
    expected = precision_recall_fscore_support(gold, guess, labels=range(6), zero_division=0)
    found = [(each.precision, each.recall, each.f1, each.support) for each in class_figures(counts)]
    assert np.allclose(np.array(found).T, expected)


def test_figures_of_counts_divide_nothing_by_nothing():
    assert figures_of(0, 0, 0).f1 == 0
    assert figures_of(2, 4, 2).precision == 0.5
    assert figures_of(2, 4, 2).recall == 1


def test_lengths_fall_into_bins_of_about_as_many_and_none_is_lost(draw):
    lengths, errors = draw.integers(1, 90, 1000), draw.random(1000)
    bins = by_length(lengths, errors)
    assert sum(each.count for each in bins) == 1000
    assert sum(each.count * each.mean for each in bins) == pytest.approx(errors.sum())
    assert min(each.count for each in bins) > 100
    assert bins[0].name.startswith(f"{lengths.min()}\u2013")


def test_equal_lengths_are_one_bin_and_no_lengths_none():
    assert [(each.name, each.count, each.mean) for each in by_length([4, 4, 4], [0, 1, 1])] == [("4", 3, 2 / 3)]
    assert by_length([], []) == []


def test_the_best_of_the_threshold_curve_is_the_one_that_tuning_finds(draw):
    differences = draw.normal(size=200).round(1)
    has_answer = draw.random(200) < 0.6
    f1 = np.where(has_answer, draw.random(200), 0.0)
    curve = null_threshold_curve(differences, f1, f1 > 0.5, has_answer)
    threshold, best = best_null_threshold(differences, f1, has_answer)
    assert curve.f1.max() == pytest.approx(best)
    assert curve.thresholds[curve.f1.argmax()] == threshold
    for place in (0, 5, len(curve.f1) - 1):
        answered = differences <= curve.thresholds[place]
        figures = np.where(answered, np.where(has_answer, f1, 0.0), ~has_answer)
        assert curve.f1[place] == pytest.approx(figures.mean())


def test_below_all_scores_only_questions_without_answer_are_right():
    curve = null_threshold_curve([1.0, 2.0], [1.0, 0.0], [1.0, 0.0], [True, False])
    assert curve.f1.tolist() == [0.5, 1.0, 0.5]


@pytest.mark.parametrize(("answered_f1", "said"), [(0.0, True), (1.0, False)])
def test_where_no_answer_to_all_is_best_the_officially_named_threshold_is_explained(answered_f1, said):
    report = AnswerReport(null_threshold=-1.0)
    for number in range(4):
        golds = () if number else (Answer("Paris", 0),)
        guess = "Paris" if answered_f1 else "Rome"
        details = {"best_span": guess, "null_score_difference": float(number)}
        report.add(Judged(str(number), guess, golds, 0.5, details, texts=("Where?", "Paris")))
    (section,) = (each for each in report.sections("x") if each.title == "Null threshold")
    assert ("the official script calls 0" in str(section)) == said


def test_the_worst_are_the_highest_in_order_however_many_come(draw):
    worst = Worst()
    values = draw.random(500)
    for value in values:
        worst.offer(value, value)
    assert list(worst) == sorted(values, reverse=True)[:MOST_CARDS]


def test_a_question_has_the_kind_of_its_question_word():
    kinds = {
        "Who was it?": "who",
        "How many are there?": "how many",
        "In which year?": "which",
        "Name the river": "other",
        "": "other",
    }
    assert {question: kind_of_question(question) for question in kinds} == kinds


def test_gold_and_predicted_spans_are_marked_where_they_stand_and_where_they_overlap():
    context = "a" * 600 + " the old tower " + "b" * 600
    judged = Judged("1", "old tower", (Answer("the old", 601),), 0.5, {"start": 605, "end": 614})
    spans = marked_context(judged, context)
    assert [(span.text, span.mark) for span in spans if span.mark] == [
        ("the ", "gold"),
        ("old", "both"),
        (" tower", "predicted"),
    ]
    assert spans[0].text.startswith("…")
    assert len("".join(span.text for span in spans)) < 500


def test_a_context_without_marks_is_cut_and_an_empty_one_is_nothing():
    assert marked_context(Judged("1", "", (), 0.5), "") == []
    (span,) = marked_context(Judged("1", "", (), 0.5), "c" * 2000)
    assert len(span.text) < 500


def test_long_curves_are_thinned_to_means_that_keep_the_last_step():
    rows = [{"step": s, "loss": float(s % 2), "tokens": 10 * s, "elapsed_s": s / 2} for s in range(1, 4001)]
    curve = History(rows, []).curve("loss")
    assert len(curve) == MOST_POINTS
    assert (curve.steps[-1], curve.tokens[-1], curve.seconds[-1]) == (4000, 40000, 2000)
    assert np.allclose(curve.values, 0.5)


def test_evaluations_take_their_tokens_and_time_from_the_windows_around_them():
    rows = [{"step": s, "loss": 1.0, "tokens": 100 * s, "elapsed_s": 2.0 * s} for s in (10, 20)]
    curve = History(rows, [{"step": 15, "heldout_mlm_loss": 5.0}]).curve("heldout_mlm_loss")
    assert (curve.tokens.tolist(), curve.seconds.tolist(), curve.values.tolist()) == ([1500], [30], [5])


def test_what_is_no_number_is_left_out_of_a_curve():
    rows = [{"step": 1, "loss": float("nan")}, {"step": 2, "loss": 3.0}, {"step": 3, "loss": None}]
    assert History(rows, []).curve("loss").values.tolist() == [3.0]
    assert History([], []).last("loss") is None
