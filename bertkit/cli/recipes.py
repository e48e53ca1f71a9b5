"""bertkit recipes ls | show | cp | schema."""

from pathlib import Path
from typing import Annotated

import typer

from bertkit.cli.completion import all_recipe_names
from bertkit.cli.console import errors_as_one_line, print_json, print_table
from bertkit.cli.options import AsJson

app = typer.Typer(
    name="recipes",
    help="List, show and copy the shipped recipes.\n\nExample: bertkit recipes ls",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(help="Name of a shipped recipe.", autocompletion=all_recipe_names)]


@app.command("ls")
def list_all(as_json: AsJson = False) -> None:
    """List the shipped recipes.

    Example: bertkit recipes ls
    """
    with errors_as_one_line():
        from bertkit.config.load import list_finetuning_recipes, list_recipes

        rows = [(path.stem, _headline(path)) for path in list_recipes()]
        rows += [(f"finetune/{path.stem}", _headline(path)) for path in list_finetuning_recipes()]
        if as_json:
            print_json(dict(rows))
        else:
            print_table("Recipes", rows, header=("name", "what it is"))


@app.command("show")
def show(name: Name) -> None:
    """Print a recipe with its header: command, hardware, expected time and measured result.

    Example: bertkit recipes show mini
    """
    with errors_as_one_line():
        from bertkit.config.load import read_recipe

        typer.echo(read_recipe(name), nl=False)


@app.command("cp")
def copy(
    name: Name, destination: Annotated[Path | None, typer.Argument(help="File to write; NAME.yaml if left out.")] = None
) -> None:
    """Copy a recipe, to edit it and run it with --recipe FILE.

    Example: bertkit recipes cp mini my-recipe.yaml
    """
    with errors_as_one_line():
        from bertkit.config.load import find_recipe, read_recipe
        from bertkit.errors import ConfigError

        source = find_recipe(name)
        target = destination or Path(source.name)
        if target.is_dir():
            target /= source.name
        if target.exists():
            raise ConfigError(f"{target} exists already: name another file")
        try:
            target.write_text(read_recipe(name), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{target} cannot be written: {error.strerror}") from error
        typer.echo(str(target))


@app.command("schema")
def schema(
    finetune: Annotated[bool, typer.Option("--finetune", help="The settings of fine-tuning instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print every setting with its default and what it does; --json gives a JSON schema, with the types.

    Example: bertkit recipes schema --finetune
    """
    with errors_as_one_line():
        from bertkit.config.finetune import FinetuneConfig
        from bertkit.config.load import describe_schema
        from bertkit.config.schema import PretrainConfig

        config = FinetuneConfig if finetune else PretrainConfig
        if as_json:
            print_json(config.model_json_schema())
        else:
            print_table("Settings", describe_schema(config), header=("key", "default", "what it does"))


def _headline(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()
