"""Options that several commands share, worded once."""

from pathlib import Path
from typing import Annotated

import typer

Recipe = Annotated[str, typer.Option(help="Name of a shipped recipe (bertkit recipes ls) or a YAML file.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one setting of the recipe; may be repeated."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Resolve and check everything, print it, and stop.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Run = Annotated[Path | None, typer.Argument(help="Folder of a run; the newest under runs/ if left out.")]
# What --max-minutes takes the place of.
NO_OTHER_LENGTH = ("train.max_steps=null", "train.epochs=null")
