"""One cell of a comparison: run, recognised when it is finished, and what is left of it on disk."""

import json
import logging
import shutil
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

from safetensors import SafetensorError, safe_open

from bertkit.config.finetune import FinetuneConfig
from bertkit.config.load import differing_keys
from bertkit.config.schema import PretrainConfig
from bertkit.errors import BertkitError, ConfigError
from bertkit.train.checkpoint import Checkpoint, list_checkpoints, open_checkpoint
from bertkit.train.signals import StoppedError
from bertkit.workflows.ablate.plan import Cell, PretrainCell
from bertkit.workflows.export import export
from bertkit.workflows.finetune import finetune
from bertkit.workflows.pretrain import pretrain
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.watch import Watcher

# What a run fills in by itself, from settings that ablation.yaml holds; and places in the comparison's own folder,
# which may be moved.
_FILLED_IN: Final[tuple[str, ...]] = (
    *("corpus", "data", "model.init_from", "model.bilstm.learning_rate", "optim.learning_rate"),
    *("task.problem", "task.texts", "task.label", "task.choices", "task.max_seq_length", "task.doc_stride"),
    *("train.epochs", "train.global_batch_size"),
)

State = Literal["finished", "stopped", "failed", "broken", "lost", "skipped"]


@dataclass(frozen=True)
class Outcome:
    """How a cell ended: `failed` for a reason in words, `broken` by a bug, `lost` with its worker.

    reason: what went wrong, or the name of the signal that stopped it.
    """

    key: str
    state: State
    elapsed_s: float = 0.0
    reason: str = ""


def is_finished(cell: Cell, *, retry_collapsed: int = 0) -> bool:
    """Whether the cell has come to its end, so that not a step or an example of it is looked at again."""
    run = RunFolder(cell.path)
    if not run.results_file.is_file():
        return False
    if isinstance(cell, PretrainCell):
        return all(_opens(export) for export in (run.export, *_on_the_way(cell).values()))
    results = run.read_results()
    return not (results.get("collapsed") and results["attempts"] <= retry_collapsed)


def require_own_results(cell: Cell) -> None:
    """Checks that the results in the cell's folder are of its own settings: another task may have the same name.

    Raises:
        ConfigError: they are of others, or nobody can tell.
    """
    run = RunFolder(cell.path)
    if not run.results_file.is_file():
        return
    filled_in = _FILLED_IN
    try:
        if isinstance(cell, PretrainCell):
            differing = differing_keys(run.read_config(PretrainConfig), cell.config)
            filled_in += ("model",) * (cell.config.train.init_from is not None)
        else:
            differing = differing_keys(run.read_config(FinetuneConfig), cell.config)
    except BertkitError as error:
        raise ConfigError(f"{error}; remove {cell.path} and run the same command again, which runs it anew") from error
    others = [key for key in differing if not any(f"{key}.".startswith(f"{own}.") for own in filled_in)]
    if others:
        raise ConfigError(
            f"{cell.path} holds the results of other settings ({', '.join(others[:4])}): choose another --output-dir"
        )


def run_cell(cell: Cell, log: Path, *, watch: Watcher, keep_models: bool = False) -> Outcome:
    """Runs a cell to its end or to a signal; whatever goes wrong is in the outcome and in the file `log`."""
    started_s = time.monotonic()
    with _logged(log) as logger:
        try:
            stopped_by = _run(cell, watch=watch, keep_models=keep_models)
        except BertkitError as error:
            logger.error("%s", error)
            return Outcome(cell.key, "failed", time.monotonic() - started_s, str(error))
        except (KeyboardInterrupt, StoppedError) as stop:
            return Outcome(cell.key, "stopped", time.monotonic() - started_s, str(stop) or "SIGINT")
        except Exception as error:
            logger.error("%s", traceback.format_exc())
            return Outcome(cell.key, "broken", time.monotonic() - started_s, f"{type(error).__name__}: {error}")
    state: State = "finished" if stopped_by is None else "stopped"
    return Outcome(cell.key, state, time.monotonic() - started_s, stopped_by or "")


def _run(cell: Cell, *, watch: Watcher, keep_models: bool) -> str | None:
    """The name of the signal that stopped the cell, if one did."""
    if isinstance(cell, PretrainCell):
        stopped_by = pretrain(cell.config, cell.path, watch=watch).stopped_by
        if stopped_by is None:
            _keep_on_the_way(cell)
        return stopped_by
    stopped_by = finetune(cell.config, cell.path, watch=watch).stopped_by
    if stopped_by is None and not keep_models:
        # A hundred models of which only the scores are wanted would fill a disk.
        shutil.rmtree(RunFolder(cell.path).export, ignore_errors=True)
    return stopped_by


def _keep_on_the_way(cell: PretrainCell) -> None:
    """Exports what the run was after each share of its training, from the checkpoint nearest to that."""
    for share, target in _on_the_way(cell).items():
        if not _opens(target):
            shutil.rmtree(target, ignore_errors=True)
            _export_at(cell, checkpoint_at(cell, share), target)


def _on_the_way(cell: PretrainCell) -> dict[float, Path]:
    """Where the exports from before its end lie, by their share of the training."""
    return {share: cell.model(share) for share in cell.takes if share < 1}


def _opens(export: Path) -> bool:
    """Whether the files of a model are whole, as their heads tell: one that is not is written again."""
    weights = list(export.glob("model*.safetensors"))
    try:
        for path in export.glob("*.json"):
            json.loads(path.read_bytes())
        for path in weights:
            # Refuses a file that is shorter than its head says.
            with safe_open(path, framework="pt"):
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    return bool(weights) and (export / "config.json").is_file()


def checkpoint_at(cell: PretrainCell, share: float) -> Checkpoint:
    """The checkpoint whose share of the training is nearest to `share`; every one of them is kept."""
    train = cell.config.train
    found = [open_checkpoint(path) for path in list_checkpoints(RunFolder(cell.path).checkpoints)]

    def reached(checkpoint: Checkpoint) -> float:
        if train.max_steps is not None:
            return checkpoint.step / train.max_steps
        return float(checkpoint.manifest["elapsed_s"]) / (60 * (train.max_minutes or 1))

    return min(found, key=lambda each: abs(reached(each) - share))


def _export_at(cell: PretrainCell, checkpoint: Checkpoint, target: Path) -> None:
    """Writes the export of a run that is the cell's but ends at the checkpoint."""
    run = RunFolder(cell.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=".") as place:
        then = RunFolder(Path(place))
        for file in (run.config_file, run.environment_file, run.pinned_file):
            shutil.copy(file, then.path)
        shutil.copytree(checkpoint.path, then.checkpoints / checkpoint.path.name)
        export(then.path, output_dir=target, config=cell.config)


@contextmanager
def _logged(path: Path) -> Iterator[logging.Logger]:
    """While entered, what the library logs goes to a file of the cell's, and to nobody else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("bertkit")
    others, propagates, level = list(logger.handlers), logger.propagate, logger.level
    for other in others:
        logger.removeHandler(other)
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)
        handler.close()
        for other in others:
            logger.addHandler(other)
        logger.propagate = propagates
        logger.setLevel(level)
