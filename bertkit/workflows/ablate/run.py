"""Every cell of a comparison, run or recognised, and the table written anew after each."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertkit.config.ablate import AblateConfig
from bertkit.config.load import differing_keys, dump_config, read_yaml, validate_config
from bertkit.errors import DISK_FULL, ConfigError
from bertkit.lock import LOCK_FILE, FolderLock
from bertkit.workflows.ablate.cells import Outcome, is_finished, require_own_results
from bertkit.workflows.ablate.examples import require_examples
from bertkit.workflows.ablate.forms import shown, to_csv, to_markdown
from bertkit.workflows.ablate.plan import AblationPlan, Cell, FinetuneCell, PretrainCell
from bertkit.workflows.ablate.report import write_report
from bertkit.workflows.ablate.results import AblationResults, collect, perplexity_of
from bertkit.workflows.ablate.runners import count_workers, one_by_one, side_by_side
from bertkit.workflows.ablate.todo import Todo
from bertkit.workflows.ablate.watch import AblationWatcher, UnwatchedAblation
from bertkit.workflows.prepare import prepare
from bertkit.workflows.runs import RunFolder, write_aside
from bertkit.workflows.several import COMPARISON_FILE

logger = logging.getLogger(__name__)

RESULTS_FILE, MARKDOWN_FILE, CSV_FILE = "results.json", "table.md", "table.csv"


@dataclass(frozen=True)
class AblationSummary:
    """The table as far as it came, and what did not: `stopped_by` names a signal, `unfinished` has the reasons."""

    path: Path
    results: AblationResults
    unfinished: tuple[Outcome, ...] = ()
    stopped_by: str | None = None


def run_ablation(plan: AblationPlan, *, watch: AblationWatcher | None = None) -> AblationSummary:
    """Pre-trains, fine-tunes and scores every cell that is not finished; the table on disk grows with each.

    A cell that fails is in the summary, and the others go on.

    Raises:
        BertkitError: whatever concerns all cells, in one sentence.
    """
    watch = watch or UnwatchedAblation()
    workers = count_workers(plan.config.parallel)
    is_new = _make_folder(plan.path)
    try:
        with FolderLock(plan.path):
            _pin(plan)
            if left := _left(plan):
                watch.begin("reading the examples of every task")
                require_examples(plan, left)
            _prepare(plan, watch)
            summary = _run_cells(plan, left, workers, watch)
            watch.begin("writing the report")
            write_report(plan, summary.results)
    except BaseException:
        if is_new:
            _abandon(plan.path)
        raise
    return summary


def _left(plan: AblationPlan) -> list[Cell]:
    retry = plan.config.finetune.train.retry_collapsed
    return [cell for cell in plan.cells if not is_finished(cell, retry_collapsed=retry)]


def _run_cells(plan: AblationPlan, left: list[Cell], workers: int, watch: AblationWatcher) -> AblationSummary:
    watch.planned(left, finished=len(plan.cells) - len(left), workers=workers)
    if plan.config.keep_models:
        _tell_of_models_gone(plan, left)
    results = _write(plan)
    if workers > 1:
        # Every worker trains a model first, so that all models are trained beside others.
        left = sorted(left, key=lambda cell: isinstance(cell, FinetuneCell))
    todo = Todo(left)
    unfinished: list[Outcome] = []
    stopped_by = None
    for cell, outcome in _outcomes(plan, todo, workers, watch):
        if outcome.state == "finished":
            results = _write(plan)
        watch.ended(cell, outcome, _figure_of(cell, results) if outcome.state == "finished" else "")
        skipped = todo.over(cell, outcome)
        for each in skipped:
            watch.ended(*each, "")
        if outcome.state == "stopped":
            stopped_by = outcome.reason
        elif outcome.state != "finished":
            unfinished += [outcome, *(each for _, each in skipped)]
    return AblationSummary(plan.path, results, tuple(unfinished), stopped_by)


def _tell_of_models_gone(plan: AblationPlan, left: Sequence[Cell]) -> None:
    """Says how many finished runs were scored before their models were asked for."""
    keys = {cell.key for cell in left}
    finished = [run for run in plan.runs if run.key not in keys]
    gone = sum(not RunFolder(run.path).export.is_dir() for run in finished)
    if gone:
        logger.warning(
            "%s",
            f"keep_models came late for {gone:,} of {len(finished):,} finished runs: their models are gone, and only "
            "another --output-dir trains them again",
        )


def _outcomes(plan: AblationPlan, todo: Todo, workers: int, watch: AblationWatcher) -> Iterator[tuple[Cell, Outcome]]:
    keep = plan.config.keep_models
    if workers == 1:
        return one_by_one(todo, plan.path, watch=watch, keep_models=keep)
    return side_by_side(todo, plan.path, workers=workers, watch=watch, keep_models=keep)


def _write(plan: AblationPlan) -> AblationResults:
    results = collect(plan)
    write_aside(plan.path / RESULTS_FILE, results.to_json())
    write_aside(plan.path / MARKDOWN_FILE, to_markdown(results))
    write_aside(plan.path / CSV_FILE, to_csv(results))
    return results


def _figure_of(cell: Cell, results: AblationResults) -> str:
    """What a finished cell came to, in words."""
    if isinstance(cell, PretrainCell):
        perplexity = perplexity_of(cell)
        return "" if perplexity is None else f"held-out perplexity {perplexity:,.1f}"
    row = next(row for row in results.rows if row.key == cell.row)
    figure = row.figures[cell.column]
    return f"{figure.values[cell.key]:.1f}; so far {shown(figure, results.runs_a_figure)}"


def _make_folder(path: Path) -> bool:
    """Whether the folder is new."""
    is_new = not path.exists()
    if not is_new and not (path / COMPARISON_FILE).is_file() and _holds_other_files(path):
        raise ConfigError(f"{path} exists and holds no comparison: choose another --output-dir")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remedy = "free some space" if error.errno in DISK_FULL else "choose another --output-dir"
        raise ConfigError(f"the folder {path} cannot be made: {error.strerror}; {remedy}") from error
    return is_new


def _abandon(path: Path) -> None:
    """Removes a new folder that never came to hold a part of a store or of a cell."""
    if not any(path.glob("store/*/*")) and not (path / "pretrain").exists():
        shutil.rmtree(path, ignore_errors=True)


def _holds_other_files(path: Path) -> bool:
    return not path.is_dir() or any(each.name != LOCK_FILE for each in path.iterdir())


def _pin(plan: AblationPlan) -> None:
    """Writes down what is compared, or checks that it is what the folder holds.

    Raises:
        ConfigError: it holds another comparison, or results of other tasks under the same names.
    """
    file = plan.path / COMPARISON_FILE
    if file.is_file():
        begun = validate_config(AblateConfig, read_yaml(file), source=str(file))
        if begun.table != plan.config.table:
            raise ConfigError(f"{plan.path} holds the table '{begun.table}': choose another --output-dir")
        if differing := differing_keys(begun, plan.config):
            raise ConfigError(
                f"{plan.path} holds another comparison, which differs in {', '.join(differing[:4])}: choose another "
                f"--output-dir, or give the settings of {file} to continue it"
            )
        for cell in plan.cells:
            require_own_results(cell)
    write_aside(file, dump_config(plan.config))


def _prepare(plan: AblationPlan, watch: AblationWatcher) -> None:
    config = plan.config.pretrain
    if plan.store == config.corpus or (plan.path / "store" / "manifest.json").is_file():
        return
    watch.begin("preparing the store that all models share")
    needs_pairs = any(model.config.pairs.next_sentence == "nsp" for model in plan.models)
    prepare(str(config.corpus), plan.store, config.data, needs_pairs=needs_pairs, on_progress=watch.work)
