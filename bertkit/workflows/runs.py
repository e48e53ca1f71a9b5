"""The run folder: where everything of one run lies, and whose it is."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

import bertkit
from bertkit.config.load import Config, differing_keys, dump_config, read_yaml, validate_config
from bertkit.errors import DISK_FULL, CheckpointError, ConfigError, redacted
from bertkit.lock import LOCK_FILE, FolderInUseError, FolderLock
from bertkit.train.checkpoint import list_checkpoints
from bertkit.whole import written_whole

RUNS = Path("runs")
# What a run that was killed while it began may have left.
_BEGUN = (LOCK_FILE, ".environment.json.partial", "environment.json", ".config.yaml.partial")
_REPORTED_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy", "pyarrow")


class _Options(BaseModel, extra="allow"):
    task: str
    problem: str
    metrics: list[str]
    null_threshold: float | None = None


class _Results(BaseModel, extra="allow"):
    """What others rely on in the results of a fine-tuning run."""

    task: str
    problem: str
    step: int
    best_step: int
    attempts: int
    num_train_examples: int
    elapsed_s: float
    headline: str
    collapsed: str | None
    scores: dict[str, dict[str, Any]]
    options: _Options


@dataclass(frozen=True)
class RunFolder:
    """The places in one run's folder."""

    path: Path

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def environment_file(self) -> Path:
        return self.path / "environment.json"

    @property
    def pinned_file(self) -> Path:
        return self.path / "pinned.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def store(self) -> Path:
        return self.path / "store"

    @property
    def export(self) -> Path:
        return self.path / "export"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def results_file(self) -> Path:
        return self.path / "results.json"

    @property
    def predictions_file(self) -> Path:
        return self.path / "predictions.jsonl"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer"

    def is_run(self) -> bool:
        """Whether a run was begun in this folder."""
        return self.config_file.is_file() and self.environment_file.is_file()

    def is_finetuning(self) -> bool:
        """Whether the run begun in this folder is one of fine-tuning."""
        return self.is_run() and "task" in read_yaml(self.config_file)

    def read_config(self, schema: type[Config]) -> Config:
        """The resolved config the run was started with.

        Raises:
            CheckpointError: the folder is not a run's.
        """
        if not self.is_run():
            raise CheckpointError(f"{self.path} is not a run folder: it has no config.yaml and environment.json")
        return validate_config(schema, read_yaml(self.config_file), source=str(self.config_file))

    def read_environment(self) -> dict[str, Any]:
        """The machine, the versions and the first command of the run; empty where that is damaged."""
        try:
            return dict(json.loads(self.environment_file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return {}

    def require_model(self) -> None:
        """Make sure that a fine-tuning run has its best model, which is in its export and nowhere else.

        Raises:
            CheckpointError: the run did not come to its end, or the model was removed since.
        """
        lost = self._lost_of_export()
        if lost is not None and self.results_file.is_file():
            raise CheckpointError(
                f"{self.path} is finished, but {lost} is gone: put it back, or remove {self.results_file} and run the "
                "same bertkit finetune command again, which trains anew"
            )
        if lost is not None:
            raise CheckpointError(f"{self.path} is not finished: run the same bertkit finetune command again")

    def _lost_of_export(self) -> Path | None:
        if not self.export.is_dir():
            return self.export
        needed = [self.export / name for name in ("config.json", "tokenizer.json", "tokenizer_config.json")]
        lost = [path for path in needed if not path.is_file()]
        if not any(self.export.glob("model*.safetensors")):
            lost.append(self.export / "model.safetensors")
        return lost[0] if lost else None

    def read_results(self) -> dict[str, Any]:
        """The results of a run that came to its end.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        try:
            values = json.loads(self.results_file.read_text(encoding="utf-8"))
            _Results.model_validate(values, strict=True)
            return dict(values)
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{self.results_file} is missing or damaged: remove it and run the same command again"
            ) from error

    def claim(self, config: BaseModel) -> bool:
        """Makes the folder `config`'s until it is closed, or checks that it is; returns whether the folder is new.

        A run writes `config.yaml` and `environment.json` before anything else. Settings that only say how a run is
        executed may differ from the folder's; before the first checkpoint, any but those of a finished token store.

        Raises:
            ConfigError: the folder holds another run, or something that is not a run, or cannot be made.
            CheckpointError: the folder cannot be written.
            FolderInUseError: another process has claimed it.
        """
        is_new = not self.path.exists()
        if not is_new and not self.is_run() and self._holds_other_files():
            raise ConfigError(f"{self.path} exists and is not a run folder: choose another --output-dir")
        self._take()
        self._refuse_other_run(config)
        environment = describe_environment()
        if list_checkpoints(self.checkpoints):
            # A run that goes on may be named by its folder alone; what began it is worth more.
            environment["command"] = self.read_environment().get("command", environment["command"])
        write_aside(self.environment_file, json.dumps(environment, indent=2) + "\n")
        write_aside(self.config_file, dump_config(config))
        return is_new

    def close(self) -> None:
        """Lets other processes claim the folder."""
        self._lock.release()

    def abandon(self) -> None:
        """Removes a new run that never came to hold anything of worth: no part of a store and no checkpoint."""
        if any(self.path.glob("store/*/*")) or self.checkpoints.exists():
            return
        for path in self.path.iterdir():
            # The lock goes last: without it the folder is another process' at once.
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LOCK_FILE:
                path.unlink(missing_ok=True)
        self.close()
        with suppress(OSError):
            self.path.rmdir()

    def is_in_use(self) -> bool | None:
        """Whether a process writes to the folder: its lock is tried for a moment. None: that cannot be done."""
        # A run that was killed leaves the file and no lock.
        if not (self.path / LOCK_FILE).exists():
            return False
        try:
            self._lock.take()
        except FolderInUseError:
            return True
        except OSError:
            # Another user's, or on a disk that cannot be written.
            return None
        self.close()
        return False

    @cached_property
    def _lock(self) -> FolderLock:
        return FolderLock(self.path)

    def _take(self) -> None:
        try:
            self._lock.take()
        except OSError as error:
            remedy = "free some space" if error.errno in DISK_FULL else "choose another --output-dir"
            raise ConfigError(f"the run folder {self.path} cannot be made: {error.strerror}; {remedy}") from error

    def _holds_other_files(self) -> bool:
        return not self.path.is_dir() or any(path.name not in _BEGUN for path in self.path.iterdir())

    def _refuse_other_run(self, config: BaseModel) -> None:
        if not self.is_run():
            return
        if self.is_finetuning() != ("task" in type(config).model_fields):
            kind = "fine-tuning" if self.is_finetuning() else "pre-training"
            raise ConfigError(f"{self.path} holds a run of {kind}: choose another --output-dir")
        differing = differing_keys(self.read_config(type(config)), config)
        if not list_checkpoints(self.checkpoints) and not self.results_file.is_file():
            is_prepared = (self.store / "manifest.json").is_file()
            differing = [key for key in differing if is_prepared and key.startswith(("corpus", "data."))]
        if differing:
            raise ConfigError(
                f"{self.path} holds another run, which differs in {', '.join(differing[:4])}: choose another "
                f"--output-dir, or run with the settings of {self.config_file} to continue it"
            )


def newest_run(root: Path = RUNS) -> RunFolder:
    """The run under `root` that was written to last.

    Raises:
        CheckpointError: there is none.
    """
    configs = [*root.glob("*/config.yaml"), *root.glob("*/*/config.yaml")]
    if not configs:
        raise CheckpointError(f"there is no run under {root}/: name a run folder, or start one with bertkit pretrain")
    return RunFolder(max(configs, key=_last_written).parent)


def write_aside(path: Path, text: str) -> None:
    """Writes a text file whole or not at all.

    Raises:
        CheckpointError: it cannot be written, most often because the disk is full.
    """
    with kept_whole(path) as aside:
        aside.write_text(text, encoding="utf-8")


@contextmanager
def kept_whole(path: Path) -> Iterator[Path]:
    """`written_whole` for what a run keeps, in a folder made for it where there is none.

    Raises:
        CheckpointError: it cannot be written, most often because the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as aside:
            yield aside
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written: {error.strerror or error}; mend that and run it again"
        ) from error


def describe_environment() -> dict[str, Any]:
    """The machine and the versions a run's figures belong to, and the command that was given."""
    return {
        "bertkit": bertkit.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor_cores": os.cpu_count(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or ["cpu"],
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "command": ["bertkit", *map(redacted, sys.argv[1:])],
        "packages": {name: _version(name) for name in _REPORTED_PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _last_written(config: Path) -> float:
    run = RunFolder(config.parent)
    return max(path.stat().st_mtime for path in (config, run.metrics_file, run.results_file) if path.exists())
