"""Which runs a report is about, and what is known of each."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertkit.config.load import read_yaml
from bertkit.config.schema import PretrainConfig
from bertkit.errors import CheckpointError, ConfigError
from bertkit.workflows.objectives import objective_of
from bertkit.workflows.report.history import History, read_history
from bertkit.workflows.runs import RunFolder, newest_run
from bertkit.workflows.several import require_known_files, runs_in


@dataclass(frozen=True)
class Subject:
    """A run as a report sees it; `results` are empty where it has not come to its end."""

    name: str
    run: RunFolder
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    results: Mapping[str, Any]
    history: History

    @property
    def is_finetuning(self) -> bool:
        """Whether it is fine-tuned on a task, and not pre-trained."""
        return "task" in self.config


def title_of_pairs(subjects: Sequence[Subject]) -> str:
    """What figures of pairs are called: next sentence, sentence order, or both where runs differ."""
    titles = []
    for subject in subjects:
        # A damaged config costs no more than the right word.
        with suppress(KeyError, TypeError, ValueError):
            titles.append(objective_of(subject.config).pairs_title)
    return " or ".join(filter(None, dict.fromkeys(titles))) or "next sentence"


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """The folders of the runs that `paths` name: runs themselves, or folders of runs; the newest run for none.

    Raises:
        ConfigError: a folder is not there, or holds no run.
        CheckpointError: a run has lost a file it is known by.
    """
    if not paths:
        return [newest_run().path]
    found: list[Path] = []
    for path in paths:
        for each in _runs_in(path):
            if each.resolve() not in [other.resolve() for other in found]:
                found.append(each)
    return found


def read_subjects(paths: Sequence[Path]) -> list[Subject]:
    """Every run, by the shortest name that is its own.

    Raises:
        CheckpointError: a file of a run is damaged.
        ConfigError: its config is.
    """
    return [_read(path, name) for path, name in zip(paths, short_names(paths), strict=True)]


def short_names(paths: Sequence[Path]) -> list[str]:
    """As many last parts of every path as set them all apart."""
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _runs_in(path: Path) -> list[Path]:
    if not path.exists():
        raise ConfigError(f"{path} does not exist: name the folder of a run")
    if RunFolder(path).is_run():
        return [path]
    require_known_files(RunFolder(path))
    runs = runs_in(path)
    if not runs:
        raise ConfigError(f"{path} holds no run: name a folder that bertkit pretrain or bertkit finetune wrote")
    return runs


def _read(path: Path, name: str) -> Subject:
    run = RunFolder(path)
    results: dict[str, Any] = {}
    if run.results_file.is_file():
        results = run.read_results() if run.is_finetuning() else _read_pretraining_results(run)
    config = read_yaml(run.config_file)
    environment = _read_json(run.path / "environment.json")
    return Subject(name, run, config, environment, results, read_history(run, results))


def _read_pretraining_results(run: RunFolder) -> dict[str, Any]:
    results = _read_json(run.results_file)
    if not isinstance(results.get("heldout"), dict) or not isinstance(results.get("step"), int):
        # Without its sections the config of fine-tuning is taken for one of pre-training, and the results are not.
        run.read_config(PretrainConfig)
        raise CheckpointError(f"{run.results_file} is damaged: run bertkit evaluate {run.path}")
    return results


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: remove it and run the same command again") from error
