"""bertkit export."""

from pathlib import Path
from typing import Annotated

import typer

from bertkit.cli.console import ConsoleWatcher, errors_as_one_line
from bertkit.cli.options import Run


def export(
    run: Run = None,
    output_dir: Annotated[Path | None, typer.Option(help="Folder to write; RUN/export if left out.")] = None,
) -> None:
    """Write a run's last checkpoint as a stock BERT folder that plain transformers opens, checked logit for logit.

    Example: bertkit export runs/base --output-dir my-bert
    """
    with errors_as_one_line():
        from bertkit.workflows.export import export as run_export

        with ConsoleWatcher():
            typer.echo(str(run_export(run, output_dir=output_dir)))
