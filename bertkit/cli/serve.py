"""bertkit serve."""

from typing import Annotated

import typer

from bertkit.cli.completion import run_folders
from bertkit.cli.console import ConsoleWatcher, errors_as_one_line, print_json
from bertkit.cli.options import AsJson


def serve(
    run: Annotated[
        str | None,
        typer.Argument(
            help="Run, BERT folder with a head, or Hub id; the newest run under runs/ if left out.",
            autocompletion=run_folders,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets every machine of the network in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen at; 0: any free one.")] = 8000,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """Serve a model on this machine: a page to try it in, and a JSON API that answers many at a time.

    Fills masks, classifies, tags, answers or chooses, as the model was trained to. Ctrl-C stops it once the requests
    under way are answered.

    Example: bertkit serve runs/reviews

    Example: curl -H 'Content-Type: application/json' -d '{"inputs": "What a film!"}' localhost:8000/api/predict
    """
    with errors_as_one_line():
        from bertkit.train.signals import exit_code
        from bertkit.workflows.serve.addresses import is_loopback
        from bertkit.workflows.serve.server import serve as run_server

        def tell(model: str, address: str) -> None:
            if as_json:
                print_json({"model": model, "url": address})
            else:
                typer.echo(f"{model} at {address} (Ctrl-C stops it)")
            if open_browser:
                typer.launch(address)

        with ConsoleWatcher() as watch:
            if not is_loopback(host):
                warning = f"warning: whoever reaches {host} may use this model: there is no password and no encryption"
                watch.note(warning, style="yellow")
            summary = run_server(run, host=host, port=port, on_ready=tell)
            said = f"{summary.answered:,} requests answered" + (
                f", {summary.refused:,} refused" if summary.refused else ""
            )
            watch.note(f"stopped by {summary.stopped_by}: {said}")
        raise typer.Exit(exit_code(summary.stopped_by))
