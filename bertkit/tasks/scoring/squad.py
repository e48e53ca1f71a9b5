"""SQuAD 1.1 and 2.0 in the official scripts' percent, and the parts they are made of."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bertkit.errors import TaskError
from bertkit.tasks.scoring.answers import (
    answers_by_id,
    check_answered,
    exact_match,
    normalize_answer,
    texts_by_id,
    token_f1,
)
from bertkit.tasks.scoring.checks import Scores

_MEASURES: Final = (("f1", token_f1), ("exact", exact_match))


def squad(predictions: Sequence[Mapping[str, Any]], references: Sequence[Mapping[str, Any]]) -> Scores:
    """F1 and exact match in percent over all questions (evaluate-v1.1.py); a question not answered is wrong.

    Raises:
        TaskError: no questions, an id given twice, a question without answers, or no prediction for any question.
    """
    answers, texts = answers_by_id(references), texts_by_id(predictions)
    check_answered(texts, answers)
    for key, golds in answers.items():
        if not golds:
            raise TaskError(f"question {key} has no answer: SQuAD 1.1 has one for each, score this file with squad_v2")
    given = [(texts[key], golds) for key, golds in answers.items() if key in texts]
    exact = sum(max(exact_match(text, gold) for gold in golds) for text, golds in given)
    # Version 1.1 gives no F1 to two texts without words, version 2.0 gives 1.
    f1 = sum(max(token_f1(text, gold) for gold in golds) for text, golds in given if normalize_answer(text))
    return {"f1": 100 * f1 / len(answers), "exact": 100 * exact / len(answers), "total": len(answers)}


def squad_v2(
    predictions: Sequence[Mapping[str, Any]],
    references: Sequence[Mapping[str, Any]],
    *,
    no_answer_threshold: float | None = 1.0,
) -> Scores:
    """F1 and exact match in percent, with and without answers, and the best thresholds (evaluate-v2.0.py, every field).

    Where predictions carry `no_answer_probability`, an answer whose score is above the threshold is taken back, and the
    search for `best_*` runs: `prediction_text` must be the best answer, not yet taken back. The threshold of 1.0
    suits probabilities: give another where scores are differences of logits, or None to take nothing back.

    Raises:
        TaskError: no questions, an id given twice, or a question without prediction.
    """
    answers, texts = answers_by_id(references), texts_by_id(predictions)
    missing = [key for key in answers if key not in texts]
    if missing:
        raise TaskError(
            f"{len(missing)} questions have no prediction, the first is {missing[0]}: SQuAD 2.0 needs them all"
        )
    # In the order of the predictions: the official search breaks ties by it.
    keys = [key for key in texts if key in answers]
    has_answer = np.array([bool(answers[key]) for key in keys])
    golds = [[gold for gold in answers[key] if normalize_answer(gold)] or [""] for key in keys]
    pairs = [(texts[key], gs) for key, gs in zip(keys, golds, strict=True)]
    raw = {
        name: np.array([max(measure(text, gold) for gold in gs) for text, gs in pairs]) for name, measure in _MEASURES
    }
    null_scores = _null_scores(predictions, keys)
    figures = {name: _taken_back(raw[name], null_scores, has_answer, no_answer_threshold) for name in raw}
    scores = _means(figures, "", np.ones_like(has_answer))
    scores |= _means(figures, "HasAns_", has_answer) | _means(figures, "NoAns_", ~has_answer)
    if null_scores is not None:
        answered = np.array([bool(texts[key]) for key in keys])
        for name in ("exact", "f1"):
            scores |= _official_search(name, null_scores, np.where(has_answer, raw[name], -1.0 * answered), ~has_answer)
    return scores


def best_null_threshold(null_scores: ArrayLike, f1_of_answer: ArrayLike, has_answer: ArrayLike) -> tuple[float, float]:
    """The threshold above which "no answer" is best said, and the mean F1 (0 to 1) that saying so gives.

    `f1_of_answer` is the F1 of the best non-null answer. Unlike in the official search, equal scores stand together,
    and the threshold lies below all scores where it is best never to answer: applied, it gives exactly this F1.

    Raises:
        TaskError: no questions, unequal lengths, or a score that is not a finite number.
    """
    scores_N, f1_N = np.asarray(null_scores, np.float64), np.asarray(f1_of_answer, np.float64)
    has_N = np.asarray(has_answer, np.bool_)
    if not len(scores_N) or scores_N.shape != f1_N.shape or scores_N.shape != has_N.shape:
        raise TaskError(
            f"{len(scores_N)} null scores, {len(f1_N)} F1s and {len(has_N)} flags: give one of each a question"
        )
    if not (np.isfinite(scores_N).all() and np.isfinite(f1_N).all()):
        raise TaskError("a null score or an F1 is not a finite number")
    order = np.argsort(scores_N, kind="stable")
    sorted_N = scores_N[order]
    total_N = np.cumsum(np.where(has_N, f1_N, f1_N - 1)[order])
    last_of_equals = np.flatnonzero(np.append(sorted_N[1:] != sorted_N[:-1], True))
    thresholds = np.append(np.nextafter(sorted_N[0], -np.inf), sorted_N[last_of_equals])
    means = (np.append(0.0, total_N[last_of_equals]) + (~has_N).sum()) / len(scores_N)
    best = int(np.argmax(means))
    return float(thresholds[best]), float(means[best])


def _null_scores(predictions: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> NDArray[np.float64] | None:
    by_id = {row["id"]: row.get("no_answer_probability") for row in predictions}
    values = [by_id[key] for key in keys]
    without = [key for key, value in zip(keys, values, strict=True) if value is None]
    if len(without) == len(keys):
        return None
    if without:
        raise TaskError(
            f"question {without[0]} has no no_answer_probability and others have: give it for all or for none"
        )
    scores = np.array(values, dtype=np.float64)
    if np.isnan(scores).any():
        raise TaskError(
            f"question {keys[int(np.argmax(np.isnan(scores)))]} has a no_answer_probability that is no number"
        )
    return scores


def _taken_back(
    raw: NDArray[np.float64],
    null_scores: NDArray[np.float64] | None,
    has_answer: NDArray[np.bool_],
    threshold: float | None,
) -> NDArray[np.float64]:
    return raw if null_scores is None or threshold is None else np.where(null_scores > threshold, 1.0 - has_answer, raw)


def _means(figures: Mapping[str, NDArray[np.float64]], prefix: str, chosen: NDArray[np.bool_]) -> Scores:
    count = int(chosen.sum())
    if not count:
        return {}
    means: Scores = {f"{prefix}{name}": 100 * float(row[chosen].sum()) / count for name, row in figures.items()}
    return means | {f"{prefix}total": count}


def _official_search(
    name: str, null_scores: NDArray[np.float64], gains: NDArray[np.float64], no_answer: NDArray[np.bool_]
) -> Scores:
    # Begins with "no answer" to all and a threshold of 0.0, then answers from the least null on; the first best wins.
    order = np.argsort(null_scores, kind="stable")
    totals = np.cumsum(np.append(float(no_answer.sum()), gains[order]))
    best = int(np.argmax(totals))
    threshold = float(null_scores[order[best - 1]]) if best else 0.0
    return {f"best_{name}": 100 * float(totals[best]) / len(gains), f"best_{name}_thresh": threshold}
