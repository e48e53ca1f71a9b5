"""bertkit doctor."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from bertkit.cli.console import ConsoleWatcher, errors_as_one_line, print_json
from bertkit.cli.options import AsJson, Run
from bertkit.errors import BertkitError, printable

if TYPE_CHECKING:
    from bertkit.workflows.doctor import Check

_SIGNS = {"ok": ("ok", "green"), "warning": ("look", "yellow"), "problem": ("mend", "red")}


def doctor(run: Run = None, as_json: AsJson = False) -> None:
    """Examine this machine (versions, devices, disks, caches) and a run's health; exits with 2 if a run could not work.

    Example: bertkit doctor runs/base
    """
    with errors_as_one_line():
        from bertkit.workflows.doctor import examine

        with ConsoleWatcher():
            checks = examine(run)
        if as_json:
            print_json([asdict(check) for check in checks])
        else:
            _print(checks)
        if any(check.status == "problem" for check in checks):
            raise typer.Exit(BertkitError.exit_code)


def _print(checks: list["Check"]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    for check in checks:
        sign, style = _SIGNS[check.status]
        table.add_row(Text(sign, style=style), Text(printable(check.name), style="bold"), Text(printable(check.text)))
    # A pipe has no width: rich would fold at 80 columns.
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)
