"""From a config to the examples of a task: a named one or the user's own files, on the same footing from here on."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from bertkit.config.finetune import FinetuneConfig, TaskConfig
from bertkit.errors import TaskError
from bertkit.tasks.conll import detect_scheme
from bertkit.tasks.layouts import has_split, read_split
from bertkit.tasks.own_files import (
    Columns,
    detect_problem,
    label_names,
    read_examples,
    resolve_columns,
    split_examples,
)
from bertkit.tasks.registry import find_task
from bertkit.tasks.spec import Example, FinetuneDefaults, ProblemName, Splits, TaskSpec

logger = logging.getLogger(__name__)

# What own files are scored with; the first figure chooses the best checkpoint.
_METRICS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1"),
    "regression": ("pearson", "spearman", "mse"),
    "multi_label": ("multi_label",),
    "tagging": ("tagging",),
    "span_qa": ("squad",),
    "multiple_choice": ("accuracy",),
}
_DEFAULTS = {
    "span_qa": FinetuneDefaults(max_seq_length=384, doc_stride=128),
    "tagging": FinetuneDefaults(learning_rate=5e-5, max_seq_length=128),
}
# Problems whose own files are always tables.
_TABLES = ("classification", "regression", "multi_label", "multiple_choice")

NO_COLUMNS = Columns()


@dataclass(frozen=True)
class TaskData:
    """The examples of a task: those to train on, those to score by split, and the labels in the model's order.

    columns: where own files hold them, for prediction to repeat.
    """

    spec: TaskSpec
    train: list[Example]
    evaluate: dict[str, list[Example]]
    labels: tuple[str, ...]
    columns: Columns = NO_COLUMNS

    def content_hash(self) -> str:
        """A fingerprint of what is trained on: texts and labels, in order."""
        return _fingerprint(self.train)

    def evaluation_hash(self) -> str:
        """A fingerprint of what is scored, split by split."""
        return _fingerprint(chain.from_iterable(self.evaluate.values()))


def _fingerprint(examples: Iterable[Example]) -> str:
    digest = xxhash.xxh3_128()
    for example in examples:
        digest.update(repr((example.texts, example.label)).encode())
    return digest.hexdigest()


def load_task(config: FinetuneConfig) -> TaskData:
    """Reads every example that `config` trains on and scores.

    Raises:
        TaskError: a file or a row cannot be used; names the file, the row and the remedy.
    """
    task = config.task
    data = _named(task, task.name) if task.name is not None else _own(task)
    if not data.train:
        raise TaskError(f"{data.spec.name} has no example to train on")
    # Every seed trains on and is scored on the same examples.
    train = _subset(data.train, task.max_train_examples)
    evaluate = {split: _subset(rows, task.max_eval_examples) for split, rows in data.evaluate.items()}
    return replace(data, train=train, evaluate=evaluate)


def find_spec(task: TaskConfig) -> TaskSpec:
    """The value of a named task; of own files, what is known before they are read."""
    if task.name is not None:
        return find_task(task.name)
    problem: ProblemName = "classification" if task.problem == "auto" else task.problem
    return own_spec(task, problem)


def own_spec(task: TaskConfig, problem: ProblemName) -> TaskSpec:
    """The user's own files as a task like any other."""
    return TaskSpec(
        name=Path(task.train or "own").name.split(".")[0],
        problem=problem,
        texts=task.texts,
        label=task.label or "label",
        splits=Splits(evaluate=("eval",)),
        metrics=_METRICS[problem],
        defaults=_DEFAULTS.get(problem, FinetuneDefaults()),
    )


def read_own(path: str, task: TaskConfig, spec: TaskSpec) -> list[Example]:
    """The labelled examples of one of the user's own files.

    Raises:
        TaskError: it cannot be used; names the row.
    """
    return read_examples(path, spec.problem, columns_of(task))


def columns_of(task: TaskConfig) -> Columns:
    """The columns that `task` names."""
    return Columns(texts=task.texts, label=task.label, choices=task.choices)


