"""Telling a run from a folder of several, and from a run that has lost a file it is known by."""

from pathlib import Path
from typing import Final

from bertkit.errors import CheckpointError
from bertkit.workflows.runs import RunFolder

# By this file a comparison is known, whose table and report are no suite's.
COMPARISON_FILE: Final = "ablation.yaml"


def require_no_comparison(path: Path) -> None:
    """Make sure that a folder is not what `bertkit ablate` wrote.

    Raises:
        CheckpointError: it is; names what lies in it.
    """
    if (path / COMPARISON_FILE).is_file():
        raise CheckpointError(
            f"{path} is a comparison, of which bertkit ablate writes table and report: name a run in it"
            + "".join(f", such as {each}" for each in runs_in(path)[:1])
        )


def runs_in(path: Path) -> list[Path]:
    """The runs that lie in a folder, by name; those of a suite over tasks lie one folder deeper."""
    folders = {file.parent for depth in ("*", "*/*") for file in path.glob(f"{depth}/config.yaml")}
    return sorted(each for each in folders if RunFolder(each).is_run())


def require_known_files(run: RunFolder) -> None:
    """Make sure that what was a run can still be told to be one; a folder that never was one passes.

    Raises:
        CheckpointError: its `config.yaml` or `environment.json` is missing.
    """
    missing = [file.name for file in (run.config_file, run.environment_file) if not file.is_file()]
    # Written when a run takes its first step, and by nothing else.
    if missing and run.pinned_file.is_file():
        remedy = "put it back" if len(missing) == 1 else "put them back"
        raise CheckpointError(f"{run.path} is a run without its {' and '.join(missing)}: {remedy}")


def require_one_run(run: RunFolder) -> None:
    """Make sure that a folder is not one of several runs.

    Raises:
        CheckpointError: it is, or it is a run that has lost a file it is known by.
    """
    require_known_files(run)
    if not run.is_run() and runs_in(run.path):
        raise CheckpointError(f"{run.path} holds several runs: name one of the folders in it")
