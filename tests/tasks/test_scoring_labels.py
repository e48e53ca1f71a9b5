"""Figures of labels and of numbers, held against scikit-learn and scipy."""

import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn
from sklearn.preprocessing import MultiLabelBinarizer

from bertkit.errors import TaskError
from bertkit.tasks.scoring import confusion_matrix, score

# Random labels of one to five classes, and the corners: one class, no overlap, one example, one side constant.
RNG = np.random.default_rng(0)
DRAWS = [
    (RNG.choice(list("abcde")[:classes], size).tolist(), RNG.choice(list("abcde")[:classes], size).tolist())
    for classes in (1, 2, 3, 5)
    for size in (2, 7, 50, 500)
]
NAMES = {"precision": "precision", "recall": "recall", "f1": "f1-score", "support": "support"}
CORNERS = [(["a"], ["a"]), (["a"], ["b"]), (["a", "a", "a"], ["a", "b", "a"]), (["a", "b"], ["c", "d"])]


@pytest.mark.parametrize(("predictions", "references"), DRAWS + CORNERS)
def test_label_figures_equal_scikit_learn(predictions, references):
    assert score("accuracy", predictions, references)["accuracy"] == sklearn.accuracy_score(references, predictions)
    labels = sorted({*predictions, *references})
    with warnings.catch_warnings():
        # scikit-learn warns of a single class, and gives what bertkit gives.
        warnings.simplefilter("ignore")
        expected = sklearn.matthews_corrcoef(references, predictions)
        rows = sklearn.confusion_matrix(references, predictions, labels=labels).tolist()
    assert score("matthews", predictions, references)["matthews"] == pytest.approx(expected, abs=1e-12)
    assert confusion_matrix(predictions, references, labels) == rows
    figures = score("macro_f1", predictions, references)
    assert figures["macro_f1"] == pytest.approx(
        sklearn.f1_score(references, predictions, average="macro", zero_division=0)
    )
    report = sklearn.classification_report(references, predictions, output_dict=True, zero_division=0)
    for label in labels:
        expected = report[label]
        assert figures["per_label"][label] == pytest.approx({ours: expected[theirs] for ours, theirs in NAMES.items()})
        assert score("f1", predictions, references, positive=label)["f1"] == pytest.approx(expected["f1-score"])


def test_f1_needs_a_positive_label_that_occurs():
    with pytest.raises(TaskError, match="name it with positive=, one of no, yes"):
        score("f1", ["yes"], ["no"])
    with pytest.raises(TaskError, match="'yess' never occurs: did you mean 'yes'?"):
        score("f1", ["yes"], ["no"], positive="yess")


def test_f1_of_a_label_that_one_sided_data_lack_is_zero():
    assert score("f1", ["no"], ["no"], positive="yes") == {"f1": 0.0, "precision": 0.0, "recall": 0.0}


def test_the_rows_of_a_confusion_matrix_are_gold():
    assert confusion_matrix(["b", "b", "a"], ["a", "b", "a"], ["a", "b", "c"]) == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    with pytest.raises(TaskError, match="label 'c' is not one of a, b"):
        confusion_matrix(["c"], ["a"], ["a", "b"])


@pytest.mark.parametrize("seed", range(20))
def test_multi_label_figures_equal_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    # scikit-learn takes a single column of indicators for two classes.
    names = [f"label{number}" for number in range(int(rng.integers(2, 6)))]
    sides = [[[name for name in names if rng.random() < 0.4] for _ in range(int(10 + seed))] for _ in range(2)]
    predictions, references = sides
    figures = score("multi_label", predictions, references)
    seen = sorted({name for side in sides for row in side for name in row})
    binarizer = MultiLabelBinarizer(classes=seen)
    guess, gold = binarizer.fit_transform(predictions), binarizer.fit_transform(references)
    for average in ("micro", "macro"):
        expected = sklearn.f1_score(gold, guess, average=average, zero_division=0)
        assert figures[f"{average}_f1"] == pytest.approx(expected)
    assert figures["exact_match"] == pytest.approx(sklearn.accuracy_score(gold, guess))
    each = sklearn.f1_score(gold, guess, average=None, zero_division=0)
    assert [figures["per_label"][name]["f1"] for name in seen] == pytest.approx(each.tolist())


def test_a_text_is_not_a_list_of_labels():
    with pytest.raises(TaskError, match="the text 'news' where a list of label names belongs"):
        score("multi_label", ["news"], [["news"]])


@pytest.mark.parametrize("seed", range(20))
def test_correlations_and_error_equal_scipy_and_scikit_learn_ties_included(seed):
    rng = np.random.default_rng(seed)
    references = rng.integers(0, 6, 40).astype(float)
    predictions = np.round(references + rng.normal(0, 2, 40), seed % 3)
    assert score("pearson", predictions, references)["pearson"] == pytest.approx(
        stats.pearsonr(predictions, references).statistic, abs=1e-12
    )
    assert score("spearman", predictions, references)["spearman"] == pytest.approx(
        stats.spearmanr(predictions, references).statistic, abs=1e-12
    )
    assert score("mse", predictions, references)["mse"] == pytest.approx(
        sklearn.mean_squared_error(references, predictions)
    )


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_a_collapsed_regressor_is_correlated_with_nothing(name):
    # scipy gives nan here. The mean of three times 0.1 is not 0.1: a difference would not be zero.
    assert score(name, [0.1, 0.1, 0.1], [1.0, 2.0, 3.0]) == {name: 0.0}
    assert score(name, [1.0, 2.0, 3.0], [0.1, 0.1, 0.1]) == {name: 0.0}
    assert score(name, [1.0], [2.0]) == {name: 0.0}


def test_correlation_holds_at_the_ends_of_the_range_of_floats():
    for scale in (1e-200, 1e200):
        assert score("pearson", [scale, 2 * scale, 3 * scale], [1.0, 2.0, 3.0])["pearson"] == pytest.approx(1.0)


def test_numbers_that_are_none_are_refused():
    with pytest.raises(TaskError, match="predictions hold nan at example 2"):
        score("pearson", [1.0, float("nan")], [1.0, 2.0])
    with pytest.raises(TaskError, match="not a number"):
        score("mse", ["good"], [1.0])
    with pytest.raises(TaskError, match="one number for each example"):
        score("mse", [[1.0]], [1.0])
