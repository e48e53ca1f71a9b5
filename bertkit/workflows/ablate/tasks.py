"""The tasks of a comparison: named ones, and the user's own labelled files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bertkit.errors import ConfigError, TaskError
from bertkit.tasks.layouts import has_split, read_split
from bertkit.tasks.registry import find_task, list_tasks
from bertkit.tasks.spec import TaskSpec

# What parts the file to train on from the one to score; no path of Windows holds it by nature, as it does a colon.
EVALUATED_BY: Final = "+"
# What the paper's Tables 5 and 6 print, where it is not the figure that GLUE names first.
_METRIC_OF_PAPER: Final = {"glue/mrpc": "accuracy"}
_OF_ENDING: Final = {
    ".conll": "tagging", ".conllu": "tagging", ".iob": "tagging", ".iob2": "tagging", ".bio": "tagging",
    ".json": "span_qa",
}  # fmt: skip


@dataclass(frozen=True)
class ComparedTask:
    """A task: its key in folders, how a table names it, its name where it has one, and the settings under 'task'."""

    key: str
    title: str
    name: str | None
    settings: dict[str, Any]
    is_tagging: bool


def find_compared(text: str, *, data_dir: Path | None, metric: str | None = None) -> ComparedTask:
    """The task that an entry of --tasks means: a name such as mrpc, FILE, or TRAIN+EVAL for two own files.

    metric: the figure of the table; None: that of the paper's tables, or else the task's.

    Raises:
        TaskError: there is no such task, the entry is empty, or its files are not there.
    """
    if not text:
        raise TaskError("an entry of --tasks is empty: take out the comma beside it, or leave --tasks out")
    train, evaluate = _own_paths(text)
    if train is not None:
        return _own(train, evaluate)
    names = {spec.name for spec in list_tasks()}
    name = next((name for name in (text, f"glue/{text}") if name in names), text)
    if name not in names and Path(text).suffix:
        raise TaskError(f"there is no file {text}: --tasks takes names of tasks, FILE, and TRAIN{EVALUATED_BY}EVAL")
    return _named(find_task(name), data_dir, metric)


def require_distinct(tasks: list[ComparedTask]) -> None:
    """Checks that no two tasks would share a folder.

    Raises:
        ConfigError: two have one key.
    """
    keys = [task.key for task in tasks]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"--tasks names '{key}' twice: give every task once, and own files names of their own")


def _named(spec: TaskSpec, data_dir: Path | None, metric: str | None) -> ComparedTask:
    if spec.splits.train is None:
        raise TaskError(f"{spec.name} is only scored, with a model of {spec.scored_with}: leave it out of --tasks")
    settings: dict[str, Any] = {"task.name": spec.name, "task.metric": metric or _METRIC_OF_PAPER.get(spec.name)}
    if data_dir is not None:
        settings["task.data_dir"] = str(data_dir.resolve())
        for split in (spec.splits.train, *spec.splits.evaluate[:1]):
            if not has_split(spec, split, data_dir):
                read_split(spec, split, data_dir=data_dir)  # says which file is missing
    key = spec.name.rpartition("/")[2]
    return ComparedTask(key, key, spec.name, settings, spec.problem == "tagging")


def _own(train: Path, evaluate: Path | None) -> ComparedTask:
    if evaluate is not None and not evaluate.is_file():
        raise TaskError(f"there is no file {evaluate} to score, which --tasks names behind '{EVALUATED_BY}'")
    problem = _OF_ENDING.get(train.suffix.lower(), "auto")
    settings = {
        "task.train": str(train.resolve()),
        "task.evaluate": [] if evaluate is None else [str(evaluate.resolve())],
        "task.problem": problem,
    }
    key = train.name.split(".")[0]
    return ComparedTask(key, key, None, settings, problem == "tagging")


def _own_paths(text: str) -> tuple[Path | None, Path | None]:
    if Path(text).is_file():
        return Path(text), None
    train, _, evaluate = text.partition(EVALUATED_BY)
    return (Path(train), Path(evaluate)) if evaluate and Path(train).is_file() else (None, None)
