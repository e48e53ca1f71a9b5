"""bertkit predict."""

from pathlib import Path
from typing import Annotated

import typer

from bertkit.cli.completion import run_folders
from bertkit.cli.console import ConsoleWatcher, errors_as_one_line, is_main_process
from bertkit.workflows.figures import duration


def predict(
    run: Annotated[
        str,
        typer.Argument(help="Fine-tuning run, BERT folder with a head, or Hub id.", autocompletion=run_folders),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files: .csv, .tsv, .jsonl, .parquet (.gz too), .txt with a text a line, CoNLL columns, SQuAD .json; "
            "- or nothing for standard input: a text a line, a tab between the two of a pair, or JSON objects.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="File to write, never over another: .csv, .tsv, .jsonl, .parquet; .conll for tags, .json for SQuAD's "
            "predictions. Standard output if left out.",
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            help="Column of the text; give it twice for a pair, for choices the context first. As in training, or "
            "guessed, if left out."
        ),
    ] = None,
    sentence: Annotated[
        list[str] | None,
        typer.Option(help="A sentence itself; may be repeated. A model of pairs takes two at a time, in turn."),
    ] = None,
    probabilities: Annotated[
        bool,
        typer.Option("--probabilities", help="Add the probability of every label, not of the predicted one alone."),
    ] = False,
) -> None:
    """Predict the rows of files, of standard input, or single sentences; each row is kept, with its prediction added.

    Adds `prediction` and `probability`; a row that cannot be used keeps its place, with an `error` in their stead.

    Example: bertkit predict runs/reviews new.csv --output predictions.csv

    Example: bertkit predict runs/reviews --sentence "What a film!"
    """
    with errors_as_one_line():
        from bertkit.workflows.predict import predict as run_prediction

        with ConsoleWatcher() as watch:
            summary = run_prediction(
                run,
                inputs or (),
                output=output or typer.get_text_stream("stdout", encoding="utf-8"),
                sentences=sentence or (),
                texts=text or (),
                with_probabilities=probabilities,
                watch=watch,
            )
        if output is not None and is_main_process():
            pace = f"{summary.rows / max(summary.seconds, 1e-9):,.0f} rows/s"
            typer.echo(f"{output}: {summary.rows:,} rows in {duration(summary.seconds)} ({pace})")
