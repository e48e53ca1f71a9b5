"""The command line: options become a config, a config goes to one workflow, a workflow's value is printed.

Nothing heavy is imported here or in the command files: `bertkit --help` must answer at once.
"""

import os
from typing import Annotated

import typer

import bertkit
from bertkit.cli import (
    ablate,
    bench,
    card,
    check,
    demo,
    doctor,
    embed,
    evaluate,
    explain,
    export,
    finetune,
    launch,
    plan,
    predict,
    prepare,
    pretrain,
    push_to_hub,
    recipes,
    report,
    serve,
    submit,
)
from bertkit.cli.console import errors_as_one_line, speak_unicode
from bertkit.errors import ConfigError

app = typer.Typer(
    name="bertkit",
    help="A folder of text to a pre-trained, scored and published BERT, each step one command.\n\n"
    "Example: bertkit pretrain corpus/ --recipe mini --max-minutes 10",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bertkit {bertkit.__version__}")
        raise typer.Exit


# The others do their work once, and would do it once a process.
SHARED_BY_PROCESSES = ("pretrain", "finetune", "evaluate", "predict")


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    if context.invoked_subcommand not in SHARED_BY_PROCESSES and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        with errors_as_one_line():
            raise ConfigError(f"bertkit {context.invoked_subcommand} runs in one process: start it without a launcher")


# In the order of a first day; a help without groups would be a wall of twenty names.
TRAIN, SCORE, USE, MACHINE = "Train", "Score and look", "Use and publish", "Before you start"
app.command("pretrain", rich_help_panel=TRAIN)(pretrain.pretrain)
app.add_typer(finetune.app, name="finetune", rich_help_panel=TRAIN)
app.command("prepare", rich_help_panel=TRAIN)(prepare.prepare)
app.command("ablate", rich_help_panel=TRAIN)(ablate.ablate)
app.command("evaluate", rich_help_panel=SCORE)(evaluate.evaluate)
app.command("report", rich_help_panel=SCORE)(report.report)
app.add_typer(submit.app, name="submit", rich_help_panel=SCORE)
app.command("predict", rich_help_panel=USE)(predict.predict)
app.command("embed", rich_help_panel=USE)(embed.embed)
app.command("serve", rich_help_panel=USE)(serve.serve)
app.command("export", rich_help_panel=USE)(export.export)
app.command("card", rich_help_panel=USE)(card.card)
app.command("push-to-hub", rich_help_panel=USE)(push_to_hub.push_to_hub)
app.command("demo", rich_help_panel=MACHINE)(demo.demo)
app.command("doctor", rich_help_panel=MACHINE)(doctor.doctor)
app.add_typer(check.app, name="check", rich_help_panel=MACHINE)
app.add_typer(recipes.app, name="recipes", rich_help_panel=MACHINE)
app.command("explain", rich_help_panel=MACHINE)(explain.explain)
app.command("plan", rich_help_panel=MACHINE)(plan.plan)
app.command("bench", rich_help_panel=MACHINE)(bench.bench)


def main() -> None:
    """The entry point of the `bertkit` command."""
    launch.adopt_slurm()
    speak_unicode()
    app()
