"""From the scores of starts and ends to answers: exact, vectorised, in constant memory (after run_squad).

Letters: E examples, F features (one a window of a context), T tokens of all features, S row length, L lengths of a
span, N spans that are kept, K candidates.
"""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertkit.data.features import Array, Features
from bertkit.tasks.problem import Prediction, ProblemOptions
from bertkit.tasks.spec import Example

FEATURES_AT_ONCE = 256
SPANS_SHOWN = 5


@dataclass(frozen=True)
class _Spans:
    """Candidates, best first within each example: number of the example, score, characters [start, end) [K]."""

    example: Array
    score: Array
    start: Array
    end: Array

    def __getitem__(self, chosen: Array) -> "_Spans":
        return _Spans(self.example[chosen], self.score[chosen], self.start[chosen], self.end[chosen])


def decode_spans(
    examples: Sequence[Example], features: Features, logits_T2: Array, options: ProblemOptions
) -> list[Prediction]:
    """The best span of every example's windows, or "" where `options.null_threshold` says that there is none.

    Of all spans up to `max_answer_length` tokens whose start has maximum context, the `n_best_size` best are kept.
    details: start, end: characters of the best span, `best_span` its text, whatever the answer; null_score_difference:
    score of no answer over that of the best span, for whoever looks for a threshold; n_best: texts and probabilities.
    """
    if not examples:
        return []
    spans = _best_spans(features, logits_T2, options)
    null_F = logits_T2[features.bounds[:-1]].astype(np.float64).sum(-1)
    first_F = np.searchsorted(features.example_of, np.arange(len(examples)))
    null_E = np.minimum.reduceat(null_F, first_F)
    bounds = np.searchsorted(spans.example, np.arange(len(examples) + 1))
    return [
        _prediction(example, spans[np.arange(start, end)], float(null), options.null_threshold)
        for example, start, end, null in zip(examples, bounds[:-1], bounds[1:], null_E, strict=True)
    ]


def _best_spans(features: Features, logits_T2: Array, options: ProblemOptions) -> _Spans:
    chunks = [
        _spans_of_features(features, np.arange(first, min(first + FEATURES_AT_ONCE, len(features))), logits_T2, options)
        for first in range(0, len(features), FEATURES_AT_ONCE)
    ]
    spans = _Spans(
        *(np.concatenate([getattr(c, name) for c in chunks]) for name in ("example", "score", "start", "end"))
    )
    spans = spans[np.lexsort((spans.end, spans.start, -spans.score, spans.example))]
    rank_K = np.arange(len(spans.score)) - np.searchsorted(spans.example, spans.example)
    return spans[np.flatnonzero(rank_K < options.n_best_size)]


def _spans_of_features(features: Features, chosen_F: Array, logits_T2: Array, options: ProblemOptions) -> _Spans:
    place_FS, start_FS, end_FS = _rows(features, chosen_F, logits_T2)
    num_lengths = min(options.max_answer_length, end_FS.shape[1])
    # The end of the span of length l + 1 that starts at s is end_FS[s + l]; nothing ends behind the row.
    end_FS = np.pad(end_FS, ((0, 0), (0, num_lengths - 1)), constant_values=-np.inf)
    ends_FSL = np.lib.stride_tricks.sliding_window_view(end_FS, num_lengths, axis=1)
    # The N best spans start at the N starts whose own best span is best.
    start_FN = _largest(start_FS + ends_FSL.max(-1), options.n_best_size)
    row_F1 = np.arange(len(chosen_F))[:, None]
    score_FNL = start_FS[row_F1, start_FN][..., None] + ends_FSL[row_F1, start_FN]
    span_FN = _largest(score_FNL.reshape(len(chosen_F), -1), options.n_best_size)
    score_FN = score_FNL.reshape(len(chosen_F), -1)[row_F1, span_FN]
    first_FN = start_FN[row_F1, span_FN // num_lengths]
    row_K, column_K = np.nonzero(np.isfinite(score_FN))
    first_K, length_K = first_FN[row_K, column_K], span_FN[row_K, column_K] % num_lengths
    offsets = features.alignment["offsets"]
    return _Spans(
        example=features.example_of[chosen_F][row_K],
        score=score_FN[row_K, column_K],
        start=offsets[place_FS[row_K, first_K], 0],
        end=offsets[place_FS[row_K, first_K + length_K], 1],
    )


def _rows(features: Features, chosen_F: Array, logits_T2: Array) -> tuple[Array, Array, Array]:
    """[F, S] each: places in [T], and the scores of starts and ends, -inf where none may be."""
    lengths_F = features.lengths[chosen_F]
    column_S = np.arange(lengths_F.max())
    place_FS = features.bounds[chosen_F][:, None] + np.minimum(column_S, lengths_F[:, None] - 1)
    inside_FS = (column_S < lengths_F[:, None]) & (features.alignment["offsets"][place_FS, 1] > 0)
    logits_FS2 = logits_T2[place_FS].astype(np.float64)
    start_FS = np.where(inside_FS & features.alignment["max_context"][place_FS], logits_FS2[..., 0], -np.inf)
    return place_FS, start_FS, np.where(inside_FS, logits_FS2[..., 1], -np.inf)


def _largest(values: Array, count: int) -> Array:
    """The places of the `count` largest values of every row, in no order."""
    if values.shape[1] <= count:
        return np.broadcast_to(np.arange(values.shape[1]), values.shape)
    return np.argpartition(-values, count - 1, axis=1)[:, :count]


def _prediction(example: Example, spans: _Spans, null_score: float, null_threshold: float | None) -> Prediction:
    context, scores = example.texts[1], dict[str, float]()
    ends = [_whole_character(context, end) for end in spans.end.tolist()]
    for start, end, score in zip(spans.start.tolist(), ends, spans.score.tolist(), strict=True):
        # The same words further on are the same answer.
        scores.setdefault(context[start:end], score)
    start, end = (int(spans.start[0]), ends[0]) if ends else (0, 0)
    # Without any span the best one counts as 0, as in run_squad, and the answer is none whatever the threshold.
    difference = null_score - scores.get(context[start:end], 0.0)
    has_answer = bool(ends) and (null_threshold is None or difference <= null_threshold)
    if not ends or null_threshold is not None:
        scores[""] = null_score
    probabilities = _softmax(scores)
    answer = context[start:end] if has_answer else ""
    details: dict[str, Any] = {
        "start": start,
        "end": end,
        "best_span": context[start:end],
        "null_score_difference": difference,
        "n_best": _most_probable(probabilities),
    }
    return Prediction(example.key, answer, probabilities[answer], details)


def _whole_character(context: str, end: int) -> int:
    """A span that ends in a letter whose accents follow it ends behind them: tokenizers leave accents out."""
    while end < len(context) and unicodedata.category(context[end]).startswith("M"):
        end += 1
    return end


def _softmax(scores: dict[str, float]) -> dict[str, float]:
    highest = max(scores.values())
    raised = {text: math.exp(score - highest) for text, score in scores.items()}
    total = sum(raised.values())
    return {text: value / total for text, value in raised.items()}


def _most_probable(probabilities: dict[str, float]) -> list[dict[str, Any]]:
    best = sorted(probabilities.items(), key=lambda item: -item[1])[:SPANS_SHOWN]
    return [{"text": text, "probability": round(probability, 4)} for text, probability in best]
