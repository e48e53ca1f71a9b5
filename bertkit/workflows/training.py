"""The steps of any training, for which room is made in memory, and what surrounds them: log, evaluate, save, stop."""

import logging
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from accelerate.utils.memory import clear_device_cache
from torch import nn

from bertkit.config.finetune import FinetuneTrainConfig
from bertkit.config.leaves import TokenBudget
from bertkit.config.schema import EveryConfig, OptimConfig, TrainConfig
from bertkit.data.loader import Position, Prefetched, StepBatch
from bertkit.errors import ConfigError
from bertkit.train.budget import Budget, LearningRate
from bertkit.train.checkpoint import save_checkpoint
from bertkit.train.energy import require_meter
from bertkit.train.loop import Batch, LossTerm, MemoryExceededError, StepReport, add_gradients, train_steps
from bertkit.train.optim import build_optimizer
from bertkit.train.setup import anyone, build_accelerator, main_says
from bertkit.train.sharding import is_sharded
from bertkit.train.signals import StopSignals
from bertkit.train.state import TrainState
from bertkit.train.tracking import MetricsLog, Window
from bertkit.workflows.watch import TrainingStatus, Watcher

logger = logging.getLogger(__name__)

# On a GPU memory decides, found by trying; no forward pass gets faster beyond this.
AUTO_TOKENS = 65_536
# On a CPU nothing fails in time to try again, and larger passes are hardly faster.
AUTO_TOKENS_CPU = 4_096

LossFn = Callable[[nn.Module, Batch], Mapping[str, LossTerm]]
CountFn = Callable[[Batch], Mapping[str, int]]


class Loader(Protocol):
    """The batches of a run from any position on."""

    def steps(self, position: Position, *, micro_batch_tokens: int | None) -> Prefetched[StepBatch]: ...


def build_run_accelerator(train: TrainConfig | FinetuneTrainConfig, every: EveryConfig) -> Accelerator:
    """The accelerator of a run.

    Raises:
        ConfigError: the global batch does not divide over the processes, the device lacks the precision, or a package
            is not installed.
    """
    if every.energy:
        require_meter()
    accelerator = build_accelerator(train.precision, trackers=every.trackers)
    require_divisible(train, accelerator.num_processes)
    return accelerator


def require_divisible(train: TrainConfig | FinetuneTrainConfig, num_processes: int) -> None:
    """Checks the batch against the processes before anything slow begins.

    Raises:
        ConfigError: the global batch does not divide over the processes.
    """
    if (train.global_batch_size or 0) % num_processes:
        raise ConfigError(
            f"train.global_batch_size {train.global_batch_size} is not a multiple of the {num_processes} processes: "
            "make it one"
        )


def build_state(
    model: nn.Module,
    optim: OptimConfig,
    accelerator: Accelerator,
    *,
    seed: int,
    scale_of: Callable[[str], float] = lambda name: 1.0,
) -> TrainState:
    """The state training begins with, `model` and its optimizer wrapped by accelerate.

    Raises:
        ConfigError: the optimizer's package is not installed, or it cannot train a model in parts.
    """
    if optim.name == "lamb" and accelerator.distributed_type == DistributedType.FSDP:
        raise ConfigError(
            "optim.name lamb needs whole weights, which FSDP takes apart: use adamw, or train without FSDP"
        )
    optimizer = build_optimizer(
        model.to(accelerator.device),
        learning_rate=optim.learning_rate,
        name=optim.name,
        weight_decay=optim.weight_decay,
        beta1=optim.beta1,
        beta2=optim.beta2,
        epsilon=optim.epsilon,
        scale_of=scale_of,
    )
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    return TrainState(wrapped.train(), optimizer, seed=seed)


def require_same_step(state: TrainState, accelerator: Accelerator) -> None:
    """Checks that all processes go on from the same step, or each would train a model of its own.

    Raises:
        ConfigError: they do not.
    """
    if anyone(accelerator, state.step != main_says(accelerator, state.step)):
        raise ConfigError(
            "the processes found different checkpoints to go on from: put the run in a folder that all machines share"
        )


def training_steps(
    state: TrainState,
    loader: Loader,
    *,
    loss_fn: LossFn,
    count_fn: CountFn,
    micro_batch_tokens: TokenBudget,
    budget: Budget,
    optim: OptimConfig,
    accelerator: Accelerator,
) -> Generator[StepReport, None, None]:
    """Every step from the state's position on, without end; close it when done.

    A step for which memory runs out is made again, from the same examples in smaller micro-batches.

    Raises:
        MemoryExceededError: one example alone is too much, or the processes would have to agree on a smaller bound.
        NonFiniteLossError: before the update that would have spoilt the weights.
    """
    rate = LearningRate(optim.learning_rate, optim.warmup_steps, optim.schedule)
    tokens = tokens_a_pass(micro_batch_tokens, accelerator.device)
    has_gpus = accelerator.distributed_type == DistributedType.MULTI_GPU
    if micro_batch_tokens == "auto" and tokens is not None and has_gpus:
        tokens = agreed_tokens(state, loader, tokens, loss_fn=loss_fn, count_fn=count_fn, accelerator=accelerator)
    while True:
        batches = loader.steps(state.position or Position(), micro_batch_tokens=tokens)
        try:
            yield from train_steps(
                state,
                batches,
                loss_fn,
                count_fn=count_fn,
                learning_rate_fn=lambda now: rate.at(budget, step=now.step, elapsed_s=now.elapsed_s),
                accelerator=accelerator,
                max_grad_norm=optim.max_grad_norm,
            )
            return
        except MemoryExceededError as error:
            if accelerator.num_processes > 1:
                remedy = f" on one of several processes: set train.micro_batch_tokens={error.tokens // 2}"
                raise MemoryExceededError(error.tokens, remedy) from None
            tokens = _smaller(error.tokens, tokens)
        finally:
            batches.close()
        # Only here is the error gone, and with it what its traceback held in memory.
        _clear(state)


