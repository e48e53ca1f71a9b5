"""Answers as text: when two are the same, how much they share, and whose they are."""

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from bertkit.errors import TaskError

_ARTICLES: Final = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION: Final = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """An answer without case, punctuation, articles and extra white space, as the official scripts compare it."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(prediction: str, answer: str) -> float:
    """1.0 where the normalized texts are equal, else 0.0 (both official scripts)."""
    return float(normalize_answer(prediction) == normalize_answer(answer))


def token_f1(prediction: str, answer: str) -> float:
    """F1 of the bags of normalized words, from 0 to 1; of two texts without words 1.0 (evaluate-v2.0.py)."""
    predicted, gold = normalize_answer(prediction).split(), normalize_answer(answer).split()
    if not predicted or not gold:
        return float(predicted == gold)
    shared = (Counter(predicted) & Counter(gold)).total()
    if not shared:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(gold)
    return 2 * precision * recall / (precision + recall)


def answers_by_id(references: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Question id to answer texts.

    Raises:
        TaskError: no questions, an id given twice, or a row without `id` and `answers`.
    """
    answers: dict[str, list[str]] = {}
    for row in references:
        if "id" not in row or "text" not in row.get("answers", {}):
            raise TaskError(f"a reference holds {sorted(row)}: it needs id and answers with text")
        if row["id"] in answers:
            raise TaskError(f"question {row['id']} is given twice in the references")
        answers[row["id"]] = list(row["answers"]["text"])
    if not answers:
        raise TaskError("there is nothing to score: no questions")
    return answers


def texts_by_id(predictions: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Question id to predicted text; a text of None is no prediction.

    Raises:
        TaskError: an id given twice, or a row without `id` and `prediction_text`.
    """
    texts: dict[str, str | None] = {}
    for row in predictions:
        if "id" not in row or "prediction_text" not in row:
            raise TaskError(f"a prediction holds {sorted(row)}: it needs id and prediction_text")
        if row["id"] in texts:
            raise TaskError(f"question {row['id']} is given twice in the predictions")
        texts[row["id"]] = row["prediction_text"]
    return {key: text for key, text in texts.items() if text is not None}


def check_answered(texts: Mapping[str, str], answers: Mapping[str, Any]) -> None:
    """At least one prediction is about one of the questions.

    Raises:
        TaskError: none is: these are the predictions for another file.
    """
    if texts.keys().isdisjoint(answers):
        raise TaskError(f"no prediction has the id of a question; the first question is {next(iter(answers))}")
