"""bertkit embed."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bertkit.cli.completion import run_folders
from bertkit.cli.console import ConsoleWatcher, errors_as_one_line, print_json
from bertkit.cli.options import AsJson
from bertkit.workflows.figures import duration


def embed(
    run: Annotated[
        str, typer.Argument(help="A run of any kind, a BERT's folder or a Hub id.", autocompletion=run_folders)
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="Files as `bertkit predict` reads them; - or nothing for standard input."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Parquet file to write, never over another.")] = Path("features.parquet"),
    layers: Annotated[
        str,
        typer.Option(help="last, second-to-last, sum-last-4, concat-last-4, weighted-all or embeddings."),
    ] = "last",
    level: Annotated[str, typer.Option(help="One vector a sentence, or a word.")] = "sentence",
    pooling: Annotated[
        str | None,
        typer.Option(help="sentence: mean (the default), cls, max; word: first piece (the default), mean, max."),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="Column of the text; twice for a pair. Guessed if left out.")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Write 16-bit numbers.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the vectors of texts or words, from any layers of an encoder as it is, to a Parquet file of any length.

    Example: bertkit embed runs/base reviews.csv --layers concat-last-4 --output features.parquet
    """
    with errors_as_one_line():
        from bertkit.workflows.embed import EmbedOptions
        from bertkit.workflows.embed import embed as run_embedding

        asked: Any = {"layers": layers, "level": level, "pooling": pooling}
        with ConsoleWatcher() as watch:
            summary = run_embedding(
                run,
                inputs or (),
                output=output,
                texts=text or (),
                options=EmbedOptions(half=half, **asked),
                watch=watch,
            )
        if as_json:
            print_json(asdict(summary))
            return
        pace = f"{summary.rows / max(summary.seconds, 1e-9):,.0f} rows/s"
        typer.echo(f"{output}: {summary.rows:,} rows, vectors of {summary.width} ({duration(summary.seconds)}, {pace})")
