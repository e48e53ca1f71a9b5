"""Every metric: perfect on gold, the same through `evaluate.Metric`, nothing left behind, errors that name the fix."""

import os
import subprocess
import sys

import evaluate
import pytest

from bertkit.errors import TaskError
from bertkit.tasks.scoring import METRICS, score

LABELS = ["yes", "no", "yes", "maybe"]
TAGS = [["B-PER", "I-PER", "O"], ["O", "B-LOC"]]
QUESTIONS = [
    {"id": "q1", "answers": {"text": ["the Seine", "Seine"], "answer_start": [3, 7]}},
    {"id": "q2", "answers": {"text": ["1431"], "answer_start": [11]}},
]
UNANSWERABLE = [*QUESTIONS, {"id": "q3", "answers": {"text": [], "answer_start": []}}]
ANSWERS = [{"id": "q2", "prediction_text": "1431"}, {"id": "q1", "prediction_text": "Seine"}]
NULLS = [{**answer, "no_answer_probability": 0.1} for answer in ANSWERS]
HANS = {"heuristics": ["lexical_overlap", "subsequence", "constituent", "constituent"]}
TWO_WAY = ["entailment", "non-entailment", "entailment", "non-entailment"]

GOLD = {
    "accuracy": (LABELS, LABELS, {}),
    "f1": (LABELS, LABELS, {"positive": "yes"}),
    "macro_f1": (LABELS, LABELS, {}),
    "matthews": (LABELS, LABELS, {}),
    "pearson": ([0.5, 2.0, 5.0], [0.5, 2.0, 5.0], {}),
    "spearman": ([0.5, 2.0, 5.0], [0.5, 2.0, 5.0], {}),
    "mse": ([0.5, 2.0, 5.0], [0.5, 2.0, 5.0], {}),
    "multi_label": ([["a", "b"], [], ["b"]], [["b", "a"], [], ["b"]], {}),
    "tagging": (TAGS, TAGS, {}),
    "tag_accuracy": ([["DET", "NOUN"], ["VERB"]], [["DET", "NOUN"], ["VERB"]], {}),
    "squad": (ANSWERS, QUESTIONS, {}),
    "squad_v2": ([*NULLS, {"id": "q3", "prediction_text": "", "no_answer_probability": 0.9}], UNANSWERABLE, {}),
    "hans": (TWO_WAY, TWO_WAY, HANS),
}
PERFECT = {"squad": 100.0, "squad_v2": 100.0, "mse": 0.0}
HEADLINES = {"multi_label": "micro_f1", "tagging": "f1", "squad": "f1", "squad_v2": "f1", "hans": "accuracy"}


def test_every_metric_is_tested_here():
    assert set(GOLD) == set(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_gold_fed_back_is_perfect_and_the_headline_comes_first(name):
    predictions, references, options = GOLD[name]
    headline, figure = next(iter(score(name, predictions, references, **options).items()))
    assert headline == HEADLINES.get(name, name)
    assert figure == pytest.approx(PERFECT.get(name, 1.0), abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_the_evaluate_metric_computes_the_same_and_again(name):
    predictions, references, options = GOLD[name]
    metric = METRICS[name]()
    assert isinstance(metric, evaluate.Metric)
    assert metric.name == name
    expected = score(name, predictions, references, **options)
    for _ in range(2):
        assert metric.compute(predictions=predictions, references=references, **options) == expected
    metric.add_batch(predictions=predictions, references=references)
    assert metric.compute(**options) == expected


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_of_use_again_after_input_it_refused(name):
    predictions, references, options = GOLD[name]
    metric = METRICS[name]()
    with pytest.raises((TaskError, ValueError)):
        metric.compute(predictions=[], references=[], **options)
    if name != "squad":
        with pytest.raises((TaskError, ValueError)):
            metric.compute(predictions=predictions[1:], references=references, **options)
    expected = score(name, predictions, references, **options)
    assert metric.compute(predictions=predictions, references=references, **options) == expected


def test_examples_may_be_added_one_at_a_time():
    metric = METRICS["accuracy"]()
    for guess, gold in zip(["a", "b"], ["a", "c"], strict=True):
        metric.add(prediction=guess, reference=gold)
    assert metric.compute() == {"accuracy": 0.5}
    metric = METRICS["squad"]()
    for answer, question in zip(reversed(ANSWERS), QUESTIONS, strict=True):
        metric.add(prediction=answer, reference=question)
    assert metric.compute()["exact"] == 100.0


def test_metrics_work_offline_and_leave_no_file(tmp_path):
    program = (
        "from bertkit.tasks.scoring import METRICS\n"
        "for kind in METRICS.values(): kind()\n"
        "print(METRICS['accuracy']().compute(predictions=['a'], references=['a']))\n"
    )
    offline = {"HF_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("{'accuracy': 1.0}\n", "")
    assert list(tmp_path.rglob("*")) == []


def test_an_unknown_metric_names_the_nearest():
    with pytest.raises(TaskError, match="no metric is called 'acuracy': did you mean 'accuracy'?"):
        score("acuracy", ["a"], ["a"])


@pytest.mark.parametrize("name", [name for name in METRICS if not name.startswith("squad")])
def test_unequal_lengths_and_empty_input_are_refused(name):
    predictions, references, options = GOLD[name]
    with pytest.raises(TaskError, match=f"{len(references) - 1} predictions for {len(references)} references"):
        score(name, predictions[1:], references, **options)
    with pytest.raises(TaskError, match="nothing to score"):
        score(name, [], [], **options)


def test_ids_are_not_scored_as_labels():
    with pytest.raises(TaskError, match="by name, never by id"):
        score("accuracy", [0, 1], ["no", "yes"])


def test_hans_folds_three_classes_into_two_and_counts_by_heuristic_and_gold():
    figures = score(
        "hans",
        ["entailment", "neutral", "contradiction", "entailment"],
        ["entailment", "non-entailment", "entailment", "non-entailment"],
        heuristics=["subsequence", "subsequence", "constituent", "constituent"],
    )
    assert figures == {
        "accuracy": 0.5,
        "by_heuristic": {
            "constituent": {"entailment": 0.0, "non-entailment": 0.0},
            "subsequence": {"entailment": 1.0, "non-entailment": 1.0},
        },
    }


def test_hans_needs_a_heuristic_an_example_and_labels_it_knows():
    with pytest.raises(TaskError, match="a heuristic for each of 4 examples in heuristics=: got none"):
        score("hans", TWO_WAY, TWO_WAY)
    with pytest.raises(TaskError, match="'entailmnt': did you mean 'entailment'?"):
        score("hans", ["entailmnt"], ["entailment"], heuristics=["subsequence"])
