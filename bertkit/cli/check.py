"""bertkit check."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bertkit.cli.completion import glue_tasks
from bertkit.cli.console import ConsoleWatcher, errors_as_one_line, print_json
from bertkit.cli.finetune import (
    NAMED,
    Choices,
    DataDir,
    Evaluate,
    InitFrom,
    Label,
    Text,
    Train,
    load_request,
    named_options,
    own_options,
)
from bertkit.cli.options import AsJson, Settings
from bertkit.errors import BertkitError

if TYPE_CHECKING:
    from bertkit.tasks.check import Report

app = typer.Typer(
    help="Say what is wrong with labelled data, before anything runs.\n\n"
    "Example: bertkit check classify --train reviews.csv --text review --label stars",
    no_args_is_help=True,
)


@app.command("glue")
def glue(
    task: Annotated[
        str, typer.Argument(help="cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte or wnli.", autocompletion=glue_tasks)
    ],
    init_from: InitFrom = None,
    data_dir: DataDir = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Check the examples of a GLUE task.

    Example: bertkit check glue rte --data-dir glue_data
    """
    _check(named_options(f"glue/{task}", init_from, data_dir), settings, as_json)


def _named_command(name: str, title: str) -> None:
    def command(
        init_from: InitFrom = None, data_dir: DataDir = None, settings: Settings = None, as_json: AsJson = False
    ) -> None:
        _check(named_options(name, init_from, data_dir), settings, as_json)

    app.command(name, help=f"Check the examples of {title}.\n\nExample: bertkit check {name} --data-dir data/")(command)


for _name, _title in NAMED.items():
    _named_command(_name, _title)


@app.command("classify")
def classify(
    train: Train,
    evaluate: Evaluate = None,
    text: Text = None,
    label: Label = None,
    init_from: InitFrom = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Check your own texts and labels.

    Example: bertkit check classify --train reviews.csv --text review --label stars
    """
    _check(own_options("auto", train, evaluate, text, label, None, init_from), settings, as_json)


@app.command("tag")
def tag(
    train: Train,
    evaluate: Evaluate = None,
    init_from: InitFrom = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Check your own tagged sentences.

    Example: bertkit check tag --train train.conll
    """
    _check(own_options("tagging", train, evaluate, None, None, None, init_from), settings, as_json)


@app.command("qa")
def qa(
    train: Train,
    evaluate: Evaluate = None,
    init_from: InitFrom = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Check your own questions and answers.

    Example: bertkit check qa --train train.json
    """
    _check(own_options("span_qa", train, evaluate, None, None, None, init_from), settings, as_json)


@app.command("choose")
def choose(
    train: Train,
    evaluate: Evaluate = None,
    text: Text = None,
    label: Label = None,
    choices: Choices = None,
    init_from: InitFrom = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Check your own contexts and choices.

    Example: bertkit check choose --train train.csv --text context --choice a --choice b --label answer
    """
    _check(own_options("multiple_choice", train, evaluate, text, label, choices, init_from), settings, as_json)


def _check(options: dict[str, Any], settings: list[str] | None, as_json: bool) -> None:
    with errors_as_one_line():
        from bertkit.workflows.check import check

        config = load_request(options, None, False, settings or [])
        with ConsoleWatcher():
            data, report = check(config)
        sizes = {"train": len(data.train), **{split: len(rows) for split, rows in data.evaluate.items()}}
        if as_json:
            findings = [{"severity": f.severity, "sentence": f.sentence, "rows": list(f.rows)} for f in report.findings]
            print_json({"task": data.spec.name, "problem": data.spec.problem, "examples": sizes, "findings": findings})
        else:
            _print_report(data.spec.problem, sizes, report)
        if report.errors:
            raise typer.Exit(BertkitError.exit_code)


def _print_report(problem: str, sizes: dict[str, int], report: "Report") -> None:
    from rich.console import Console

    console = Console(highlight=False)
    counts = ", ".join(f"{number:,} in {split}" for split, number in sizes.items())
    console.print(f"{problem}: {counts}", soft_wrap=True, markup=False)
    styles = {"error": "red", "warning": "yellow", "note": None}
    for finding in report.findings:
        text = f"{finding.severity}: {finding.sentence}"
        console.print(text, style=styles[finding.severity], soft_wrap=True, markup=False)
    if not report.findings:
        console.print("nothing wrong was found")
