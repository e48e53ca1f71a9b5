"""How a run stands: finished, under way or stopped, and what its figures give reason to look at."""

import json
from pathlib import Path

from bertkit.errors import BertkitError, CheckpointError
from bertkit.train.checkpoint import DamagedCheckpointError, list_checkpoints, open_checkpoint
from bertkit.train.tracking import read_metrics
from bertkit.workflows.doctor.machine import check_folder
from bertkit.workflows.doctor.outcome import Check
from bertkit.workflows.health import bands_of, findings
from bertkit.workflows.runs import RunFolder, newest_run


def check_run(run_path: Path | None) -> list[Check]:
    """The state, the checkpoints and the health of a run.

    Raises:
        CheckpointError: the folder named is not a run.
    """
    if run_path is None:
        try:
            run = newest_run()
        except CheckpointError:
            return [Check("newest run", "ok", "there is none under runs/ yet")]
    else:
        run = RunFolder(run_path)
        if not run.is_run() and run.results_file.is_file():
            raise CheckpointError(f"{run.path} holds several runs: name one of the folders in it")
        if not run.is_run():
            raise CheckpointError(f"{run.path} is not a run folder: it has no config.yaml and environment.json")
    name = str(run.path)
    disk = check_folder(f"disk of {name}", run.path)
    try:
        return [Check(name, "ok", _state(run)), disk, *_damaged(run), *_symptoms(run)]
    except BertkitError as error:
        # What is said of the machine is wanted then most of all.
        return [Check(name, "problem", str(error)), disk]


def _state(run: RunFolder) -> str:
    rows = read_metrics(run.metrics_file) if run.metrics_file.is_file() else []
    step = f"step {max((row['step'] for row in rows), default=0):,}"
    in_use = run.is_in_use()
    if in_use is not False:
        return f"under way, {step} logged" if in_use else f"perhaps under way (its lock cannot be tried), {step} logged"
    if run.results_file.is_file():
        return f"finished, {step}"
    saved = list_checkpoints(run.checkpoints)
    if saved:
        return f"stopped, {step} logged, {saved[0].name} saved: the same command goes on from there"
    return f"stopped before its first checkpoint, {step} logged: the same command begins again"


def _damaged(run: RunFolder) -> list[Check]:
    """Checkpoints that cannot be trusted; all of their bytes are read."""
    checks = []
    for path in list_checkpoints(run.checkpoints):
        try:
            open_checkpoint(path)
        except DamagedCheckpointError as error:
            text = f"{error}: it will be passed over when the run goes on; remove it"
            checks.append(Check(path.name, "warning", text))
    return checks


def _symptoms(run: RunFolder) -> list[Check]:
    if run.is_finetuning():
        return _collapse(run)
    found = findings(run)
    if not found:
        compared = any(bands_of(run).values())
        usual = "its figures are where those of runs of its size are"
        return [Check("health", "ok", usual if compared else "nothing stands out; there is nothing to compare it with")]
    return [Check(f"health, step {each.step:,}" if each.step else "health", "warning", each.text) for each in found]


def _collapse(run: RunFolder) -> list[Check]:
    try:
        collapsed = json.loads(run.results_file.read_text(encoding="utf-8")).get("collapsed")
    except (OSError, ValueError, AttributeError):
        return []
    if not collapsed:
        return [Check("health", "ok", "the run did not collapse")]
    return [Check("health", "warning", f"the run collapsed ({collapsed}): try --stable, or --retry-collapsed")]
