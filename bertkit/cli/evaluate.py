"""bertkit evaluate."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bertkit.cli.completion import run_folders
from bertkit.cli.console import ConsoleWatcher, errors_as_one_line, print_json, print_table
from bertkit.cli.options import AsJson

if TYPE_CHECKING:
    from bertkit.workflows.objectives import Objective


def evaluate(
    run: Annotated[
        str | None,
        typer.Argument(
            help="A run, a folder of runs, or a BERT with a head; the newest run if left out.",
            autocompletion=run_folders,
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Score on this instead: a labelled file, or a task such as hans.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the files of a task named by --data.")] = None,
    text: Annotated[
        list[str] | None, typer.Option("--text", help="Column of the text in --data; twice for a pair.")
    ] = None,
    label: Annotated[str | None, typer.Option("--label", help="Column of the label in --data.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score a run: a pre-trained one on its held-out text, a fine-tuned one with its task's official metrics.

    Example: bertkit evaluate runs/mnli --data other.tsv
    """
    with errors_as_one_line():
        from bertkit.errors import ConfigError
        from bertkit.workflows.runs import RunFolder, newest_run

        folder = newest_run() if run is None else RunFolder(Path(run))
        source = run or str(folder.path)
        if data is not None:
            _evaluate_on(source, data, data_dir, text, label, as_json)
        elif text or label or data_dir:
            raise ConfigError("--text, --label and --data-dir say how to read --data: name it too")
        elif folder.is_finetuning():
            _score_again(folder, as_json)
        elif not folder.is_run() and (folder.path / "results.json").is_file():
            _show_suite(folder.path, as_json)
        else:
            _evaluate_pretraining(folder.path, as_json)


def _evaluate_on(
    source: str, data: str, data_dir: Path | None, text: list[str] | None, label: str | None, as_json: bool
) -> None:
    from bertkit.cli.scores import print_scores
    from bertkit.config.finetune import TaskConfig
    from bertkit.workflows.evaluate_task import evaluate_on

    columns = TaskConfig(texts=tuple(text or ()), label=label)
    with ConsoleWatcher() as watch:
        results = evaluate_on(source, data, data_dir=data_dir, task=columns, watch=watch)
    if as_json:
        print_json(results)
    else:
        print_scores(f"{source} on {data}", results)


def _score_again(folder: Any, as_json: bool) -> None:
    from bertkit.cli.scores import print_run
    from bertkit.workflows.evaluate_task import score_again

    results = score_again(folder)
    if as_json:
        print_json({"run_dir": str(folder.path), **results})
    else:
        print_run(folder.path, results)


def _show_suite(folder: Path, as_json: bool) -> None:
    from bertkit.cli.scores import print_grid, print_suite
    from bertkit.workflows.suite import read_suite

    summary = read_suite(folder)
    if as_json:
        print_json({"run_dir": str(folder), "runs": summary.runs, "figures": summary.figures})
    else:
        (print_grid if summary.is_grid else print_suite)(summary)


def _evaluate_pretraining(folder: Path, as_json: bool) -> None:
    from bertkit.workflows.evaluate import evaluate as run_evaluation

    with ConsoleWatcher() as watch:
        results = run_evaluation(folder, watch=watch)
    if as_json:
        print_json({"run_dir": str(folder), **results})
    else:
        print_table(f"{folder} at step {results['step']:,}", score_rows(folder, results["heldout"]))


def score_rows(folder: Path, scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """Held-out scores of the run in a folder, each beside what it must beat."""
    term, words = ("mlm", "masked LM") if "mlm_loss" in scores else ("lm", "LM")
    alone = f"word frequencies alone: {scores['unigram_entropy']:.3f}"
    rows = [
        (f"{words} loss", f"{scores[f'{term}_loss']:.3f}  ({alone})"),
        (f"{words} accuracy", f"{scores[f'{term}_accuracy']:.1%}"),
        (f"{words} perplexity", f"{scores[f'{term}_perplexity']:,.1f}"),
    ]
    if "nsp_accuracy" in scores:
        baseline = f"always the same answer: {scores['nsp_majority']:.1%}"
        rows.append((f"{_objective(folder).pairs_title} accuracy", f"{scores['nsp_accuracy']:.1%}  ({baseline})"))
    return [*rows, ("held-out", f"{scores['num_instances']:,} instances, {scores['num_tokens']:,} tokens")]


def _objective(folder: Path) -> "Objective":
    from bertkit.config.load import read_yaml
    from bertkit.workflows.objectives import objective_of
    from bertkit.workflows.runs import RunFolder

    return objective_of(read_yaml(RunFolder(folder).config_file))
