"""bertkit ablate."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bertkit.cli.completion import recipe_names
from bertkit.cli.console import errors_as_one_line, print_json, print_table, say_error
from bertkit.cli.options import AsJson, DryRun, Settings
from bertkit.errors import BertkitError
from bertkit.train.signals import exit_code
from bertkit.workflows.figures import duration

if TYPE_CHECKING:
    from bertkit.workflows.ablate.plan import AblationPlan
    from bertkit.workflows.ablate.run import AblationSummary

Table = Literal["objectives", "sizes", "masking", "steps", "features"]
# Trying again is right where a worker was lost (EX_TEMPFAIL); a bug is a bug.
LOST_EXIT, BROKEN_EXIT = 75, 1
MOST_NAMED = 8


Corpus = Annotated[str, typer.Argument(help="Text to pre-train on, as for bertkit pretrain; or a prepared folder.")]
Compared = Annotated[
    Table,
    typer.Option("--table", help="What to compare: the paper's Tables 5, 6 and 8, its Figure 5, or its Table 7."),
]
Tasks = Annotated[
    str | None,
    typer.Option(
        help="Tasks to fine-tune on, comma-separated: names such as cola, mrpc, conll2003; own files as FILE or "
        "TRAIN+EVAL. The table's own if left out."
    ),
]
DataDir = Annotated[Path | None, typer.Option(help="Folder with the files of named tasks; from the Hub if left out.")]
Budget = Annotated[
    str, typer.Option(help="Pre-training of every model, the same for all: 10m, 90s, 1.5h or 2000steps.")
]
Seeds = Annotated[int, typer.Option(min=1, help="Fine-tuning runs of every model and task.")]
Recipe = Annotated[
    str, typer.Option(help="Recipe the models are pre-trained by, or a YAML file.", autocompletion=recipe_names)
]
Parallel = Annotated[int | None, typer.Option(min=1, help="Cells to run side by side: one a GPU, or 1, if left out.")]
OutputDir = Annotated[
    Path | None, typer.Option(help="Folder; runs/CORPUS-TABLE if left out. What is finished in it is not run again.")
]


def ablate(
    corpus: Corpus,
    table: Compared,
    tasks: Tasks = None,
    data_dir: DataDir = None,
    budget: Budget = "10m",
    seeds: Seeds = 5,
    recipe: Recipe = "mini",
    parallel: Parallel = None,
    output_dir: OutputDir = None,
    settings: Settings = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Run one of the paper's comparisons on your own text: pre-train every variant alike, fine-tune each, tell apart.

    --set takes pretrain.KEY and finetune.KEY, for all variants alike.

    Example: bertkit ablate corpus/ --table objectives --tasks cola,mrpc --budget 10m --seeds 3
    """
    with errors_as_one_line():
        options = {"table": table, "tasks": tasks, "budget": budget, "seeds": seeds, "parallel": parallel}
        plan = _plan(corpus, data_dir, recipe, output_dir, options=options, settings=settings or [])
        if dry_run:
            _print_plan(plan, as_json=as_json)
            return
        from bertkit.cli.ablation import AblationConsole
        from bertkit.workflows.ablate.run import run_ablation

        with AblationConsole() as watch:
            summary = run_ablation(plan, watch=watch)
        if as_json:
            print_json(_as_dict(summary))
        else:
            print_summary(summary)
        _exit(summary)


def _plan(
    corpus: str,
    data_dir: Path | None,
    recipe: str,
    output_dir: Path | None,
    *,
    options: dict[str, Any],
    settings: list[str],
) -> "AblationPlan":
    from bertkit.cli.pretrain import corpus_name
    from bertkit.config.ablate import load_ablation
    from bertkit.workflows.ablate.plan import plan_ablation

    # A comparison knows its text and its tasks wherever it is continued from.
    place = str(Path(corpus).resolve()) if Path(corpus).exists() else corpus
    options |= {
        "pretrain.corpus": place,
        "finetune.task.data_dir": None if data_dir is None else str(data_dir.resolve()),
    }
    config = load_ablation(recipe, settings=settings, options=options)
    return plan_ablation(config, output_dir or Path("runs") / f"{corpus_name(place)}-{config.table}")


