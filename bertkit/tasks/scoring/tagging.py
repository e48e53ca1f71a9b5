"""Entity F1 as conlleval.pl has it and as a strict reading has it; accuracy of tags that are no chunks."""

from collections.abc import Sequence
from itertools import chain
from operator import eq

import numpy as np

from bertkit.errors import TaskError, nearest
from bertkit.tasks.scoring.checks import Scores, check_names, check_paired, precision_recall_f1, ratio
from bertkit.tasks.scoring.chunks import (
    SCHEMES,
    Chunks,
    Scheme,
    check_scheme,
    detect_scheme,
    has_chunk_tags,
    lenient_chunks,
    matching,
    read_tags,
    strict_chunks,
)


def tagging(
    predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]], *, scheme: Scheme | None = None
) -> Scores:
    """Entity F1 equal to conlleval.pl (2004-01-26) and, under `strict_*`, to seqeval's `mode="strict"` in the scheme.

    The scheme is detected unless it is given. Tags that are no chunks (parts of speech) have one figure, the accuracy.

    Raises:
        TaskError: sentences or their tags do not pair, nothing to score, or tags the scheme does not have.
    """
    _check_sentences(predictions, references)
    if scheme is not None and scheme not in SCHEMES:
        raise TaskError(f"no tag scheme is called '{scheme}'{nearest(scheme, SCHEMES)}; there are {', '.join(SCHEMES)}")
    figures = _accuracy(predictions, references)
    if scheme is None and not has_chunk_tags(references):
        return {"accuracy": figures}
    scheme = scheme or detect_scheme(references, predictions)
    check_scheme(scheme, [*references, *predictions])
    types: dict[str, int] = {}
    gold, predicted = read_tags(references, types), read_tags(predictions, types)
    lenient = lenient_chunks(predicted), lenient_chunks(gold)
    strict = strict_chunks(predicted, scheme), strict_chunks(gold, scheme)
    overall = _overall(*lenient)
    return {
        **overall,
        "accuracy": figures,
        **{
            f"strict_{name}": value
            for name, value in _overall(*strict).items()
            if name in ("f1", "precision", "recall")
        },
        "num_tokens": sum(map(len, references)),
        "per_type": _per_type(*lenient, types),
    }


def tag_accuracy(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> Scores:
    """The share of tokens whose tag is predicted, over all sentences (conlleval.pl's accuracy).

    Raises:
        TaskError: sentences or their tags do not pair, or there is nothing to score.
    """
    _check_sentences(predictions, references)
    return {"tag_accuracy": _accuracy(predictions, references)}


def _check_sentences(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> None:
    check_paired(predictions, references)
    for number, (guesses, golds) in enumerate(zip(predictions, references, strict=True), start=1):
        if isinstance(guesses, str) or isinstance(golds, str):
            raise TaskError(f"sentence {number} is one text where a list of tags belongs")
        if len(guesses) != len(golds):
            raise TaskError(f"sentence {number} has {len(guesses)} predicted tags for {len(golds)} reference tags")
    if not any(map(len, references)):
        raise TaskError("there is nothing to score: no sentence has a tag")
    check_names(chain.from_iterable(predictions), "predictions")
    check_names(chain.from_iterable(references), "references")


def _accuracy(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> float:
    correct = sum(map(eq, chain.from_iterable(predictions), chain.from_iterable(references)))
    return ratio(correct, sum(map(len, references)))


def _overall(predicted: Chunks, gold: Chunks) -> dict[str, float]:
    correct, num_predicted, num_gold = len(matching(predicted, gold).start_K), len(predicted.start_K), len(gold.start_K)
    figures = precision_recall_f1(correct, num_predicted, num_gold)
    return {
        "f1": figures["f1"],
        "precision": figures["precision"],
        "recall": figures["recall"],
        "correct": correct,
        "predicted": num_predicted,
        "gold": num_gold,
    }


def _per_type(predicted: Chunks, gold: Chunks, types: dict[str, int]) -> dict[str, dict[str, float]]:
    sides = (matching(predicted, gold), predicted, gold)
    correct, num_predicted, num_gold = (np.bincount(side.type_K, minlength=len(types)).tolist() for side in sides)
    return {
        name: {
            **precision_recall_f1(correct[place], num_predicted[place], num_gold[place]),
            "correct": correct[place],
            "predicted": num_predicted[place],
            "gold": num_gold[place],
        }
        for name, place in sorted(types.items())
    }
