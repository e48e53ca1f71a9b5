"""What surrounds the steps of any training: log, evaluate, save, stop when asked."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator
from torch import nn

from bertkit.config.finetune import FinetuneTrainConfig
from bertkit.config.schema import EveryConfig, OptimConfig, TrainConfig
from bertkit.errors import ConfigError
from bertkit.train.checkpoint import save_checkpoint
from bertkit.train.loop import StepReport
from bertkit.train.optim import build_optimizer
from bertkit.train.setup import anyone, build_accelerator, main_says
from bertkit.train.signals import StopSignals
from bertkit.train.state import TrainState
from bertkit.train.tracking import MetricsLog, Window
from bertkit.workflows.watch import TrainingStatus, Watcher


def build_run_accelerator(train: TrainConfig | FinetuneTrainConfig, every: EveryConfig, run_dir: Path) -> Accelerator:
    """The accelerator of a run.

    Raises:
        ConfigError: the global batch does not divide over the processes, or the device lacks the precision.
    """
    accelerator = build_accelerator(train.precision, run_dir=run_dir, trackers=every.trackers)
    if (train.global_batch_size or 0) % accelerator.num_processes:
        raise ConfigError(
            f"train.global_batch_size {train.global_batch_size} is not a multiple of the "
            f"{accelerator.num_processes} processes: make it one"
        )
    return accelerator


def build_state(
    model: nn.Module,
    optim: OptimConfig,
    accelerator: Accelerator,
    *,
    seed: int,
    scale_of: Callable[[str], float] = lambda name: 1.0,
) -> TrainState:
    """The state training begins with, `model` and its optimizer wrapped by accelerate."""
    optimizer = build_optimizer(
        model.to(accelerator.device),
        learning_rate=optim.learning_rate,
        weight_decay=optim.weight_decay,
        beta1=optim.beta1,
        beta2=optim.beta2,
        epsilon=optim.epsilon,
        scale_of=scale_of,
    )
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    return TrainState(wrapped.train(), optimizer, seed=seed)


def save(
    state: TrainState,
    folder: Path,
    *,
    model: nn.Module,
    accelerator: Accelerator,
    keep: int,
    best_step: int | None = None,
) -> None:
    """Writes a checkpoint on the main process while the others wait; `model` is the state's, unwrapped."""
    if accelerator.is_main_process:
        save_checkpoint(state, folder, model=model, scaler=accelerator.scaler, keep=keep, best_step=best_step)
    accelerator.wait_for_everyone()


def drive(
    steps: Iterable[tuple[StepReport, TrainingStatus]],
    state: TrainState,
    *,
    accelerator: Accelerator,
    every: EveryConfig,
    log: MetricsLog,
    watch: Watcher,
    evaluate: Callable[[], Mapping[str, float]],
    save: Callable[[], object],
    selects: bool = False,
) -> str | None:
    """Runs training to its end or to a signal, saved either way; returns the signal's name, None at the end.

    Where training `selects` among its checkpoints, one is evaluated at the end too, and all evaluated ones are saved.
    """
    window, saved_s, saved_step = Window(), time.monotonic(), state.step
    with StopSignals() as signals:
        for report, status in steps:
            window.add(report)
            # The last step's figures are logged too, however few steps its window holds.
            numbers = window.take(state) if state.step % every.log_steps == 0 or status.progress >= 1 else {}
            if numbers:
                log.write(numbers)
            watch.training(replace(status, numbers=numbers))
            evaluates = every.evaluate_steps is not None and state.step % every.evaluate_steps == 0
            if evaluates or (selects and status.progress >= 1):
                log.write({"step": state.step, **evaluate()})
                evaluates = True
            stop = anyone(accelerator, signals.received is not None)
            if stop or (selects and evaluates) or _is_due(every, state.step, since_s=saved_s, accelerator=accelerator):
                save()
                saved_s, saved_step = time.monotonic(), state.step
            if stop:
                return signals.received.name if signals.received else "SIGTERM"
            window.skip_time()
        if saved_step != state.step:
            save()
    return None


def _is_due(every: EveryConfig, step: int, *, since_s: float, accelerator: Accelerator) -> bool:
    if every.save_steps is not None and step % every.save_steps == 0:
        return True
    return every.save_minutes is not None and (
        main_says(accelerator, time.monotonic() - since_s) >= 60 * every.save_minutes
    )
