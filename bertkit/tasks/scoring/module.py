"""The metrics as `evaluate.Metric` classes that need no network and leave no files."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import evaluate
from datasets import Features, List, Value

from bertkit.tasks.scoring import classification, regression, tagging
from bertkit.tasks.scoring.answers import answers_by_id, check_answered, texts_by_id
from bertkit.tasks.scoring.checks import Scores
from bertkit.tasks.scoring.hans import hans
from bertkit.tasks.scoring.squad import squad, squad_v2

_NAME, _NUMBER, _NAMES = Value("string"), Value("float64"), List(Value("string"))


class OfflineMetric(evaluate.Metric):
    """A scoring function under the interface of `evaluate.Metric`; what is added stays in memory."""

    scorer: ClassVar[Callable[..., Scores]]
    prediction: ClassVar[Any] = _NAME
    reference: ClassVar[Any] = _NAME

    def __init__(self, config_name: str | None = None, **options: Any) -> None:
        super().__init__(config_name, **{**options, "keep_in_memory": True})

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=str(self.__doc__),
            citation="",
            features=Features({"predictions": self.prediction, "references": self.reference}),
        )

    def _build_data_dir(self) -> str:
        # The base class would make a folder in the user's cache, which stays empty: nothing is written there.
        return str(self._data_dir_root)

    def _compute(self, *, predictions: Sequence[Any], references: Sequence[Any], **options: Any) -> Scores:
        return type(self).scorer(predictions, references, **options)


class Accuracy(OfflineMetric):
    """The share of examples whose label is predicted."""

    scorer = staticmethod(classification.accuracy)


class F1(OfflineMetric):
    """F1 of the label that `compute(positive=...)` names."""

    scorer = staticmethod(classification.f1)


class MacroF1(OfflineMetric):
    """The mean F1 of all labels, and the table of each."""

    scorer = staticmethod(classification.macro_f1)


class Matthews(OfflineMetric):
    """Matthews' correlation of any number of classes."""

    scorer = staticmethod(classification.matthews)


class Pearson(OfflineMetric):
    """Pearson's correlation."""

    scorer = staticmethod(regression.pearson)
    prediction = reference = _NUMBER


class Spearman(OfflineMetric):
    """Spearman's rank correlation."""

    scorer = staticmethod(regression.spearman)
    prediction = reference = _NUMBER


class Mse(OfflineMetric):
    """The mean squared error."""

    scorer = staticmethod(regression.mse)
    prediction = reference = _NUMBER


class MultiLabel(OfflineMetric):
    """Micro and macro F1 and exact match of sets of labels."""

    scorer = staticmethod(classification.multi_label)
    prediction = reference = _NAMES


class Tagging(OfflineMetric):
    """Entity F1 as conlleval.pl has it, and strict."""

    scorer = staticmethod(tagging.tagging)
    prediction = reference = _NAMES


class TagAccuracy(OfflineMetric):
    """The share of tokens whose tag is predicted."""

    scorer = staticmethod(tagging.tag_accuracy)
    prediction = reference = _NAMES


class Hans(OfflineMetric):
    """Accuracy over HANS by the heuristics that `compute(heuristics=...)` lists."""

    scorer = staticmethod(hans)


class Squad(OfflineMetric):
    """F1 and exact match of SQuAD 1.1, in percent."""

    scorer = staticmethod(squad)
    prediction: ClassVar[Any] = {"id": _NAME, "prediction_text": _NAME, "no_answer_probability": _NUMBER}
    reference: ClassVar[Any] = {"id": _NAME, "answers": {"text": _NAMES}}

    def add(self, *, prediction: Any = None, reference: Any = None, **columns: Any) -> None:
        """Adds one prediction and its question."""
        self.add_batch(predictions=[prediction], references=[reference], **columns)

    def add_batch(self, *, predictions: Any = None, references: Any = None, **columns: Any) -> None:
        """Adds predictions and their questions, in any order; a question may lack its prediction."""
        rows = _a_row_for_each_question(predictions, references)
        questions = [{"id": key, "answers": {"text": texts}} for key, texts in answers_by_id(references).items()]
        super().add_batch(predictions=rows, references=questions, **columns)


class SquadV2(Squad):
    """F1 and exact match of SQuAD 2.0 in percent, and the best thresholds for no answer."""

    scorer = staticmethod(squad_v2)


def _a_row_for_each_question(
    predictions: Sequence[Mapping[str, Any]], references: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    # Columns of a metric are of one length: what was not predicted is a row without text, and comes last.
    texts, answers = texts_by_id(predictions), answers_by_id(references)
    check_answered(texts, answers)
    null_scores = {row["id"]: row.get("no_answer_probability") for row in predictions}
    keys = [key for key in texts if key in answers] + [key for key in answers if key not in texts]
    return [
        {"id": key, "prediction_text": texts.get(key), "no_answer_probability": null_scores.get(key)} for key in keys
    ]
