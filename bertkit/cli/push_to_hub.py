"""bertkit push-to-hub."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bertkit.cli.completion import run_folders
from bertkit.cli.console import ConsoleWatcher, errors_as_one_line, print_json, print_table
from bertkit.cli.options import AsJson, Language, License

if TYPE_CHECKING:
    from bertkit.workflows.push import PushPlan, PushSummary


Include = Annotated[
    list[str] | None,
    typer.Option(
        help="What else goes up, may be repeated: card (over one edited there), config, results, logs, plots, "
        "predictions or checkpoint."
    ),
]
Plan = Annotated[
    bool, typer.Option("--dry-run", help="Check the run, list the files, print the card; needs no network.")
]


def push_to_hub(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN] REPO_ID",
            help="Folder of a run, the newest if left out; OWNER/NAME.",
            autocompletion=run_folders,
        ),
    ],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    format: Annotated[
        Literal["bert", "bertkit"],
        typer.Option(help="bert: plain transformers opens it; bertkit: our classes, their code with them."),
    ] = "bert",
    include: Include = None,
    license: License = None,
    language: Language = None,
    message: Annotated[str | None, typer.Option(help="Message of the commit.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch to push to, made if need be.")] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead.")] = False,
    dry_run: Plan = False,
    as_json: AsJson = False,
) -> None:
    """Push a finished run to the Hugging Face Hub with its model card; the same command goes on after a failure.

    Data, optimizer state, predictions and logs stay here unless asked for with --include.

    Example: bertkit push-to-hub runs/cola me/bert-cola --private
    """
    with errors_as_one_line():
        from bertkit.workflows.push import planned_push, push

        run, repo_id = _run_and_repo(names)
        _require_one_place(revision, create_pr)
        what: dict[str, Any] = {"format": format, "include": include or (), "license": license, "language": language}
        where: dict[str, Any] = {"private": private, "message": message, "revision": revision, "create_pr": create_pr}
        with ConsoleWatcher() as watch:
            _show_bars_of_the_hub()
            if dry_run:
                with planned_push(run, repo_id, watch=watch, **what) as plan:
                    _show_plan(plan, as_json)
                return
            summary = push(run, repo_id, watch=watch, **where, **what)
        _show_summary(summary, as_json)


def _run_and_repo(names: list[str]) -> tuple[Path | None, str]:
    from bertkit.errors import ConfigError

    if len(names) > 2:
        raise ConfigError(f"{len(names)} names were given: push-to-hub takes [RUN] REPO_ID")
    *runs, repo_id = names
    if _is_run(repo_id):
        # Of two runs, the first is the one that was meant.
        order = f"{repo_id} {runs[0]}" if runs and not _is_run(runs[0]) else _with_a_name((*runs, repo_id)[0])
        raise ConfigError(f"{repo_id} is a run: the repository comes last, as in bertkit push-to-hub {order}")
    return (Path(runs[0]) if runs else None), repo_id


def _is_run(name: str) -> bool:
    from bertkit.workflows.runs import RunFolder

    folder = RunFolder(Path(name))
    return folder.is_run() or folder.results_file.is_file()


def _with_a_name(run: str) -> str:
    return f"{run} YOUR-NAME/{Path(run).resolve().name}"


def _require_one_place(revision: str | None, create_pr: bool) -> None:
    from bertkit.errors import ConfigError
    from bertkit.hub.upload import require_branch

    if revision is not None:
        require_branch(revision)
    if revision is not None and create_pr:
        raise ConfigError("--create-pr opens a pull request against the main branch: leave out --revision")


def _show_bars_of_the_hub() -> None:
    """Bars of the upload, for terminals."""
    from huggingface_hub import constants
    from huggingface_hub.utils import enable_progress_bars  # type: ignore[attr-defined]

    # transformers' own bars, which nobody waits for, took them away.
    if sys.stderr.isatty() and not constants.HF_HUB_DISABLE_PROGRESS_BARS:
        enable_progress_bars()


def _show_plan(plan: "PushPlan", as_json: bool) -> None:
    if as_json:
        print_json({**_described(plan), "card": plan.card})
        return
    rows = [(file.path, _size(file.size)) for file in plan.files]
    print_table(
        f"{plan.run.path} would go to {plan.repo_id}", [*rows, ("in all", _size(sum(file.size for file in plan.files)))]
    )
    if plan.choice:
        typer.echo(f"{plan.choice}\n")
    typer.echo(plan.card, nl=False)


def _show_summary(summary: "PushSummary", as_json: bool) -> None:
    from bertkit.hub.upload import CARD_FILE

    plan, uploaded = summary.plan, summary.uploaded
    if as_json:
        urls = {"url": uploaded.url, "commit_url": uploaded.commit_url, "pull_request_url": uploaded.pull_request_url}
        became = {"is_new": uploaded.is_new, "keeps_card": uploaded.keeps_card, "removed": uploaded.removed}
        print_json({**_described(plan), **urls, **became})
        return
    sent = [file for file in plan.files if not (uploaded.keeps_card and file.path == CARD_FILE)]
    amount = f"{len(sent)} files, {_size(sum(file.size for file in sent))}"
    if uploaded.pull_request_url:
        typer.echo(f"{uploaded.pull_request_url}: {amount}, as a pull request")
    elif uploaded.is_new:
        typer.echo(f"{uploaded.url}: {amount}")
    else:
        typer.echo(f"{uploaded.url}: all {len(sent)} files were there already")


def _described(plan: "PushPlan") -> dict[str, Any]:
    files = [{"path": file.path, "size": file.size} for file in plan.files]
    return {"repo_id": plan.repo_id, "run_dir": str(plan.run.path), "choice": plan.choice, "files": files}


def _size(number: int) -> str:
    """Bytes as a person says them."""
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= least:
            return f"{number / least:.1f} {unit}"
    return f"{number} B"
