"""bertkit pretrain."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bertkit.cli.completion import recipe_names, run_folders
from bertkit.cli.console import ConsoleWatcher, errors_as_one_line, is_main_process, print_json, print_table
from bertkit.cli.launch import NumProcesses, start_processes
from bertkit.cli.options import NO_OTHER_LENGTH, AsJson, DryRun, Settings
from bertkit.errors import redacted
from bertkit.train.signals import exit_code
from bertkit.workflows.figures import duration

if TYPE_CHECKING:
    from bertkit.config.schema import PretrainConfig
    from bertkit.workflows.pretrain import PretrainSummary


def pretrain(
    corpus: Annotated[
        str,
        typer.Argument(
            help="Folder, file, glob, URL or Hub id of text; a folder made by bertkit prepare; or a run to continue."
        ),
    ],
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Name of a shipped recipe (bertkit recipes ls) or a YAML file; small if left out.",
            autocompletion=recipe_names,
        ),
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="Run folder; runs/CORPUS-RECIPE if left out. An existing run is continued.")
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="BERT folder or Hub id to continue from, with its tokenizer and shape.",
            autocompletion=run_folders,
        ),
    ] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(help="Train this long instead of the recipe's length; the schedule follows the clock."),
    ] = None,
    nproc: NumProcesses = None,
    settings: Settings = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Pre-train a BERT on a folder of text with masked LM and next sentence prediction; evaluate and export it.

    Example: bertkit pretrain corpus/ --recipe mini --set optim.learning_rate=1e-3
    """
    with errors_as_one_line():
        from bertkit.config.load import dump_config

        config, run_dir = _resolve(corpus, recipe, output_dir, init_from, max_minutes, settings or [])
        if dry_run:
            if is_main_process():
                typer.echo(f"# would run in {run_dir}\n{dump_config(config)}", nl=False)
            return
        start_processes(nproc)
        from bertkit.workflows.pretrain import pretrain as run_pretraining

        with ConsoleWatcher() as watch:
            summary = run_pretraining(config, run_dir, watch=watch)
        if is_main_process() and as_json:
            print_json(summary_as_dict(summary))
        elif is_main_process():
            print_summary(summary)
        exit_if_stopped(summary)


def _resolve(
    corpus: str,
    recipe: str | None,
    output_dir: Path | None,
    init_from: str | None,
    max_minutes: float | None,
    settings: list[str],
) -> "tuple[PretrainConfig, Path]":
    from bertkit.config.load import find_recipe, load_config
    from bertkit.config.schema import PretrainConfig
    from bertkit.errors import ConfigError
    from bertkit.workflows.runs import RUNS, RunFolder
    from bertkit.workflows.several import require_known_files

    given = RunFolder(Path(corpus))
    if given.is_finetuning():
        raise ConfigError(f"{corpus} is a run of fine-tuning: continue it with its bertkit finetune command")
    if given.is_run():
        if recipe or init_from or max_minutes or output_dir:
            raise ConfigError(f"{corpus} is a run, which goes on as it began: leave out all options but --set")
        return load_config(PretrainConfig, given.config_file, settings=settings), given.path
    require_known_files(given)
    # A run knows its corpus wherever it is continued from.
    place = str(Path(corpus).resolve()) if Path(corpus).exists() else corpus
    options: dict[str, object] = {"corpus": place, "train.init_from": init_from}
    if max_minutes is not None:
        settings = [*NO_OTHER_LENGTH, *settings]
        options["train.max_minutes"] = max_minutes
    path = find_recipe(recipe or "small")
    config = load_config(PretrainConfig, path, settings=settings, options=options)
    # The directions of one recipe are there to be compared, each in a run of its own.
    other = "" if config.direction == "bidirectional" else f"-{config.objective.replace('+', '-')}"
    return config, output_dir or RUNS / f"{corpus_name(place)}-{path.stem}{other}"


def corpus_name(corpus: str) -> str:
    """What to call a run after its corpus: the folder of a glob, the last part of anything else."""
    if "://" in corpus:
        # No password and no signature is part of a name.
        corpus = redacted(corpus).partition("?")[0]
    parts = [part for part in corpus.rstrip("/").split("/") if not set(part) & set("*?[")]
    return re.sub(r"[^\w-]+", "-", parts[-1].split(".")[0]).strip("-") if parts else "corpus"


def exit_if_stopped(summary: "PretrainSummary") -> None:
    """Exits with 128 + the signal's number where a signal ended training early, as a shell would.

    Of several processes the main one does so: when one fails, a launcher ends the others, which may be talking.
    """
    if summary.stopped_by and is_main_process():
        raise typer.Exit(exit_code(summary.stopped_by))


def summary_as_dict(summary: "PretrainSummary") -> dict[str, object]:
    """The summary for machines."""
    return {
        "run_dir": str(summary.run_dir),
        "step": summary.step,
        "tokens": summary.tokens,
        "elapsed_s": summary.elapsed_s,
        "stopped_by": summary.stopped_by,
        "export_dir": str(summary.export_dir) if summary.export_dir else None,
        **summary.results,
    }


def print_summary(summary: "PretrainSummary") -> None:
    """The summary for people: the scores beside their baselines, and where everything lies."""
    from bertkit.cli.evaluate import score_rows

    if summary.stopped_by:
        typer.echo(
            f"stopped by {summary.stopped_by} at step {summary.step:,}; everything is saved in {summary.run_dir}, "
            "and the same command continues from there"
        )
        return
    rows = [
        ("trained", f"{summary.step:,} steps, {summary.tokens:,} tokens, {duration(summary.elapsed_s)}"),
        *(
            score_rows(summary.run_dir, summary.results["heldout"])
            if summary.results
            else [("held-out scores", "none: no document is held out")]
        ),
        ("run folder", str(summary.run_dir)),
        ("model for transformers", str(summary.export_dir)),
    ]
    print_table("Pre-trained", rows)
