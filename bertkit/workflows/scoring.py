"""Predictions on disk beside their gold labels, and what the official metrics make of them."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertkit.errors import CheckpointError
from bertkit.tasks.problem import Prediction
from bertkit.tasks.scoring import score
from bertkit.tasks.spec import Answer, Example, TaskSpec
from bertkit.workflows.prediction_lines import check_row
from bertkit.workflows.runs import kept_whole

# The figure of a metric that has several which stands for it; otherwise it goes by the metric's own name.
_HEADLINES = {"squad": "f1", "squad_v2": "best_f1", "tagging": "f1", "multi_label": "micro_f1", "hans": "accuracy"}


@dataclass(frozen=True)
class Judged:
    """A prediction and what it should have been; `texts` are the example's, none in files of earlier versions."""

    key: str
    prediction: Any
    label: Any
    probability: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)
    texts: tuple[str, ...] = ()

    def to_json(self, split: str) -> str:
        """One line of `predictions.jsonl`."""
        row = {"split": split, "key": self.key, "prediction": self.prediction, "label": _plain(self.label)}
        if self.probability is not None:
            row["probability"] = round(self.probability, 6)
        row |= self.details
        if self.columns:
            row["columns"] = self.columns
        if self.texts:
            row["texts"] = self.texts
        # Half of a character, which a text may hold, cannot be encoded: it is written as its escape.
        return json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def judge(examples: Iterable[Example], predictions: Iterable[Prediction], *, keep: Sequence[str] = ()) -> list[Judged]:
    """Pairs every labelled example with its prediction; `keep` names columns that the metric needs."""
    return [
        Judged(
            p.key,
            p.value,
            e.label,
            p.probability,
            p.details,
            {name: e.columns[name] for name in keep if name in e.columns},
            e.texts,
        )
        for e, p in zip(examples, predictions, strict=True)
        if e.label is not None
    ]


def score_split(spec: TaskSpec, judged: Sequence[Judged], *, null_threshold: float | None = None) -> dict[str, Any]:
    """What every metric of `spec` says, headline figures first; details such as figures by class come after."""
    figures: dict[str, Any] = {}
    details: dict[str, Any] = {}
    for metric in spec.metrics:
        predictions, references, options = _metric_inputs(spec, metric, judged, null_threshold)
        for name, value in score(metric, predictions, references, **options).items():
            # Counts are details: a table of figures has no room for them.
            (figures if isinstance(value, float) else details).setdefault(name, value)
    return {**figures, "num_examples": len(judged), **details}


def score_splits(
    spec: TaskSpec, judged: Mapping[str, Sequence[Judged]], *, null_threshold: float | None = None
) -> dict[str, dict[str, Any]]:
    """`score_split` of every split."""
    return {split: score_split(spec, rows, null_threshold=null_threshold) for split, rows in judged.items()}


def headline(spec: TaskSpec) -> str:
    """The figure that chooses the best checkpoint, higher is better."""
    return _HEADLINES.get(spec.metrics[0], spec.metrics[0])


def write_predictions(path: Path, judged: Mapping[str, Sequence[Judged]]) -> None:
    """Writes `predictions.jsonl`, whole or not at all.

    Raises:
        CheckpointError: it cannot be written.
    """
    with kept_whole(path) as aside, aside.open("w", encoding="utf-8", newline="\n") as file:
        for split, rows in judged.items():
            file.writelines(each.to_json(split) + "\n" for each in rows)


def read_predictions(path: Path, spec: TaskSpec) -> dict[str, list[Judged]]:
    """What `write_predictions` wrote, less the texts, which no metric needs.

    Raises:
        CheckpointError: the file is missing or damaged; names the line.
    """
    judged: dict[str, list[Judged]] = {}
    for split, each in iterate_predictions(path, spec, with_texts=False):
        judged.setdefault(split, []).append(each)
    return judged


def iterate_predictions(path: Path, spec: TaskSpec, *, with_texts: bool = True) -> Iterator[tuple[str, Judged]]:
    """The split and the content of every line of what `write_predictions` wrote, one line in memory at a time.

    Raises:
        CheckpointError: the file is missing or damaged; names the line.
    """
    number = 0
    try:
        # As bytes: texts may hold other characters that Python takes for the end of a line.
        with path.open("rb") as file:
            for line in file:
                number += 1
                split, judged = _read_line(line.decode("utf-8"), spec, with_texts=with_texts)
                yield split, judged
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): run bertkit finetune again") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged at line {number}: run bertkit finetune again") from error


def _read_line(line: str, spec: TaskSpec, *, with_texts: bool) -> tuple[str, Judged]:
    row = json.loads(line)
    check_row(row, spec.problem)
    known = {name: row.pop(name) for name in ("key", "prediction")}
    label, split, probability = row.pop("label"), row.pop("split"), row.pop("probability", None)
    columns, texts = row.pop("columns", {}), row.pop("texts", ())
    return split, Judged(
        **known,
        label=_label(label, spec),
        probability=probability,
        details=row,
        columns=columns,
        texts=tuple(texts) if with_texts else (),
    )


def _metric_inputs(
    spec: TaskSpec, metric: str, judged: Sequence[Judged], null_threshold: float | None
) -> tuple[list[Any], list[Any], dict[str, Any]]:
    if spec.problem == "span_qa":
        return _answers(judged, metric, null_threshold)
    options: dict[str, Any] = {"positive": spec.positive} if metric == "f1" else {}
    if metric == "hans":
        options = {"heuristics": [each.columns.get("heuristic") for each in judged]}
    convert = {"regression": float, "multi_label": list, "tagging": list}.get(spec.problem, str)
    return [convert(each.prediction) for each in judged], [convert(each.label) for each in judged], options


def _answers(
    judged: Sequence[Judged], metric: str, null_threshold: float | None
) -> tuple[list[Any], list[Any], dict[str, Any]]:
    predictions = []
    for each in judged:
        row = {"id": each.key, "prediction_text": each.prediction}
        if metric == "squad_v2":
            # The threshold is part of the metric here, so every question comes with its best span.
            row["prediction_text"] = each.details.get("best_span", each.prediction)
            row["no_answer_probability"] = float(each.details.get("null_score_difference", 0.0))
        predictions.append(row)
    references = [{"id": each.key, "answers": {"text": [a.text for a in each.label]}} for each in judged]
    return predictions, references, {"no_answer_threshold": null_threshold} if metric == "squad_v2" else {}


def _plain(label: Any) -> Any:
    """A label as JSON has it."""
    if isinstance(label, tuple):
        return [{"text": each.text, "start": each.start} if isinstance(each, Answer) else each for each in label]
    return label


def _label(value: Any, spec: TaskSpec) -> Any:
    if spec.problem == "span_qa":
        return tuple(Answer(each["text"], each["start"]) for each in value)
    return tuple(value) if isinstance(value, list) else value