def with_fitting_metrics(spec: TaskSpec, examples: Sequence[Example]) -> TaskSpec:
    """The spec with the metrics its labels call for: tags of entities or of single words, questions without answer."""
    # A word without a tag is told by the check.
    tags = [example.label for example in examples if isinstance(example.label, tuple)]
    if spec.problem == "tagging" and detect_scheme(tags) == "none":  # type: ignore[arg-type]
        return replace(spec, metrics=("tag_accuracy",))
    if spec.problem == "span_qa" and spec.metrics == ("squad",) and any(example.label == () for example in examples):
        logger.info("some questions have no answer, so they are scored as in SQuAD 2.0")
        return replace(spec, metrics=("squad_v2",))
    return spec


def _named(task: TaskConfig, name: str) -> TaskData:
    spec = find_task(name)
    if spec.splits.train is None:
        raise TaskError(
            f"{name} is only scored, with a model of {spec.scored_with}: bertkit evaluate RUN --data {name}"
        )
    data_dir = None if task.data_dir is None else Path(task.data_dir)
    train = read_split(spec, spec.splits.train, data_dir=data_dir)
    present = [split for split in spec.splits.evaluate if has_split(spec, split, data_dir)]
    for split in set(spec.splits.evaluate) - set(present):
        logger.warning("%s has no split %s here, so it is not scored", name, split)
    evaluate = {split: read_split(spec, split, data_dir=data_dir) for split in present}
    if not evaluate:
        train, held_out = split_examples(train, spec.problem, share=task.eval_share, seed=0)
        evaluate = {"heldout": held_out}
    return TaskData(spec, train, evaluate, spec.labels or label_names(train, spec.problem))


def _own(task: TaskConfig) -> TaskData:
    path = task.train
    if path is None:
        raise TaskError("no file to train on was named: --train FILE")
    columns = columns_of(task)
    if task.problem in ("auto", *_TABLES):
        columns = resolve_columns(path, "classification" if task.problem == "auto" else task.problem, columns)
        task = task.model_copy(update=vars_of(columns))
    problem: ProblemName = detect_problem(path, columns) if task.problem == "auto" else task.problem
    spec = own_spec(task, problem)
    train = read_own(path, task, spec)
    evaluate = {_split_name(path, task.evaluate): read_own(path, task, spec) for path in task.evaluate}
    spec = with_fitting_metrics(spec, [*train, *chain.from_iterable(evaluate.values())])
    if not evaluate:
        # The same examples are held out whatever the seed, so that seeds can be compared.
        train, held_out = split_examples(train, problem, share=task.eval_share, seed=0)
        evaluate = {"heldout": held_out}
    spec = replace(spec, splits=Splits(evaluate=tuple(evaluate)))
    return TaskData(spec, train, evaluate, label_names(train, problem), columns)


def vars_of(columns: Columns) -> dict[str, Any]:
    """The settings under 'task' that name `columns`."""
    return {"texts": columns.texts, "label": columns.label, "choices": columns.choices}


def _split_name(path: str, paths: Sequence[str]) -> str:
    """A file's name without its endings, or with them, or its whole path: the shortest that is its own."""
    shortenings: list[Callable[[str], str]] = [lambda each: Path(each).name.split(".")[0], lambda each: Path(each).name]
    for shorten in shortenings:
        if [shorten(each) for each in paths].count(shorten(path)) == 1:
            return shorten(path)
    return path


def _subset(examples: list[Example], size: int | None) -> list[Example]:
    """Up to `size` examples, always the same, in their own order."""
    if size is None or size >= len(examples):
        return examples
    chosen = np.sort(np.random.default_rng(0).permutation(len(examples))[:size])
    return [examples[number] for number in chosen]


def option_values(task: TaskConfig, spec: TaskSpec) -> dict[str, Any]:
    """What featurizing and decoding take from the config."""
    names = ("long_inputs", "max_query_length", "max_answer_length", "n_best_size")
    return {
        "max_seq_length": task.max_seq_length or spec.defaults.max_seq_length,
        "doc_stride": task.doc_stride,
        **{name: getattr(task, name) for name in names},
    }
