"""bertkit report."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from bertkit.cli.completion import run_folders
from bertkit.cli.console import ConsoleWatcher, errors_as_one_line, print_json
from bertkit.cli.options import AsJson


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders of runs, or of several runs; the newest run if left out.", autocompletion=run_folders
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="File to write; report.html in the folder of the run if left out.")
    ] = None,
    opens: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show runs as one HTML page that needs no network: curves, health, confusion, calibration, mistakes, masked words.

    Example: bertkit report runs/base runs/small --output report.html
    """
    with errors_as_one_line():
        from bertkit.workflows.report.page import write_report

        with ConsoleWatcher() as watch:
            summary = write_report(runs or [], output=output, watch=watch)
        if as_json:
            print_json(
                {
                    "report": str(summary.path),
                    "bytes": summary.path.stat().st_size,
                    "runs": [str(each) for each in summary.runs],
                    "plots": [str(each) for each in summary.plots],
                }
            )
        else:
            typer.echo(str(summary.path))
        if opens:
            webbrowser.open(summary.path.resolve().as_uri())
