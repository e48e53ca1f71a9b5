"""SQuAD 1.1 and 2.0: the published score, the official definitions by brute force, the search for the threshold."""

import json
import math
import random
from pathlib import Path

import pytest

from bertkit.errors import TaskError
from bertkit.tasks.scoring import METRICS, best_null_threshold, exact_match, normalize_answer, score, token_f1

SQUAD = Path(__file__).parents[3] / "shared" / "data" / "squad"
WORDS = ["the", "a", "cat", "dog", "The Cat!", "..", "house", "An"]


@pytest.mark.skipif(not SQUAD.is_dir(), reason="the shared SQuAD files are not here")
def test_a_published_system_gets_its_published_score():
    articles = json.loads((SQUAD / "dev-v1.1.json").read_text(encoding="utf-8"))["data"]
    answers = json.loads((SQUAD / "predictions" / "match_lstm_ens_smu.json").read_text(encoding="utf-8"))
    questions = [row for article in articles for paragraph in article["paragraphs"] for row in paragraph["qas"]]
    references = [{"id": row["id"], "answers": {"text": [a["text"] for a in row["answers"]]}} for row in questions]
    predictions = [{"id": key, "prediction_text": text} for key, text in answers.items()]
    figures = score("squad", predictions, references)
    assert (round(figures["exact"], 4), round(figures["f1"], 4), figures["total"]) == (67.6348, 76.7556, 10570)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Cat!", "cat"),
        ("a.n theory", "theory"),
        ("the-rapist", "therapist"),
        ("An\u00a0apple", "apple"),
        ("«École»", "«école»"),
        ("the", ""),
    ],
)
def test_answers_are_normalized_as_the_official_scripts_do(text, normal):
    assert normalize_answer(text) == normal


def test_words_are_shared_as_often_as_both_have_them():
    assert token_f1("cat cat dog", "cat dog dog") == pytest.approx(2 / 3)
    assert token_f1("cat", "dog") == 0.0
    assert exact_match("The cat.", "cat") == 1.0


def test_a_question_without_prediction_is_wrong_in_version_1():
    references = [question("q1", "cat"), question("q2", "dog")]
    predictions = [{"id": "q2", "prediction_text": "dog"}, {"id": "of another file", "prediction_text": "cow"}]
    expected = {"f1": 50.0, "exact": 50.0, "total": 2}
    assert score("squad", predictions, references) == expected
    assert METRICS["squad"]().compute(predictions=predictions, references=references) == expected


def test_two_texts_without_words_are_equal_but_share_nothing_in_version_1():
    assert score("squad", [{"id": "q", "prediction_text": "the"}], [question("q", "a")]) == {
        "f1": 0.0,
        "exact": 100.0,
        "total": 1,
    }


def question(key, *texts):
    return {"id": key, "answers": {"text": list(texts)}}


def phrase(rng):
    return " ".join(rng.choices(WORDS, k=rng.randint(1, 3)))


def questions_at_random(seed, *, ties):
    rng = random.Random(seed)
    keys = [f"q{number}" for number in range(rng.randint(1, 25))]
    references = [question(key, *[phrase(rng) for _ in range(rng.randint(0, 3))]) for key in keys]
    nulls = [rng.choice([-2.0, 0.5, 1.0, 3.0]) if ties else rng.uniform(-5, 5) for _ in keys]
    predictions = [
        {"id": key, "prediction_text": rng.choice(["", phrase(rng), phrase(rng)]), "no_answer_probability": null}
        for key, null in zip(keys, nulls, strict=True)
    ]
    rng.shuffle(predictions)
    return predictions, references


def by_the_definition(predictions, references, threshold):
    """evaluate-v2.0.py as its page defines it: scores of each question, then every threshold in turn."""
    answers = {row["id"]: row["answers"]["text"] for row in references}
    expected = {}
    limit = math.inf if threshold is None else threshold
    for name, measure in (("exact", exact_match), ("f1", token_f1)):
        raw = {}
        for row in predictions:
            golds = [text for text in answers[row["id"]] if normalize_answer(text)] or [""]
            raw[row["id"]] = max(measure(row["prediction_text"], gold) for gold in golds)
        final = {
            row["id"]: float(not answers[row["id"]]) if row["no_answer_probability"] > limit else raw[row["id"]]
            for row in predictions
        }
        for prefix, keys in (
            ("", list(answers)),
            ("HasAns_", [key for key in answers if answers[key]]),
            ("NoAns_", [key for key in answers if not answers[key]]),
        ):
            if keys:
                expected[f"{prefix}{name}"] = 100 * sum(final[key] for key in keys) / len(keys)
                expected[f"{prefix}total"] = len(keys)
        best, best_threshold = sum(not golds for golds in answers.values()), 0.0
        walk = sorted(predictions, key=lambda row: row["no_answer_probability"])
        total = best
        for row in walk:
            total += raw[row["id"]] if answers[row["id"]] else -bool(row["prediction_text"])
            if total > best:
                best, best_threshold = total, row["no_answer_probability"]
        expected[f"best_{name}"] = 100 * best / len(answers)
        expected[f"best_{name}_thresh"] = best_threshold
    return expected


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("threshold", [1.0, -1.0, None])
@pytest.mark.parametrize("seed", range(30))
def test_version_2_equals_the_definition_on_every_field(seed, threshold, ties):
    predictions, references = questions_at_random(seed, ties=ties)
    figures = score("squad_v2", predictions, references, no_answer_threshold=threshold)
    assert figures == pytest.approx(by_the_definition(predictions, references, threshold))


