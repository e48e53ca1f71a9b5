"""Thresholds that are found on the scored split and travel with the model."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bertkit.config.finetune import TaskConfig
from bertkit.tasks.problem import ProblemOptions
from bertkit.tasks.scoring import best_null_threshold, token_f1
from bertkit.tasks.spec import TaskSpec
from bertkit.workflows.scoring import Judged


def tuned_options(
    task: TaskConfig, spec: TaskSpec, options: ProblemOptions, judged: Sequence[Judged]
) -> ProblemOptions:
    """The options with the null threshold of best F1 (SQuAD 2.0), or every label's own where `task` asks for it."""
    if "squad_v2" in spec.metrics:
        return replace(options, null_threshold=_null_threshold(judged))
    if spec.problem == "multi_label" and task.thresholds == "tuned":
        return replace(options, thresholds=tuple(_best_threshold(judged, name) for name in options.labels))
    return options


def _null_threshold(judged: Sequence[Judged]) -> float:
    """The null score difference above which to give no answer, for the best F1 that a threshold really reaches."""
    threshold, _ = best_null_threshold(
        [float(each.details["null_score_difference"]) for each in judged],
        [_best_f1(each.details["best_span"], [answer.text for answer in each.label]) for each in judged],
        [bool(each.label) for each in judged],
    )
    return float(threshold)


def _best_f1(text: str, answers: Sequence[str]) -> float:
    return max((token_f1(text, answer) for answer in answers), default=0.0)


def _best_threshold(judged: Sequence[Judged], label: str) -> float:
    """The probability from which `label` counts for its best F1; 0.5 where the label never occurs."""
    probabilities = np.array([each.details["probabilities"][label] for each in judged])
    has = np.array([label in each.label for each in judged])
    if not has.any():
        return 0.5
    order = np.argsort(-probabilities, kind="stable")
    hits = np.cumsum(has[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + has.sum())
    ranked = probabilities[order]
    # Between equal probabilities there is no threshold.
    f1[:-1][ranked[:-1] == ranked[1:]] = -1
    best = int(f1.argmax())
    following = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float((ranked[best] + following) / 2)
