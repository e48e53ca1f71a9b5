"""The official metrics, computed by numpy and Python alone, offered as `evaluate.Metric` classes."""

from bertkit.tasks.scoring.answers import exact_match, normalize_answer, token_f1
from bertkit.tasks.scoring.checks import Scores
from bertkit.tasks.scoring.chunks import Scheme, detect_scheme
from bertkit.tasks.scoring.classification import confusion_matrix
from bertkit.tasks.scoring.registry import METRICS, score
from bertkit.tasks.scoring.squad import best_null_threshold

__all__ = [
    "METRICS",
    "Scheme",
    "Scores",
    "best_null_threshold",
    "confusion_matrix",
    "detect_scheme",
    "exact_match",
    "normalize_answer",
    "score",
    "token_f1",
]