def test_without_null_scores_nothing_is_taken_back_or_searched():
    references = [question("q1", "cat"), question("q2")]
    predictions = [{"id": "q1", "prediction_text": "cat"}, {"id": "q2", "prediction_text": "dog"}]
    assert score("squad_v2", predictions, references) == {
        "f1": 50.0,
        "exact": 50.0,
        "total": 2,
        "HasAns_f1": 100.0,
        "HasAns_exact": 100.0,
        "HasAns_total": 1,
        "NoAns_f1": 0.0,
        "NoAns_exact": 0.0,
        "NoAns_total": 1,
    }


def mean_f1_at(threshold, null_scores, f1_of_answer, has_answer):
    rows = list(zip(null_scores, f1_of_answer, has_answer, strict=True))
    return sum(float(not has) if null > threshold else f1 for null, f1, has in rows) / len(rows)


@pytest.mark.parametrize("seed", range(60))
def test_the_best_threshold_gives_what_it_promises_and_none_gives_more(seed):
    rng = random.Random(seed)
    has_answer = [rng.random() < seed % 5 / 4 for _ in range(rng.randint(1, 30))]
    null_scores = [rng.choice([-3.0, -1.0, 0.0, 2.0]) if seed % 2 else rng.uniform(-9, 9) for _ in has_answer]
    # The answer of a question without one is right only where it is empty.
    f1_of_answer = [rng.choice([0.0, 0.4, 1.0]) if has else float(rng.random() < 0.2) for has in has_answer]
    threshold, f1 = best_null_threshold(null_scores, f1_of_answer, has_answer)
    assert mean_f1_at(threshold, null_scores, f1_of_answer, has_answer) == pytest.approx(f1)
    for other in [*null_scores, -10.0, 10.0]:
        assert mean_f1_at(other, null_scores, f1_of_answer, has_answer) <= f1 + 1e-12


def test_where_it_is_best_never_to_answer_the_threshold_lies_below_all_scores():
    threshold, f1 = best_null_threshold([-4.0, -2.0], [0.0, 0.0], [False, False])
    assert (threshold < -4.0, f1) == (True, 1.0)


@pytest.mark.parametrize(
    ("name", "predictions", "references", "message"),
    [
        ("squad", [], [], "no questions"),
        ("squad", [], [question("q", "cat")], "no prediction has the id of a question"),
        ("squad", [{"id": "q", "prediction_text": ""}], [question("q")], "score this file with squad_v2"),
        ("squad", [{"id": "q", "prediction_text": ""}], [question("q", "a")] * 2, "twice in the references"),
        ("squad", [{"id": "q", "prediction_text": ""}] * 2, [question("q", "a")], "twice in the predictions"),
        ("squad", [{"id": "q"}], [question("q", "a")], "needs id and prediction_text"),
        ("squad", [], [{"id": "q"}], "needs id and answers"),
        ("squad_v2", [{"id": "p", "prediction_text": ""}], [question("q")], "1 questions have no prediction"),
        (
            "squad_v2",
            [{"id": "p", "prediction_text": ""}, {"id": "q", "prediction_text": "", "no_answer_probability": 1.0}],
            [question("p"), question("q")],
            "question p has no no_answer_probability",
        ),
        (
            "squad_v2",
            [{"id": "q", "prediction_text": "", "no_answer_probability": float("nan")}],
            [question("q")],
            "question q has a no_answer_probability that is no number",
        ),
    ],
)
def test_questions_that_cannot_be_scored_are_refused_with_the_reason(name, predictions, references, message):
    with pytest.raises(TaskError) as caught:
        score(name, predictions, references)
    assert message in str(caught.value)


def test_a_threshold_needs_finite_scores_one_a_question():
    with pytest.raises(TaskError, match="2 null scores, 1 F1s and 2 flags"):
        best_null_threshold([0.0, 1.0], [1.0], [True, False])
    with pytest.raises(TaskError, match="not a finite number"):
        best_null_threshold([math.nan], [1.0], [True])
