"""bertkit serve."""

from typing import TYPE_CHECKING, Annotated

import typer

from bertkit.cli.completion import run_folders
from bertkit.cli.console import ConsoleWatcher, errors_as_one_line, print_json
from bertkit.cli.options import AsJson
from bertkit.workflows.serve.asked import Limits

if TYPE_CHECKING:
    from bertkit.workflows.serve.server import ServeSummary


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
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Name that a proxy on this machine is asked for by; may be given often.")
    ] = None,
    max_chars: Annotated[
        int, typer.Option(min=1, max=100_000_000, help="Characters a request may hold, all its inputs together.")
    ] = Limits.chars,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=86_400, help="Seconds a request may take to arrive, and again to be answered.")
    ] = Limits.seconds,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """Serve a model on this machine: a page to try it in, and a JSON API that answers many at a time.

    Fills masks, classifies, tags, answers or chooses, as the model was trained to.

    Ctrl-C stops it once the requests under way are answered.

    Example: bertkit serve runs/reviews

    Example: curl -H 'Content-Type: application/json' -d '{"inputs": "What a film!"}' localhost:8000/api/predict
    """
    with errors_as_one_line(after_a_stop="nothing was served yet"):
        from bertkit.train.signals import exit_code
        from bertkit.workflows.serve.addresses import is_loopback
        from bertkit.workflows.serve.server import serve as run_server

        with ConsoleWatcher() as watch:

            def tell(model: str, address: str) -> None:
                if not is_loopback(host):
                    warning = f"whoever reaches {host} may use this model: there is no password and no encryption"
                    watch.note(f"warning: {warning}", style="yellow")
                if as_json:
                    print_json({"model": model, "url": address})
                else:
                    typer.echo(f"{model} at {address} (Ctrl-C stops it)")
                if open_browser:
                    typer.launch(address)

            limits = Limits(chars=max_chars, seconds=timeout)
            summary = run_server(run, host=host, port=port, limits=limits, allow_hosts=allow_host or (), on_ready=tell)
            watch.note(f"stopped by {summary.stopped_by}: {_said(summary)}")
        raise typer.Exit(exit_code(summary.stopped_by))


def _said(summary: "ServeSummary") -> str:
    counts = summary.counts
    lost = counts.requests - counts.answered - counts.refused - counts.failed
    others = {"refused": counts.refused, "failed": counts.failed, "left without an answer": lost}
    return ", ".join(
        [f"{counts.answered:,} requests answered", *(f"{number:,} {what}" for what, number in others.items() if number)]
    )
