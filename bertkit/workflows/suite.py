"""Several fine-tuning runs as one: seeds, the paper's grid, all tasks of GLUE; what is finished is not run again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from bertkit.config.finetune import FinetuneConfig
from bertkit.errors import CheckpointError, ConfigError
from bertkit.tasks.layouts import has_split, read_split
from bertkit.tasks.registry import find_task
from bertkit.train.processes import launched_processes
from bertkit.workflows.finetune import FinetuneSummary, finetune
from bertkit.workflows.runs import RunFolder, write_aside
from bertkit.workflows.several import require_known_files, require_no_comparison
from bertkit.workflows.watch import Unwatched, Watcher

# Devlin et al. 2019, appendix A.3: what to search for each task.
PAPER_GRID: Mapping[str, Sequence[Any]] = {
    "train.global_batch_size": (16, 32),
    "optim.learning_rate": (5e-5, 3e-5, 2e-5),
    "train.epochs": (2, 3, 4),
}
GRIDS = {"paper": PAPER_GRID}
_GRID_WORDS = {"train.global_batch_size": "batch", "optim.learning_rate": "rate", "train.epochs": "epochs"}
# The nine tasks whose figures GLUE averages; the paper left WNLI out (section 4.1).
GLUE_TASKS = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
# Each task's figures, averaged first within the task (gluebenchmark.com).
GLUE_FIGURES = {
    "cola": ("matthews",),
    "mrpc": ("f1", "accuracy"),
    "qqp": ("f1", "accuracy"),
    "stsb": ("pearson", "spearman"),
}


@dataclass(frozen=True)
class Cell:
    """One run of a suite: its config and its folder."""

    config: FinetuneConfig
    path: Path


@dataclass(frozen=True)
class SuiteSummary:
    """The results of every run by its folder, and what they come to; `stopped_by` names a signal."""

    path: Path
    runs: dict[str, dict[str, Any]]
    figures: dict[str, Any]
    stopped_by: str | None = None

    @property
    def is_grid(self) -> bool:
        """Whether these are the cells of a grid, of which one is the best, and not seeds, which have a mean."""
        return any(name.startswith("batch") for name in self.runs)


def seeds_of(config: FinetuneConfig, path: Path, num_seeds: int) -> list[Cell]:
    """One cell a seed, counted up from the config's."""
    first = config.train.seed
    return [
        Cell(with_values(config, {"train.seed": seed}), path / f"seed-{seed}")
        for seed in range(first, first + num_seeds)
    ]


def grid_of(config: FinetuneConfig, path: Path, grid: str) -> list[Cell]:
    """One cell for every combination of the grid's values.

    Raises:
        ConfigError: there is no such grid, or its rates are not for what is trained.
    """
    if grid not in GRIDS:
        raise ConfigError(f"there is no grid '{grid}': give {' or '.join(GRIDS)}")
    if config.model.is_feature_based:
        # A BiLSTM from its beginning learns nothing at the rates that suit a pre-trained encoder.
        raise ConfigError(f"--grid {grid} is for an encoder that is fine-tuned: leave it or --feature-based out")
    names, values = list(GRIDS[grid]), list(GRIDS[grid].values())
    cells = []
    for chosen in product(*values):
        given = dict(zip(names, chosen, strict=True))
        label = "-".join(f"{_GRID_WORDS[name]}{value:g}" for name, value in given.items())
        cells.append(Cell(with_values(config, {**given, "train.max_steps": None}), path / label))
    return cells


def glue_suite(config: FinetuneConfig, path: Path, num_seeds: int, *, grid: str | None = None) -> list[Cell]:
    """One cell for every GLUE task and seed, in `path`/TASK/seed-N.

    Raises:
        ConfigError: a grid was asked for too.
        TaskError: a task's files are missing, which should not be found out after hours.
    """
    if grid is not None:
        raise ConfigError("--grid searches one task at a time: bertkit finetune glue TASK --grid paper")
    tasks = {name: with_values(config, {"task.name": f"glue/{name}"}) for name in GLUE_TASKS}
    if config.task.data_dir is not None:
        _require_files([f"glue/{name}" for name in GLUE_TASKS], Path(config.task.data_dir))
    return [cell for name, task in tasks.items() for cell in seeds_of(task, path / name, num_seeds)]


def _require_files(names: Sequence[str], data_dir: Path) -> None:
    for spec in map(find_task, names):
        for split in (spec.splits.train, spec.splits.evaluate[0]):
            if split is not None and not has_split(spec, split, data_dir):
                read_split(spec, split, data_dir=data_dir)  # says which file is missing


