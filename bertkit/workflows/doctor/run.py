"""How a run stands: finished, under way or stopped, and what its figures give reason to look at."""

from collections.abc import Callable
from pathlib import Path

from bertkit.errors import BertkitError, CheckpointError
from bertkit.train.checkpoint import DamagedCheckpointError, list_checkpoints, open_checkpoint
from bertkit.train.tracking import ReadLog, read_log
from bertkit.workflows.doctor.machine import check_folder
from bertkit.workflows.doctor.outcome import Check
from bertkit.workflows.health import bands_of, findings
from bertkit.workflows.published import read_finished
from bertkit.workflows.runs import RunFolder, newest_run
from bertkit.workflows.several import require_one_run
from bertkit.workflows.sound import require_sound


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
        require_one_run(run)
        if not run.is_run():
            raise CheckpointError(f"{run.path} is not a run folder: it has no config.yaml and environment.json")
    name = str(run.path)
    disk = check_folder(f"disk of {name}", run.path)
    try:
        log = read_log(run.metrics_file) if run.metrics_file.is_file() else ReadLog([], 0)
        return [Check(name, "ok", _state(run, log)), disk, *_damaged(run), *_lost(run, log), *_symptoms(run, log)]
    except BertkitError as error:
        # What is said of the machine is wanted then most of all.
        return [Check(name, "problem", str(error)), disk]


def _state(run: RunFolder, log: ReadLog) -> str:
    step = f"step {max((row['step'] for row in log.rows), default=0):,}"
    in_use = run.is_in_use()
    if in_use is not False:
        return f"under way, {step} logged" if in_use else f"perhaps under way (its lock cannot be tried), {step} logged"
    if run.results_file.is_file():
        return f"finished, {step}" if log.rows else "finished"
    if _has_lost_results(run):
        return "finished"
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


def _lost(run: RunFolder, log: ReadLog) -> list[Check]:
    """Files of a finished run that are gone or damaged, each with what to do; a run under way has yet to write them."""
    if run.is_in_use() is not False:
        return []
    if _has_lost_results(run):
        text = f"{run.results_file} is gone: put it back, or run the same command again, which trains anew"
        return [Check("results.json", "problem", text)]
    if not run.results_file.is_file():
        return _lost_of_log(run, log)
    looks = {"results.json": read_finished, "export": _require_export}
    return [*(lost for name, look in looks.items() if (lost := _refused(name, look, run))), *_lost_of_log(run, log)]


def _has_lost_results(run: RunFolder) -> bool:
    """Whether there is an export of nothing that it could be of but a finished run's last or best checkpoint."""
    return run.export.is_dir() and not run.results_file.is_file() and not list_checkpoints(run.checkpoints)


def _refused(name: str, look: Callable[[RunFolder], object], run: RunFolder) -> Check | None:
    try:
        look(run)
    except CheckpointError as error:
        return Check(name, "problem", str(error))
    return None


def _require_export(run: RunFolder) -> None:
    """Make sure that a finished run's export is there and is its model; that of pre-training can be made anew.

    Raises:
        CheckpointError: it is not.
    """
    files = [run.export / name for name in ("config.json", "tokenizer.json")]
    gone = [path for path in (run.export, *files) if not path.exists()]
    if gone and not run.is_finetuning():
        anew = f", or run bertkit export {run.path} again" if list_checkpoints(run.checkpoints) else ""
        raise CheckpointError(f"{gone[0]} is gone: put it back{anew}")
    require_sound(run)


def _lost_of_log(run: RunFolder, log: ReadLog) -> list[Check]:
    """The log, without which there are no curves; the model does not need it."""
    if run.results_file.is_file() and not log.rows:
        state = "damaged" if run.metrics_file.is_file() else "gone"
        text = f"{run.metrics_file} is {state}: put it back, or do without curves"
    elif log.num_damaged:
        lines = "1 line is" if log.num_damaged == 1 else f"{log.num_damaged:,} lines are"
        text = f"{run.metrics_file}: {lines} damaged: put it back, or do without what they say"
    else:
        return []
    return [Check("metrics.jsonl", "warning", text)]


def _symptoms(run: RunFolder, log: ReadLog) -> list[Check]:
    if run.is_finetuning():
        return _collapse(run)
    found = findings(run)
    if not found and not log.rows:
        return []
    if not found:
        compared = any(bands_of(run).values())
        usual = "its figures are where those of runs of its size are"
        return [Check("health", "ok", usual if compared else "nothing stands out; there is nothing to compare it with")]
    return [Check(f"health, step {each.step:,}" if each.step else "health", "warning", each.text) for each in found]


def _collapse(run: RunFolder) -> list[Check]:
    try:
        collapsed = run.read_results()["collapsed"]
    except CheckpointError:
        return []
    if not collapsed:
        return [Check("health", "ok", "the run did not collapse")]
    return [Check("health", "warning", f"the run collapsed ({collapsed}): try --stable, or --retry-collapsed")]
