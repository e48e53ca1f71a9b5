"""bertkit prepare."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bertkit.cli.console import ConsoleWatcher, errors_as_one_line, print_json, print_table
from bertkit.cli.options import AsJson, DryRun, Recipe, Settings

if TYPE_CHECKING:
    from bertkit.workflows.prepare import PrepareSummary


def prepare(
    corpus: Annotated[str, typer.Argument(help="Folder, file, glob, URL or Hub id of text.")],
    output_dir: Annotated[Path, typer.Option(help="Folder for the tokenizer and the token store.")],
    recipe: Recipe = "small",
    settings: Settings = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Train the vocabulary and tokenise the corpus once, for many runs at any sequence length.

    Example: bertkit prepare corpus/ --output-dir data/ --set data.tokenizer.vocab_size=16000
    """
    with errors_as_one_line():
        from bertkit.config.load import dump_config, find_recipe, load_config
        from bertkit.config.schema import PretrainConfig

        config = load_config(PretrainConfig, find_recipe(recipe), settings=settings or [], options={"corpus": corpus})
        if dry_run:
            typer.echo(f"# would prepare {corpus} in {output_dir}\n{dump_config(config.data)}", nl=False)
            return
        from bertkit.workflows.prepare import prepare as run_preparation

        with ConsoleWatcher() as watch:
            needs_pairs = config.pairs.next_sentence == "nsp"
            summary = run_preparation(corpus, output_dir, config.data, needs_pairs=needs_pairs, on_progress=watch.work)
        if as_json:
            print_json(asdict(summary))
        else:
            print_table("Prepared already" if summary.reused else "Prepared", _rows(summary))


def _rows(summary: "PrepareSummary") -> list[tuple[str, str]]:
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in summary.dropped.items())
    return [
        ("documents", f"{summary.documents:,} to train on, {summary.heldout_documents:,} held out"),
        ("sentences", f"{summary.sentences:,}"),
        ("tokens", f"{summary.tokens:,}"),
        ("vocabulary", f"{summary.vocab_size:,} pieces, {summary.unknown_share:.2%} of tokens unknown"),
        ("left out", dropped or "nothing"),
        ("token store", str(summary.output_dir)),
    ]
