"""bertkit submit."""

from pathlib import Path
from typing import Annotated

import typer

from bertkit.cli.console import ConsoleWatcher, errors_as_one_line, print_table

app = typer.Typer(
    help="Write what a leaderboard takes.\n\nExample: bertkit submit glue runs/glue --data-dir glue_data",
    no_args_is_help=True,
)


@app.callback()
def _group() -> None:
    # With one command alone, typer would do without its name.
    pass


@app.command("glue")
def glue(
    runs_dir: Annotated[
        Path, typer.Argument(help="Folder of the runs, such as runs/glue; the best of each task is taken.")
    ],
    data_dir: Annotated[
        Path | None,
        typer.Option(help="The GLUE download with its test files; where the runs' data came from if left out."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Zip to write, never over another.")] = Path("submission.zip"),
) -> None:
    """Predict GLUE's test sets with the best run of every task, and zip them as gluebenchmark.com wants them.

    Example: bertkit submit glue runs/glue --data-dir glue_data
    """
    with errors_as_one_line():
        from bertkit.workflows.submit import submit_glue

        with ConsoleWatcher() as watch:
            submission = submit_glue(runs_dir, data_dir=data_dir, output=output, watch=watch)
            if submission.missing:
                why = "; ".join(f"{name} ({reason})" for name, reason in submission.missing.items())
                watch.note(
                    f"warning: the leaderboard takes whole submissions, and this one lacks {why}", style="yellow"
                )
        rows = [
            (name, str(run.path), f"{run.figure} {run.value:.4f}") for name, run in sorted(submission.files.items())
        ]
        print_table(f"{output}: {len(rows)} files", rows, header=("file", "run", "on dev"))
        if submission.missing:
            typer.echo(
                f"incomplete: {len(submission.missing)} of {len(rows) + len(submission.missing)} files are missing"
            )
