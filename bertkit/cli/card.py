"""bertkit card."""

from pathlib import Path
from typing import Annotated

import typer

from bertkit.cli.console import ConsoleWatcher, errors_as_one_line
from bertkit.cli.options import Language, License, Run


def card(
    run: Run = None,
    output: Annotated[
        Path | None,
        typer.Option(help="File to write, with plots/training.png if that lies beside it; printed if left out."),
    ] = None,
    repo_id: Annotated[str | None, typer.Option(help="OWNER/NAME that its examples load.")] = None,
    license: License = None,
    language: Language = None,
) -> None:
    """Print a run's model card as push-to-hub would write it, from results.json, config.yaml and metrics.jsonl.

    Example: bertkit card runs/cola --license apache-2.0
    """
    with errors_as_one_line():
        from bertkit.workflows.card import card as run_card

        with ConsoleWatcher():
            text = run_card(run, output=output, repo_id=repo_id, license=license, language=language)
        typer.echo(str(output) if output else text, nl=output is not None)
