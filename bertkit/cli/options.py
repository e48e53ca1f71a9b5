"""Options that several commands share, worded once."""

from pathlib import Path
from typing import Annotated

import typer

from bertkit.cli.completion import recipe_names, run_folders

Recipe = Annotated[
    str,
    typer.Option(help="Name of a shipped recipe (bertkit recipes ls) or a YAML file.", autocompletion=recipe_names),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one setting of the recipe; may be repeated."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Resolve and check everything, print it, and stop.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Run = Annotated[
    Path | None,
    typer.Argument(help="Folder of a run; the newest under runs/ if left out.", autocompletion=run_folders),
]
License = Annotated[str | None, typer.Option(help="License as the Hub names it, such as apache-2.0.")]
Language = Annotated[str | None, typer.Option(help="Language code of the text; the card names none that nobody chose.")]
# What --max-minutes takes the place of in a recipe; what was set beside it is a contradiction.
NO_OTHER_LENGTH = ("train.max_steps=null", "train.epochs=null")