def _print_plan(plan: "AblationPlan", *, as_json: bool) -> None:
    """Every cell, and what they will about take."""
    from bertkit.workflows.ablate.cost import estimate_cost
    from bertkit.workflows.ablate.runners import count_workers

    cost = estimate_cost(plan, workers=count_workers(plan.config.parallel))
    if as_json:
        print_json({"path": str(plan.path), "cells": [cell.key for cell in plan.cells], "cost": asdict(cost)})
        return
    typer.echo(f"# would run in {plan.path}")
    for cell in plan.cells:
        typer.echo(cell.key)
    models, runs = len(plan.models), len(plan.runs)
    typer.echo(f"# {models:,} models to pre-train: about {duration(cost.pretraining_s / cost.models_at_once)}")
    if cost.finetuning_s is None:
        typer.echo(f"# {runs:,} runs of fine-tuning: how long is known once the examples are here (--data-dir)")
    else:
        counts = ", ".join(f"{key} {number:,}" for key, number in cost.examples.items())
        time_taken = duration(cost.finetuning_s / cost.runs_at_once)
        typer.echo(f"# {runs:,} runs of fine-tuning: about {time_taken} ({counts} examples)")
    as_bert = any(model.config.direction == "bilm" for model in plan.models)
    bilm = "; the biLM is taken to cost what a BERT of its shape does" if as_bert else ""
    typer.echo(f"# a guess from the rate at which this machine multiplies; finished cells are not taken out{bilm}")


def print_summary(summary: "AblationSummary") -> None:
    """The table for people, what every model got, what the paper published, and where it all lies."""
    from bertkit.config.ablate import parse_budget
    from bertkit.workflows.ablate.forms import got_grid, own_grid, paper_grid
    from bertkit.workflows.ablate.paper import PUBLISHED

    results = summary.results
    head, rows = own_grid(results)
    budget = parse_budget(results.budget).words
    print_table(f"{results.title}, every model pre-trained for {budget}", rows, header=head)
    head, rows = got_grid(results)
    print_table("What every model got", rows, header=head)
    if (grid := paper_grid(results)) is not None:
        print_table(f"The paper's {PUBLISHED[results.table].source}", grid[1], header=grid[0])
    for note in results.notes:
        typer.echo(note)
    typer.echo(f"report: {summary.path / 'report.html'}; table: {summary.path / 'table.md'} and table.csv")


def _as_dict(summary: "AblationSummary") -> dict[str, object]:
    return {
        "path": str(summary.path),
        **asdict(summary.results),
        "unfinished": [asdict(outcome) for outcome in summary.unfinished],
        "stopped_by": summary.stopped_by,
    }


def _exit(summary: "AblationSummary") -> None:
    """Says what is not in the table, and exits as the worst of it would."""
    for line in _unfinished(summary)[:MOST_NAMED]:
        say_error(line)
    if len(_unfinished(summary)) > MOST_NAMED:
        say_error(f"and {len(_unfinished(summary)) - MOST_NAMED:,} more: see {summary.path / 'logs'}")
    if summary.stopped_by:
        left = summary.results.total - summary.results.done
        typer.echo(
            f"stopped by {summary.stopped_by} with {left:,} cell{'s' * (left != 1)} to go; everything is saved in "
            f"{summary.path}, and the same command continues from there",
            err=True,
        )
        raise typer.Exit(exit_code(summary.stopped_by))
    states = {outcome.state for outcome in summary.unfinished}
    if "broken" in states:
        raise typer.Exit(BROKEN_EXIT)
    if "failed" in states:
        raise typer.Exit(BertkitError.exit_code)
    if "lost" in states:
        raise typer.Exit(LOST_EXIT)


def _unfinished(summary: "AblationSummary") -> list[str]:
    """A line a cell that failed, and one for all that were skipped for the same reason."""
    lines: dict[str, None] = {}
    for outcome in summary.unfinished:
        alike = sum(each.state == "skipped" and each.reason == outcome.reason for each in summary.unfinished)
        lines.setdefault(
            f"{alike:,} cell{'s are' if alike > 1 else ' is'} not run: {outcome.reason}"
            if alike
            else f"{outcome.key}: {outcome.reason}"
        )
    return list(lines)