def with_values(config: FinetuneConfig, values: Mapping[str, Any]) -> FinetuneConfig:
    """The config with some values, by dotted key, put in the place of its own."""
    for dotted, value in values.items():
        section, _, name = dotted.partition(".")
        inner = getattr(config, section).model_copy(update={name: value})
        config = config.model_copy(update={section: inner})
    return config


def run_cells(cells: Sequence[Cell], path: Path, *, watch: Watcher | None = None) -> SuiteSummary:
    """Runs the cells in order, and writes what they come to as `path`/results.json after each.

    Raises:
        BertkitError: whatever the user can mend, in one sentence.
    """
    watch = watch or Unwatched()
    if RunFolder(path).is_run():
        raise ConfigError(f"{path} holds a single run: choose another --output-dir for several")
    runs: dict[str, dict[str, Any]] = {}
    # A suite that goes on, or is asked for less than last time, forgets nothing that is finished.
    written = dict(read_suite(path).runs) if (path / "results.json").is_file() else {}
    for number, cell in enumerate(cells):
        watch.begin(f"run {number + 1} of {len(cells)}: {cell.path}")
        summary: FinetuneSummary = finetune(cell.config, cell.path, watch=watch)
        if summary.stopped_by is not None:
            return SuiteSummary(path, runs, summarise(runs), summary.stopped_by)
        runs[str(cell.path.relative_to(path))] = summary.results
        written |= {str(cell.path.relative_to(path)): summary.results}
        if launched_processes().is_main:
            together = {"runs": written, "figures": summarise(written)}
            write_aside(path / "results.json", json.dumps(together, indent=2) + "\n")
    return SuiteSummary(path, runs, summarise(runs))


def read_suite(path: Path) -> SuiteSummary:
    """What `run_cells` wrote.

    Raises:
        CheckpointError: the file is damaged, or that of a comparison, or of a run which has lost a file it is known by.
    """
    require_known_files(RunFolder(path))
    require_no_comparison(path)
    try:
        written = json.loads((path / "results.json").read_text(encoding="utf-8"))
        return SuiteSummary(path, written["runs"], summarise(written["runs"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path / 'results.json'} is not that of several runs, or is damaged") from error


def summarise(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds of every task's figures, how many runs collapsed, and GLUE's average."""
    by_task: dict[str, list[Mapping[str, Any]]] = {}
    for results in runs.values():
        by_task.setdefault(results["task"], []).append(results)
    figures = {task: _over_seeds(rows) for task, rows in by_task.items()}
    glue = {task.removeprefix("glue/"): rows for task, rows in by_task.items() if task.startswith("glue/")}
    if len(glue) > 1:
        averaged = {name: _glue_score(name, rows) for name, rows in glue.items()}
        figures["glue average"] = {"value": mean(averaged.values()), "tasks": averaged}
    return figures


def best_cell(summary: SuiteSummary) -> tuple[str, float]:
    """The run of the best headline figure, and that figure."""
    scored = {name: headline_value(results) for name, results in summary.runs.items()}
    best = max(scored, key=lambda name: scored[name])
    return best, scored[best]


def headline_value(results: Mapping[str, Any]) -> float:
    """The figure that chose a run's checkpoint."""
    for split, scores in results["scores"].items():
        name = results["headline"].removeprefix(f"{split}_")
        if name in scores and results["headline"] == f"{split}_{name}":
            return float(scores[name])
    raise ConfigError(f"results of {results['task']} have no figure {results['headline']}: run it again")


def _over_seeds(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    figures: dict[str, Any] = {"runs": len(rows), "collapsed": sum(bool(row["collapsed"]) for row in rows)}
    for split, scores in rows[0]["scores"].items():
        for name, value in scores.items():
            # Whole numbers are counts: of examples, of entities.
            if isinstance(value, float):
                values = [float(row["scores"][split][name]) for row in rows]
                deviation = stdev(values) if len(values) > 1 else None
                figures[f"{split}_{name}"] = {"mean": mean(values), "deviation": deviation, "values": values}
    return figures


def _glue_score(task: str, rows: Sequence[Mapping[str, Any]]) -> float:
    """A task's figure in GLUE's average, mean over seeds: several figures and splits are averaged first."""
    names = GLUE_FIGURES.get(task, ("accuracy",))
    return float(mean(mean(scores[name] for scores in row["scores"].values() for name in names) for row in rows))
