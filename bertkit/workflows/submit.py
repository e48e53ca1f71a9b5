"""The zip that GLUE's leaderboard takes: the test splits predicted by the best finished run of every task."""

import json
import logging
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bertkit.config.finetune import FinetuneConfig
from bertkit.errors import BertkitError, CheckpointError, ConfigError
from bertkit.tasks.layouts import has_split, read_split
from bertkit.tasks.problem import Prediction
from bertkit.tasks.registry import list_tasks
from bertkit.tasks.spec import TaskSpec
from bertkit.whole import written_whole
from bertkit.workflows.finetuned import open_finetuned
from bertkit.workflows.predict import prediction_precision
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.suite import headline_value
from bertkit.workflows.watch import Unwatched, Watcher

logger = logging.getLogger(__name__)

OUTPUT: Final = Path("submission.zip")
# The same predictions make the same bytes.
TIMESTAMP: Final = (1980, 1, 1, 0, 0, 0)
STSB_RANGE: Final = (0.0, 5.0)


@dataclass(frozen=True)
class FinishedRun:
    """A finished run of a task and the dev figure that chose its checkpoint."""

    path: Path
    task: str
    figure: str
    value: float


@dataclass(frozen=True)
class Submission:
    """The zip that was written: its files with the run each comes from, and those the leaderboard misses."""

    path: Path
    files: Mapping[str, FinishedRun]
    missing: Mapping[str, str]


def submit_glue(
    runs_dir: Path, *, data_dir: Path | None = None, output: Path = OUTPUT, watch: Watcher | None = None
) -> Submission:
    """Predicts every test split of GLUE that there is a run and a file for; where a task has runs, by the best on dev.

    data_dir: the GLUE download; where each run's own data came from if left out. The diagnostic set is predicted by the
    run of MNLI.

    Raises:
        BertkitError: whatever the user can mend, in one sentence.
    """
    if output.exists():
        raise ConfigError(f"--output {output} exists already: remove it, or give another name")
    if not output.parent.is_dir():
        raise ConfigError(f"--output {output}: there is no folder {output.parent}: make it first")
    best = best_runs(finished_runs(runs_dir))
    if not best:
        raise ConfigError(
            f"{runs_dir} has no finished run of a GLUE task: bertkit finetune glue all --output-dir {runs_dir}"
        )
    watch, contents, missing = watch or Unwatched(), dict[str, str](), dict[str, str]()
    sources: dict[str, FinishedRun] = {}
    for spec in list_tasks():
        run = best.get(spec.scored_with or spec.name)
        if run is None:
            missing |= dict.fromkeys(spec.submission.values(), f"no run of {spec.scored_with or spec.name}")
            continue
        if spec.submission:
            made, without = _task_files(spec, run, data_dir, watch)
            contents |= made
            sources |= dict.fromkeys(made, run)
            missing |= without
    if not contents:
        reason = next((why for why in missing.values() if not why.startswith("no run")), next(iter(missing.values())))
        raise ConfigError(f"no test split can be read ({reason}): give the GLUE download as --data-dir")
    _write_zip(output, contents)
    return Submission(output, sources, missing)


def finished_runs(runs_dir: Path) -> list[FinishedRun]:
    """Every finished run of a GLUE task in a folder or below it; those that are not finished are named in a warning.

    Raises:
        ConfigError: there is no such folder.
    """
    if not runs_dir.is_dir():
        raise ConfigError(f"{runs_dir} is no folder: give the one that holds the runs, such as runs/glue")
    found = []
    for config_file in sorted(runs_dir.rglob("config.yaml")):
        run = RunFolder(config_file.parent)
        try:
            task = run.read_config(FinetuneConfig).task.name if run.is_finetuning() else None
        except BertkitError as error:
            logger.warning("%s", f"{run.path} is left out: {error}")
            continue
        if task is not None and task.startswith("glue/"):
            if (finished := _finished(run, task)) is None:
                logger.warning("%s", f"{run.path} is not finished and left out: run its bertkit finetune command again")
            else:
                found.append(finished)
    return found


def best_runs(runs: Sequence[FinishedRun]) -> dict[str, FinishedRun]:
    """By task, the run of the highest figure on dev; says which, where there was a choice."""
    best: dict[str, FinishedRun] = {}
    for task in dict.fromkeys(run.task for run in runs):
        candidates = [run for run in runs if run.task == task]
        best[task] = max(candidates, key=lambda run: run.value)
        if len(candidates) > 1:
            figure = f"{best[task].figure} {best[task].value:.4f}"
            logger.info("%s", f"{task}: {best[task].path} is the best of {len(candidates)} runs ({figure})")
    return best


def _finished(run: RunFolder, task: str) -> FinishedRun | None:
    try:
        results = json.loads(run.results_file.read_text(encoding="utf-8"))
        if not run.export.is_dir():
            return None
        return FinishedRun(run.path, task, results["headline"], headline_value(results))
    except (OSError, ValueError, KeyError, TypeError, ConfigError):
        return None


def _task_files(
    spec: TaskSpec, run: FinishedRun, data_dir: Path | None, watch: Watcher
) -> tuple[dict[str, str], dict[str, str]]:
    """The files of one task by their official names, and why others are missing."""
    model = open_finetuned(str(run.path), precision=prediction_precision())
    own = None if model.config is None or model.config.task.data_dir is None else Path(model.config.task.data_dir)
    place = data_dir or own
    made, missing = dict[str, str](), dict[str, str]()
    for split in spec.splits.predict:
        name = spec.submission[split]
        if not has_split(spec, split, place):
            missing[name] = f"no file for {split} of {spec.name} in {place}"
            continue
        examples = read_split(spec, split, data_dir=place)
        watch.begin(f"{name}: {len(examples):,} rows by {run.path}")
        made[name] = "".join(_lines(spec, _watched(model.predictor.predict(examples), len(examples), watch)))
    return made, missing


def _watched(predictions: Iterator[Prediction], total: int, watch: Watcher) -> Iterator[Prediction]:
    for number, prediction in enumerate(predictions, start=1):
        if number % 1024 == 0 or number == total:
            watch.work("predicting", number, total)
        yield prediction


def _lines(spec: TaskSpec, predictions: Iterator[Prediction]) -> Iterator[str]:
    yield "index\tprediction\n"
    for number, prediction in enumerate(predictions):
        yield f"{number}\t{_official(spec, prediction.value)}\n"


def _official(spec: TaskSpec, value: Any) -> str:
    if spec.problem == "regression":
        least, most = STSB_RANGE
        return f"{min(max(float(value), least), most):.3f}"
    return spec.submission_labels.get(value, value)


def _write_zip(output: Path, contents: Mapping[str, str]) -> None:
    try:
        with written_whole(output) as aside, zipfile.ZipFile(aside, "w") as archive:
            for name, text in sorted(contents.items()):
                entry = zipfile.ZipInfo(name, TIMESTAMP)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, text)
    except OSError as error:
        raise CheckpointError(f"{output} cannot be written: {error.strerror}; mend that and run it again") from error
