"""Which run of a folder is published: the run itself, or of several seeds or settings the best one."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertkit.config.finetune import FinetuneConfig
from bertkit.config.schema import PretrainConfig
from bertkit.errors import CheckpointError, refused_as
from bertkit.workflows.runs import RunFolder, newest_run
from bertkit.workflows.several import require_known_files, require_no_comparison
from bertkit.workflows.suite import SuiteSummary, best_cell, read_suite

# A suite over GLUE holds its runs as TASK/seed-N, any other as seed-N.
_DEEPEST = 2


@dataclass(frozen=True)
class Published:
    """A finished run with its results; `siblings` are the finished runs of its task by name, itself one of them.

    `chosen_from` is the folder of several where the best of them was to be found.
    """

    run: RunFolder
    results: dict[str, Any]
    name: str
    siblings: dict[str, dict[str, Any]]
    is_grid: bool = False
    chosen_from: Path | None = None

    @property
    def title(self) -> str:
        """What to call the model: the run's folder, or that of the several it is one of."""
        folder = self.run.path.resolve()
        is_one_of_several = len(self.siblings) > 1 or self.chosen_from is not None
        return folder.parent.name if is_one_of_several else folder.name

    @property
    def choice(self) -> str | None:
        """Which of several runs this is, in one sentence, where it was chosen among them."""
        if self.chosen_from is None:
            return None
        kind = "settings" if self.is_grid else "seeds"
        return f"{self.name} is the best of {len(self.siblings)} {kind} by {self.results['headline']}"


def published_run(path: Path | None) -> Published:
    """The run of a folder (the newest run by default) that is to be published.

    Raises:
        CheckpointError: there is no such run, or it is not finished, or the folder holds runs of several tasks or is
            a comparison.
        ConfigError: its config is damaged.
    """
    run = newest_run() if path is None else RunFolder(path)
    require_known_files(run)
    require_no_comparison(run.path)
    if not run.is_run() and run.results_file.is_file():
        return _best_of(read_suite(run.path))
    if not run.is_run():
        raise CheckpointError(f"{run.path} is not a run folder: name one that bertkit pretrain or finetune made")
    results = read_finished(run)
    suite = _suite_around(run) if "task" in results else None
    if suite is None:
        return Published(run, results, run.path.name, {run.path.name: results})
    name = run.path.resolve().relative_to(suite.path.resolve()).as_posix()
    return Published(run, results, name, _of_task(suite, results["task"]), suite.is_grid)


def read_finished(run: RunFolder) -> dict[str, Any]:
    """The results of a run of either kind that came to its end.

    Raises:
        CheckpointError: it did not, or its results are damaged.
        ConfigError: its config is damaged, which without its sections is taken for one of the other kind.
    """
    kind = "finetune" if run.is_finetuning() else "pretrain"
    run.read_config(FinetuneConfig if run.is_finetuning() else PretrainConfig)
    if not run.results_file.is_file():
        raise CheckpointError(f"{run.path} is not finished: run the same bertkit {kind} command again")
    if run.is_finetuning():
        return run.read_results()
    try:
        results = json.loads(run.results_file.read_text(encoding="utf-8"))
        return {**results, "step": int(results["step"]), "heldout": dict(results["heldout"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{run.results_file} is damaged: run bertkit evaluate {run.path} again") from error


def _best_of(suite: SuiteSummary) -> Published:
    tasks = sorted({results["task"] for results in suite.runs.values()})
    if len(tasks) != 1:
        first = next(iter(suite.runs), "TASK/seed-0")
        raise CheckpointError(
            f"{suite.path} holds runs of {len(tasks)} tasks: name one run, such as {suite.path / first}"
        )
    with refused_as(CheckpointError, f"{suite.path / 'results.json'} is damaged: run the same command again"):
        name, _ = best_cell(suite)
    run = RunFolder(suite.path / _as_posix(name))
    if not run.is_run():
        raise CheckpointError(f"{run.path}, the best run of {suite.path}, is gone: put it back, or name another run")
    siblings = _of_task(suite, tasks[0])
    return Published(run, read_finished(run), _as_posix(name), siblings, suite.is_grid, suite.path)


def _of_task(suite: SuiteSummary, task: str) -> dict[str, dict[str, Any]]:
    return {_as_posix(name): results for name, results in suite.runs.items() if results["task"] == task}


def _suite_around(run: RunFolder) -> SuiteSummary | None:
    """The several runs that this one is of."""
    for folder in list(run.path.resolve().parents)[:_DEEPEST]:
        if not RunFolder(folder).is_run() and (folder / "results.json").is_file():
            try:
                suite = read_suite(folder)
            except CheckpointError:
                continue
            if (run.path.resolve().relative_to(folder)).as_posix() in map(_as_posix, suite.runs):
                return suite
    return None


def _as_posix(name: str) -> str:
    return name.replace("\\", "/")
