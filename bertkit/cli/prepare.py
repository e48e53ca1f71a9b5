"""bertkit prepare."""

from dataclasses import asdict
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from bertkit.cli.console import ConsoleWatcher, errors_as_one_line, print_json, print_table
from bertkit.cli.options import AsJson, DryRun, Recipe, Settings
from bertkit.errors import redacted

if TYPE_CHECKING:
    from collections.abc import Callable

    from bertkit.workflows.prepare import PrepareSummary


class Executor(StrEnum):
    """Who runs the tasks of a preparation."""

    LOCAL = "local"
    RAY = "ray"
    SLURM = "slurm"


def prepare(
    corpus: Annotated[str, typer.Argument(help="Folder, file, glob, URL or Hub id of text.")],
    output_dir: Annotated[
        str, typer.Option(help="Folder for the tokenizer and the token store; a URL with --executor.")
    ],
    executor: Annotated[
        Executor | None, typer.Option(help="Share the work out with datatrove: on this machine, on Ray or on SLURM.")
    ] = None,
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
            typer.echo(
                f"# would prepare {redacted(corpus)} in {redacted(output_dir)}\n{dump_config(config.data)}", nl=False
            )
            return
        with ConsoleWatcher() as watch:
            prepared = _preparation(executor)
            needs_pairs = config.pairs.next_sentence == "nsp"
            summary = prepared(corpus, output_dir, config.data, needs_pairs=needs_pairs, on_progress=watch.work)
        if as_json:
            print_json(asdict(summary))
        else:
            print_table("Prepared already" if summary.reused else "Prepared", _rows(summary))


def _preparation(executor: Executor | None) -> "Callable[..., PrepareSummary]":
    if executor is None:
        from bertkit.workflows.prepare import prepare

        return prepare
    from bertkit.workflows.prepare_cluster import prepare_on_cluster

    return partial(prepare_on_cluster, executor=executor.value)


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