def tokens_a_pass(asked: TokenBudget, device: torch.device) -> int | None:
    """Tokens a forward pass on `device` may hold to begin with; None: as many as there are."""
    if asked != "auto":
        return asked
    return AUTO_TOKENS_CPU if device.type == "cpu" else AUTO_TOKENS


def agreed_tokens(
    state: TrainState,
    loader: Loader,
    tokens: int,
    *,
    loss_fn: LossFn,
    count_fn: CountFn,
    accelerator: Accelerator,
) -> int:
    """Tokens for which every process has room, each trying by itself with what it would train on next.

    In the middle of a step no process could try again without leaving the others to wait for ever.

    Raises:
        MemoryExceededError: one example alone is too much.
    """
    # What the optimizer keeps from its first update on must fit beside it.
    trained = [p for p in state.model.parameters() if p.requires_grad and not state.optimizer.state]
    kept = [torch.empty_like(p) for p in trained for _ in range(2)]
    while (too_many := _exceeded(state, loader, tokens, loss_fn, count_fn, accelerator)) is not None:
        tokens = _smaller(too_many, tokens)
        _clear(state)
    del kept
    _clear(state)
    agreed = accelerator.gather(torch.tensor([tokens], device=accelerator.device))
    return int(agreed.min())


def _exceeded(
    state: TrainState,
    loader: Loader,
    tokens: int | None,
    loss_fn: LossFn,
    count_fn: CountFn,
    accelerator: Accelerator,
) -> int | None:
    """The tokens of the largest micro-batch of the next step if there is no room for it."""
    batches = loader.steps(state.position or Position(), micro_batch_tokens=tokens)
    try:
        largest = max(next(batches).micro_batches, key=lambda batch: len(batch["input_ids"]))
        with accelerator.no_sync(state.model):
            add_gradients(state.model, largest, loss_fn, counts=count_fn(largest), accelerator=accelerator)
    except MemoryExceededError as error:
        return error.tokens
    finally:
        batches.close()
    return None


def _smaller(too_many: int, tokens: int | None) -> int:
    """Half of what did not fit.

    Raises:
        MemoryExceededError: it was one example, alone because it is longer than `tokens`.
    """
    if tokens is not None and too_many > tokens:
        remedy = "set train.gradient_checkpointing=true, or lower max_seq_length, or take a smaller model"
        raise MemoryExceededError(too_many, f", which is one example: {remedy}")
    logger.warning("%s: going on with %s", MemoryExceededError(too_many), f"{too_many // 2:,}")
    return too_many // 2


def _clear(state: TrainState) -> None:
    state.optimizer.zero_grad()
    clear_device_cache(garbage_collection=True)


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
    is_main = accelerator.is_main_process
    if is_main or is_sharded(model):
        save_checkpoint(
            state, folder, model=model, scaler=accelerator.scaler, keep=keep, best_step=best_step, writes=is_main
        )
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
    notice: Callable[[Mapping[str, float]], object] = lambda row: None,
    selects: bool = False,
) -> str | None:
    """Runs training to its end or to a signal, saved either way; returns the signal's name, None at the end.

    `notice` sees every row of the log, once it is written.
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
                notice(numbers)
            watch.training(replace(status, numbers=numbers))
            evaluates = every.evaluate_steps is not None and state.step % every.evaluate_steps == 0
            if evaluates or (selects and status.progress >= 1):
                scores = {"step": state.step, **evaluate()}
                log.write(scores)
                notice(scores)
                evaluates = True
            stop = anyone(accelerator, signals.received is not None)
            if stop or (selects and evaluates) or _is_due(every, state.step, since_s=saved_s, accelerator=accelerator):
                save()
                saved_s, saved_step = time.monotonic(), state.step
            if stop:
                return _name(signals)
            window.skip_time()
        if saved_step != state.step:
            save()
        # It may have come while the last step was evaluated or saved.
        return _name(signals) if anyone(accelerator, signals.received is not None) else None


def _name(signals: StopSignals) -> str:
    """The signal that stops this process, SIGTERM where it came to another process only."""
    return signals.received.name if signals.received else "SIGTERM"


def _is_due(every: EveryConfig, step: int, *, since_s: float, accelerator: Accelerator) -> bool:
    if every.save_steps is not None and step % every.save_steps == 0:
        return True
    return every.save_minutes is not None and (
        main_says(accelerator, time.monotonic() - since_s) >= 60 * every.save_minutes
    )
