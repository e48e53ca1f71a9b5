"""bertkit plan."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bertkit.cli.console import ConsoleWatcher, errors_as_one_line, print_json, print_table
from bertkit.cli.options import NO_OTHER_LENGTH, AsJson, Recipe, Settings
from bertkit.workflows.figures import duration

if TYPE_CHECKING:
    from bertkit.workflows.plan import PhasePlan, Plan


def plan(
    corpus: Annotated[str, typer.Argument(help="Folder, file, glob or URL of text, or a folder made by prepare.")],
    recipe: Recipe = "small",
    max_minutes: Annotated[
        float | None, typer.Option(help="Plan for a run of so many minutes instead of the recipe's length.")
    ] = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Say what a pre-training run would take on this machine: tokens, steps, epochs, hours, memory. Starts no run.

    Example: bertkit plan corpus/ --recipe base
    """
    with errors_as_one_line():
        from bertkit.config.load import find_recipe, load_config
        from bertkit.config.schema import PretrainConfig
        from bertkit.workflows.plan import plan as make_plan

        place = str(Path(corpus).resolve()) if Path(corpus).exists() else corpus
        options: dict[str, object] = {"corpus": place, "train.max_minutes": max_minutes}
        given = list(settings or [])
        if max_minutes is not None:
            given = [*NO_OTHER_LENGTH, *given]
        config = load_config(PretrainConfig, find_recipe(recipe), settings=given, options=options)
        with ConsoleWatcher() as watch:
            planned = make_plan(config, watch=watch)
        if as_json:
            print_json(asdict(planned))
        else:
            print_plan(planned)


def print_plan(planned: "Plan") -> None:
    """The plan for people: the whole run, its phases, and what was measured."""
    about = "" if planned.documents_read is None else f", estimated from {planned.documents_read:,} documents"
    rows = [
        ("documents", f"{planned.documents:,} to train on{about}"),
        ("tokens", f"{planned.tokens:,}"),
        ("steps", f"{planned.steps:,}, which see {planned.tokens_to_train:,.0f} tokens"),
        ("epochs", f"{planned.epochs:.2f}"),
        ("time", f"{duration(3600 * planned.hours)}, in {planned.precision}"),
        ("memory", f"{planned.peak_bytes / 1e9:.2f} GB at its peak, of {planned.free_bytes / 1e9:.1f} GB free"),
        *planned.machine.items(),
    ]
    print_table("Plan", rows)
    header = (
        "length",
        "steps",
        "epochs",
        "seconds a step",
        "time",
        "tokens a pass",
        "memory",
        "largest pass that fits",
    )
    print_table("Phases", [_phase_row(phase) for phase in planned.phases], header=header)
    for note in planned.notes:
        typer.echo(note)


def _phase_row(phase: "PhasePlan") -> tuple[str, ...]:
    largest = phase.largest_pass_tokens
    return (
        str(phase.max_seq_length),
        f"{phase.steps:,}",
        f"{phase.epochs:.2f}",
        f"{phase.step_s:.3f}",
        duration(3600 * phase.hours),
        f"{phase.tokens_a_pass:,}",
        f"{phase.peak_bytes / 1e9:.2f} GB",
        "memory does not grow with it" if largest is None else f"{largest:,} tokens (train.micro_batch_tokens)",
    )
