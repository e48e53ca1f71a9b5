"""Scores as tables: of one run, of several seeds, of a grid."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.cli.console import print_table
from bertkit.workflows.figures import duration, printed

if TYPE_CHECKING:
    from bertkit.workflows.suite import SuiteSummary


def print_run(folder: Path, results: Mapping[str, Any]) -> None:
    """One fine-tuned model: every figure of every split, and what the run cost."""
    rows = [(f"{split}: {name}", shown) for split, name, shown in _figures(results)]
    rows += [
        *_method(results),
        ("trained", f"{results['step']:,} steps, {duration(results['elapsed_s'])}"),
        ("training examples", f"{results['num_train_examples']:,}"),
        ("best checkpoint", f"step {results['best_step']:,}, by {results['headline']}"),
        ("run folder", str(folder)),
        ("model for transformers", str(folder / "export")),
    ]
    if results["collapsed"]:
        from bertkit.config.finetune import FinetuneConfig
        from bertkit.workflows.runs import RunFolder
        from bertkit.workflows.selection import collapse_remedy

        model = RunFolder(folder).read_config(FinetuneConfig).model.model_dump()
        rows.append(("collapsed", f"{results['collapsed']}: {collapse_remedy(model)}"))
    print_table(f"Fine-tuned on {results['task']}", rows)


def _method(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How a BiLSTM read the encoder, if one did."""
    if not results.get("layers"):
        return []
    kept = "frozen" if results["method"] == "feature-based" else "fine-tuned"
    rows = [("method", f"{results['method']}: a BiLSTM on {results['layers']} of a {kept} encoder")]
    if shares := results["layer_shares"]:
        rows.append(("share of each layer", ", ".join(f"{name} {share:.1%}" for name, share in shares.items())))
    return rows


def print_scores(title: str, results: Mapping[str, Any]) -> None:
    """The figures of every split."""
    print_table(title, [(f"{split}: {name}", shown) for split, name, shown in _figures(results)])


def print_suite(summary: "SuiteSummary") -> None:
    """Mean and standard deviation over seeds, a row a figure."""
    rows = []
    problems = {results["task"]: results["problem"] for results in summary.runs.values()}
    for task, figures in summary.figures.items():
        if task == "glue average":
            rows.append((task, f"over {len(figures['tasks'])} tasks", f"{100 * figures['value']:.1f}", "", ""))
            continue
        for name, figure in figures.items():
            if isinstance(figure, dict):
                seeds = f"{figures['runs']}" + (f", {figures['collapsed']} collapsed" if figures["collapsed"] else "")
                deviation = "" if figure["deviation"] is None else printed(name, figure["deviation"], problems[task])
                rows.append((task, name, printed(name, figure["mean"], problems[task]), deviation, seeds))
    print_table(str(summary.path), rows, header=("task", "figure", "mean", "deviation", "seeds"))


def print_grid(summary: "SuiteSummary") -> None:
    """A row a cell, the best one named."""
    from bertkit.workflows.suite import best_cell, headline_value

    best, _ = best_cell(summary)
    rows = [
        (name, printed(r["headline"], headline_value(r), r["problem"]), "best" if name == best else "")
        for name, r in summary.runs.items()
    ]
    headline = next(iter(summary.runs.values()))["headline"]
    print_table(str(summary.path), rows, header=("run", headline, ""))


def _figures(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (split, name, printed(name, value, results["problem"]))
        for split, scores in results["scores"].items()
        for name, value in scores.items()
        if isinstance(value, int | float)
    ]
