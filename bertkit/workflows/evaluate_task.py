"""Scores a fine-tuned model: its run's predictions once more, or other labelled data."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from bertkit.config.finetune import FinetuneConfig, TaskConfig
from bertkit.errors import CheckpointError, ConfigError, TaskError
from bertkit.tasks.layouts import has_split, read_split
from bertkit.tasks.registry import find_task, list_tasks
from bertkit.tasks.spec import Example, GlueFiles, TaskSpec
from bertkit.train.processes import launched_processes
from bertkit.workflows.finetuned import Finetuned, open_finetuned
from bertkit.workflows.runs import RunFolder, write_aside
from bertkit.workflows.scoring import judge, read_predictions, score_splits, write_predictions
from bertkit.workflows.task_data import read_own, with_fitting_metrics
from bertkit.workflows.watch import Unwatched, Watcher

logger = logging.getLogger(__name__)


def score_again(run: RunFolder) -> dict[str, Any]:
    """The results of a finished fine-tuning run, its `predictions.jsonl` scored once more.

    Raises:
        CheckpointError: there are no predictions, or they are damaged.
    """
    spec, options = described(run)
    judged = read_predictions(run.predictions_file, spec)
    results = run.read_results()
    kept = {split: scores["num_examples"] for split, scores in results["scores"].items()}
    if {split: len(rows) for split, rows in judged.items()} != kept:
        raise CheckpointError(
            f"{run.predictions_file} is cut short: put it back, or remove {run.results_file} and run the same "
            "bertkit finetune command again"
        )
    return {**results, "scores": score_splits(spec, judged, null_threshold=options.get("null_threshold"))}


def described(run: RunFolder) -> tuple[TaskSpec, dict[str, Any]]:
    """The task of a finished run and the options its model carries.

    Raises:
        ConfigError: the run is not finished.
    """
    if not run.results_file.is_file():
        raise ConfigError(f"{run.path} is not finished: run the same bertkit finetune command again")
    options = run.read_results()["options"]
    named = {spec.name: spec for spec in list_tasks()}
    if options["task"] in named:
        return named[options["task"]], options
    config = run.read_config(FinetuneConfig)
    own = TaskSpec(options["task"], options["problem"], config.task.texts, metrics=tuple(options["metrics"]))
    return own, options


def evaluate_on(
    source: str,
    data: str,
    *,
    data_dir: Path | None = None,
    task: TaskConfig | None = None,
    watch: Watcher | None = None,
) -> dict[str, Any]:
    """Scores the model of `source` on `data`: a labelled file, or a named task such as hans, labels matched by name.

    Of a run, predictions and scores are kept as `evaluations/NAME.*`.

    Raises:
        TaskError: the data cannot be used, is of another kind of problem, or shares no label with the model.
    """
    watch = watch or Unwatched()
    with launched_processes().watched():
        model = open_finetuned(source)
        spec, splits = _read(model, data, data_dir, task)
        _match_labels(model, spec, splits, data)
        watch.begin(f"predicting {sum(map(len, splits.values())):,} examples")
        predict = model.predictor.predict
        judged = {split: judge(rows, predict(rows), keep=spec.columns) for split, rows in splits.items()}
    model.predictor.say_what_was_cut()
    writes = model.accelerator.is_main_process
    run = RunFolder(Path(source))
    name = Path(data).name.split(".")[0] if Path(data).is_file() else data.replace("/", "-")
    kept = run.path / "evaluations" / f"{name}.predictions.jsonl"
    if run.is_finetuning() and writes:
        write_predictions(kept, judged)
    scores = score_splits(spec, judged, null_threshold=model.predictor.options.null_threshold)
    results = {"task": spec.name, "problem": spec.problem, "model": source, "data": data, "scores": scores}
    if run.is_finetuning() and writes:
        write_aside(kept.with_name(f"{name}.results.json"), json.dumps(results, indent=2) + "\n")
    return results


def _read(
    model: Finetuned, data: str, data_dir: Path | None, task: TaskConfig | None
) -> tuple[TaskSpec, dict[str, list[Example]]]:
    if Path(data).is_file():
        # A table of other data may have other columns than that which was trained on.
        asked = task or TaskConfig()
        own = model.config.task if model.config is not None else TaskConfig()
        columns = asked if asked.texts or asked.label else _official_columns(data, model.spec) or own
        spec = replace(model.spec, splits=replace(model.spec.splits, evaluate=("data",)))
        examples = _in_words(_labelled(read_own(data, columns, spec), data), spec, data)
        return with_fitting_metrics(spec, examples) if spec.problem == "span_qa" else spec, {"data": examples}
    names = [spec.name for spec in list_tasks()]
    if data not in names and Path(data).suffix:
        raise TaskError(f"{data} does not exist: give a labelled file, or one of {', '.join(names)}")
    spec = find_task(data)
    if spec.problem != model.spec.problem:
        raise TaskError(f"{data} is a task of {spec.problem}, and the model one of {model.spec.problem}")
    own_dir = model.config.task.data_dir if model.config is not None else None
    place = data_dir or (Path(own_dir) if own_dir else None)
    present = [split for split in spec.splits.evaluate if has_split(spec, split, place)]
    if not spec.splits.evaluate:
        raise TaskError(
            f"the labels of {data} are the leaderboard's secret: bertkit submit glue writes its predictions"
        )
    # Where no file is there, reading the first one says which it should be.
    present = present or [spec.splits.evaluate[0]]
    return spec, {split: read_split(spec, split, data_dir=place) for split in present}


def _official_columns(data: str, spec: TaskSpec) -> TaskConfig | None:
    """The columns of the task's own layout, where the file is in it."""
    files = spec.files
    if not isinstance(files, GlueFiles) or files.label is None or not data.endswith(".tsv"):
        return None
    with Path(data).open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline().rstrip("\n").split("\t")
    named = {str(column) for column in (*files.texts, files.label)}
    if files.has_header and not named <= set(header):
        return None
    return TaskConfig(texts=tuple(map(str, files.texts)), label=str(files.label))


