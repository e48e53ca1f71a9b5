"""The command line: options become a config, a config goes to one workflow, a workflow's value is printed.

Nothing heavy is imported here or in the command files: `bertkit --help` must answer at once.
"""

import os
from typing import Annotated

import typer

import bertkit
from bertkit.cli import (
    bench,
    check,
    demo,
    evaluate,
    export,
    finetune,
    launch,
    plan,
    predict,
    prepare,
    pretrain,
    recipes,
    submit,
)
from bertkit.cli.console import errors_as_one_line
from bertkit.errors import ConfigError

app = typer.Typer(
    name="bertkit",
    help="A folder of text to a pre-trained, scored and published BERT, each step one command.",
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


app.command("pretrain")(pretrain.pretrain)
app.command("prepare")(prepare.prepare)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("export")(export.export)
app.command("demo")(demo.demo)
app.command("plan")(plan.plan)
app.command("bench")(bench.bench)
app.add_typer(finetune.app, name="finetune")
app.add_typer(check.app, name="check")
app.add_typer(submit.app, name="submit")
app.add_typer(recipes.app, name="recipes")


def main() -> None:
    """The entry point of the `bertkit` command."""
    launch.adopt_slurm()
    app()
