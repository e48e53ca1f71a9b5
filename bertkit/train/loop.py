"""The training loop: one generator, used by pre-training and fine-tuning alike."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor, nn

from bertkit.errors import BertkitError
from bertkit.train.optim import set_learning_rate
from bertkit.train.setup import seed_step
from bertkit.train.sharding import made_whole
from bertkit.train.state import TrainState
from bertkit.train.transfer import to_device

Batch = Mapping[str, Any]


@dataclass(frozen=True)
class LossTerm:
    """One loss of one micro-batch: the sum over its targets, how many there are, and how many were predicted right."""

    sum: Tensor
    count: Tensor | int
    correct: Tensor | None = None


class StepBatch(Protocol):
    """This process's micro-batches of one optimizer step, and the loader's position behind them."""

    @property
    def micro_batches(self) -> Sequence[Batch]: ...
    @property
    def position(self) -> Any: ...


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step did; means over the step's targets, as tensors on the device until somebody logs them."""

    step: int
    losses: dict[str, Tensor]
    accuracies: dict[str, Tensor]
    grad_norm: Tensor
    learning_rate: float
    tokens: int
    instances: int


class NonFiniteLossError(BertkitError):
    """Loss or gradient is not a finite number; the update was not made."""


class MemoryExceededError(BertkitError):
    """The device had no room for the forward and backward pass of a micro-batch of so many `tokens`."""

    def __init__(self, tokens: int, remedy: str = "") -> None:
        super().__init__(f"out of memory at {tokens:,} tokens a forward pass{remedy}")
        self.tokens = tokens


def train_steps(
    state: TrainState,
    steps: Iterator[StepBatch],
    loss_fn: Callable[[nn.Module, Batch], Mapping[str, LossTerm]],
    *,
    count_fn: Callable[[Batch], Mapping[str, int]],
    learning_rate_fn: Callable[[TrainState], float],
    accelerator: Accelerator,
    max_grad_norm: float,
) -> Iterator[StepReport]:
    """Trains on `steps` and yields a report after every optimizer update; stop asking to stop training.

    Every loss is a sum divided once, by its count over the whole global step, so two micro-batches of 4 equal one of 8
    even when they hold unequal numbers of targets.

    Raises:
        NonFiniteLossError: before the update that would have spoilt the weights.
        MemoryExceededError: before the update too; `state` is as it was but for its gradients.
    """
    for batch in steps:
        counts = _reduce_counts(_count(batch, count_fn), accelerator)
        seed_step(state.seed, step=state.step, rank=accelerator.process_index)
        totals: dict[str, LossTerm] = {}
        for number, micro_batch in enumerate(batch.micro_batches):
            # Gradients meet other processes once a step, on the last backward.
            is_last = number == len(batch.micro_batches) - 1
            with contextlib.nullcontext() if is_last else accelerator.no_sync(state.model):
                terms = add_gradients(state.model, micro_batch, loss_fn, counts=counts, accelerator=accelerator)
            totals = {name: _add(totals.get(name), term) for name, term in terms.items()}
        grad_norm = made_whole(accelerator.clip_grad_norm_(state.model.parameters(), max_grad_norm))
        totals = {name: _reduce_term(term, accelerator) for name, term in totals.items()}
        _refuse_non_finite(state.step + 1, totals, grad_norm, has_scaler=accelerator.scaler is not None)
        learning_rate = learning_rate_fn(state)
        set_learning_rate(state.optimizer, learning_rate)
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.advance(batch.position, tokens=counts["tokens"], instances=counts["instances"])
        yield _report(state, totals, counts, grad_norm=grad_norm, learning_rate=learning_rate)


def add_gradients(
    model: nn.Module,
    micro_batch: Batch,
    loss_fn: Callable[[nn.Module, Batch], Mapping[str, LossTerm]],
    *,
    counts: Mapping[str, int],
    accelerator: Accelerator,
) -> Mapping[str, LossTerm]:
    """The losses of a micro-batch, whose gradients were added: each loss divided by its count over the global step.

    Raises:
        MemoryExceededError: the device has no room for it; what it left behind is to be cleared.
    """
    try:
        terms = loss_fn(model, to_device(micro_batch, accelerator.device))
        # Data parallelism averages gradients over processes; the counts are global already.
        shares = [term.sum / max(counts[name], 1) for name, term in terms.items()]
        accelerator.backward(torch.stack(shares).sum() * accelerator.num_processes)
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or should_reduce_batch_size(error):
            raise MemoryExceededError(len(micro_batch["input_ids"])) from error
        raise
    return terms


def _count(batch: StepBatch, count_fn: Callable[[Batch], Mapping[str, int]]) -> dict[str, int]:
    counts = {"tokens": 0, "instances": 0}
    for micro_batch in batch.micro_batches:
        sizes = {"tokens": len(micro_batch["input_ids"]), "instances": len(micro_batch["cu_seqlens"]) - 1}
        for name, count in {**count_fn(micro_batch), **sizes}.items():
            counts[name] = counts.get(name, 0) + count
    return counts


def _reduce_counts(counts: dict[str, int], accelerator: Accelerator) -> dict[str, int]:
    """Counts over all processes; they are known before the batch leaves the host, so one process waits for nothing."""
    if accelerator.num_processes == 1:
        return counts
    values = torch.tensor(list(counts.values()), dtype=torch.int64, device=accelerator.device)
    return dict(zip(counts, accelerator.reduce(values, "sum").tolist(), strict=True))


def _add(total: LossTerm | None, term: LossTerm) -> LossTerm:
    term = replace(term, sum=term.sum.detach())
    if total is None:
        return term
    correct = None if term.correct is None or total.correct is None else total.correct + term.correct
    return LossTerm(total.sum + term.sum, total.count + term.count, correct)


def _reduce_term(term: LossTerm, accelerator: Accelerator) -> LossTerm:
    if accelerator.num_processes == 1:
        return term
    correct = None if term.correct is None else accelerator.reduce(term.correct, "sum")
    return LossTerm(accelerator.reduce(term.sum, "sum"), term.count, correct)


def _refuse_non_finite(step: int, totals: Mapping[str, LossTerm], grad_norm: Tensor, *, has_scaler: bool) -> None:
    # fp16's gradient scaler skips updates of infinite norm by itself, and lowers its scale.
    checked = [term.sum for term in totals.values()] + ([] if has_scaler else [grad_norm])
    # The one wait for the device in a step: after this line the weights change.
    if not torch.isfinite(torch.stack(checked)).all():
        raise NonFiniteLossError(f"the loss or its gradient is not a finite number at step {step}")


def _report(
    state: TrainState,
    totals: Mapping[str, LossTerm],
    counts: Mapping[str, int],
    *,
    grad_norm: Tensor,
    learning_rate: float,
) -> StepReport:
    return StepReport(
        step=state.step,
        losses={name: term.sum / max(counts[name], 1) for name, term in totals.items()},
        accuracies={
            name: term.correct / max(counts[name], 1) for name, term in totals.items() if term.correct is not None
        },
        grad_norm=grad_norm,
        learning_rate=learning_rate,
        tokens=counts["tokens"],
        instances=counts["instances"],
    )