def _in_words(examples: list[Example], spec: TaskSpec, data: str) -> list[Example]:
    """Labels that are numbers into the names of a GLUE task, as its own files have them, by these names."""
    names = {str(number): name for number, name in enumerate(spec.labels)}
    if not isinstance(spec.files, GlueFiles) or not names or any(example.label not in names for example in examples):
        return examples
    logger.info("the labels of %s are numbers, taken as %s", data, ", ".join(f"{n} {names[n]}" for n in names))
    return [replace(example, label=names[str(example.label)]) for example in examples]


def _labelled(examples: list[Example], data: str) -> list[Example]:
    labelled = [example for example in examples if example.label is not None]
    if not labelled:
        raise TaskError(f"{data} has no labels to score against: bertkit predict needs none")
    if len(labelled) < len(examples):
        logger.warning(
            "%d of %d rows of %s have no label and are not scored", len(examples) - len(labelled), len(examples), data
        )
    return labelled


def _match_labels(model: Finetuned, spec: TaskSpec, splits: dict[str, list[Example]], data: str) -> None:
    """Labels are matched by name: those the model cannot give are told, and no label in common is an error."""
    if model.spec.problem not in ("classification", "multi_label", "tagging"):
        return
    found: set[str] = set()
    for rows in splits.values():
        for example in rows:
            found.update(example.label if isinstance(example.label, tuple) else [str(example.label)])  # type: ignore[arg-type]
    if spec.scored_with is not None:
        # Its own labels are other names for those of the task it is scored with.
        found = set(find_task(spec.scored_with).labels) if found.isdisjoint(model.labels) else found & set(model.labels)
    unknown = sorted(found - set(model.labels))
    if unknown and len(unknown) == len(found):
        raise TaskError(
            f"{data} has the labels {', '.join(unknown[:10])}, and the model gives {', '.join(model.labels[:10])}: "
            "labels are matched by name, so rename one or the other"
        )
    if unknown:
        logger.warning("the model cannot give %s of %s: such rows count as wrong", ", ".join(unknown[:10]), data)
