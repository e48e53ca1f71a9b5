"""bertkit demo."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bertkit.cli.console import ConsoleWatcher, errors_as_one_line, print_json, print_table
from bertkit.cli.options import AsJson, Settings

if TYPE_CHECKING:
    from bertkit.workflows.demo import DemoSummary
    from bertkit.workflows.fill_mask import FilledMask


def demo(
    output_dir: Annotated[
        Path, typer.Option(help="Folder for the corpus and the run; an existing one is continued.")
    ] = Path("runs/demo"),
    max_minutes: Annotated[float | None, typer.Option(help="Minutes to pre-train.")] = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Pre-train a small BERT on the docstrings of the installed packages and fine-tune it: the whole story, offline.

    Example: bertkit demo --max-minutes 2
    """
    with errors_as_one_line():
        from bertkit.cli.pretrain import exit_if_stopped, print_summary, summary_as_dict
        from bertkit.config.load import find_recipe, load_config
        from bertkit.config.schema import PretrainConfig
        from bertkit.workflows.demo import demo as run_demo

        options = {"train.max_minutes": max_minutes}
        config = load_config(PretrainConfig, find_recipe("demo"), settings=settings or [], options=options)
        with ConsoleWatcher() as watch:
            summary = run_demo(config, output_dir, watch=watch)
        if as_json:
            filled = {each.sentence: dict(each.words) for each in summary.filled}
            task = summary.finetuning.results if summary.finetuning else None
            print_json({**summary_as_dict(summary.pretraining), "fill_mask": filled, "task": task})
        else:
            print_summary(summary.pretraining)
            _print_filled(summary.filled)
            _print_task(summary)
        exit_if_stopped(summary.pretraining)


def _print_filled(filled: "tuple[FilledMask, ...]") -> None:
    if filled:
        rows = [(each.sentence, ", ".join(f"{word} {score:.0%}" for word, score in each.words)) for each in filled]
        print_table("fill-mask, by plain transformers", rows)


def _print_task(summary: "DemoSummary") -> None:
    if summary.finetuning is None or summary.task is None or not summary.finetuning.results:
        return
    results = summary.finetuning.results
    scores = results["scores"]["eval"]
    guessed = f"always the same answer: {summary.task.majority:.1%}"
    rows = [
        ("packages", ", ".join(summary.task.packages)),
        ("accuracy", f"{scores['accuracy']:.1%}  ({guessed})"),
        ("trained on", f"{results['num_train_examples']:,} sentences, scored on {scores['num_examples']:,}"),
        ("run folder", str(summary.finetuning.run_dir)),
    ]
    print_table("Fine-tuned: which package does a sentence come from?", rows)
