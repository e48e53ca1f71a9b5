"""What the predictions of a run show, and those of bertkit evaluate --data: a set of sections a split."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from bertkit.errors import BertkitError
from bertkit.tasks.spec import TaskSpec
from bertkit.workflows.evaluate_task import described
from bertkit.workflows.report.answers import AnswerReport
from bertkit.workflows.report.blocks import Block, Note, Section, Tabs
from bertkit.workflows.report.choices import ChoiceReport
from bertkit.workflows.report.labels import LabelReport
from bertkit.workflows.report.multi_label import MultiLabelReport
from bertkit.workflows.report.regression import NumberReport
from bertkit.workflows.report.tags import TagReport
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.scoring import Judged, iterate_predictions

logger = logging.getLogger(__name__)


class _Report(Protocol):
    """What is said of the predictions of one split."""

    def add(self, judged: Judged) -> None: ...

    def sections(self, salt: str) -> list[Section]: ...


def prediction_sections(run: RunFolder, salt: str) -> list[Section]:
    """The sections of every split of a finished run, and of other data it was scored on; beside one another as tabs."""
    try:
        spec, options = described(run)
        splits = _sections_of(run.predictions_file, spec, options, f"{salt}-split")
    except BertkitError as error:
        return [Section("Predictions", [Note(f"The predictions cannot be read: {error}", "warning")])]
    if not splits:
        return [Section("Predictions", [Note("predictions.jsonl is empty: the predictions are lost.", "warning")])]
    damaged: list[Block] = []
    for number, path in enumerate(_on_other_data(run, "predictions.jsonl")):
        try:
            found = _sections_of(path, spec, options, f"{salt}-other{number}-")
        except BertkitError as error:
            damaged.append(Note(f"Predictions on other data cannot be read: {error}", "warning"))
        else:
            splits |= {_name(path, split): sections for split, sections in found.items()}
    return [*_side_by_side(splits), *([Section("Other data", damaged)] if damaged else [])]


def scores_on_other_data(run: RunFolder) -> dict[str, dict[str, Any]]:
    """What bertkit evaluate --data kept of a run, by data and split; a damaged file is passed over with a warning."""
    found: dict[str, dict[str, Any]] = {}
    for path in _on_other_data(run, "results.json"):
        try:
            scores = json.loads(path.read_text(encoding="utf-8"))["scores"]
            found |= {_name(path, split): dict(figures) for split, figures in scores.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            logger.warning("%s is damaged and left out: run bertkit evaluate again", path)
    return found


def _on_other_data(run: RunFolder, ending: str) -> list[Path]:
    return sorted((run.path / "evaluations").glob(f"*.{ending}"))


def _name(path: Path, split: str) -> str:
    """The data's name; with that of the split where a task has several. The rows of a file are one split, `data`."""
    data = path.name.removesuffix(".predictions.jsonl").removesuffix(".results.json")
    return data if split == "data" else f"{data}: {split}"


def _sections_of(path: Path, spec: TaskSpec, options: Mapping[str, Any], salt: str) -> dict[str, list[Section]]:
    """The sections of every split, read line by line: what is kept of a prediction is a few numbers."""
    make: Mapping[str, Callable[[], _Report]] = {
        "classification": lambda: LabelReport(spec.labels),
        "multi_label": lambda: MultiLabelReport(spec.labels, options.get("thresholds")),
        "regression": NumberReport,
        "tagging": TagReport,
        "span_qa": lambda: AnswerReport(options.get("null_threshold")),
        "multiple_choice": ChoiceReport,
    }
    reports: dict[str, _Report] = {}
    for split, judged in iterate_predictions(path, spec):
        if split not in reports:
            reports[split] = make[spec.problem]()
        reports[split].add(judged)
    return {split: report.sections(f"{salt}{number}") for number, (split, report) in enumerate(reports.items())}


def _side_by_side(splits: Mapping[str, Sequence[Section]]) -> list[Section]:
    """The sections of one split as they are, those of several under common titles."""
    if len(splits) == 1:
        return list(next(iter(splits.values())))
    titles = dict.fromkeys(section.title for sections in splits.values() for section in sections)
    return [Section(title, [Tabs(title, _panels(title, splits))]) for title in titles]


def _panels(title: str, splits: Mapping[str, Sequence[Section]]) -> list[tuple[str, Sequence[Block]]]:
    return [
        (split, section.blocks) for split, sections in splits.items() for section in sections if section.title == title
    ]
