"""Every metric by its name."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import evaluate

from bertkit.errors import TaskError, nearest
from bertkit.tasks.scoring import module
from bertkit.tasks.scoring.checks import Scores

_CLASSES: Final[Mapping[str, type[module.OfflineMetric]]] = {
    "accuracy": module.Accuracy,
    "f1": module.F1,
    "macro_f1": module.MacroF1,
    "matthews": module.Matthews,
    "pearson": module.Pearson,
    "spearman": module.Spearman,
    "mse": module.Mse,
    "multi_label": module.MultiLabel,
    "tagging": module.Tagging,
    "tag_accuracy": module.TagAccuracy,
    "squad": module.Squad,
    "squad_v2": module.SquadV2,
    "hans": module.Hans,
}
METRICS: Final[Mapping[str, type[evaluate.Metric]]] = MappingProxyType(_CLASSES)


def score(name: str, predictions: Sequence[Any], references: Sequence[Any], **options: Any) -> Scores:
    """The figures of one metric, its headline first: what its `evaluate.Metric` computes, less the copy in Arrow.

    Raises:
        TaskError: an unknown metric (names the nearest), or input that it cannot score.
    """
    if name not in _CLASSES:
        raise TaskError(f"no metric is called '{name}'{nearest(name, _CLASSES)}; there are {', '.join(_CLASSES)}")
    return _CLASSES[name].scorer(predictions, references, **options)
