"""bertkit's side of a training comparison: the real loop on the real loader."""

import time
from itertools import islice
from typing import Literal, Self

from bertkit.data.loader import Position, Prefetched, StepBatch
from bertkit.train.budget import Budget
from bertkit.train.setup import build_accelerator
from bertkit.workflows.bench.rates import Sizes, synchronize
from bertkit.workflows.bench.sides import Round, Worker, reset_peak
from bertkit.workflows.bench.work import TrainingWork
from bertkit.workflows.training import Loader, build_state, tokens_a_pass, training_steps

ENDLESS = 10**9
WARM_UP_STEPS = 2


def build_ours(work: TrainingWork, precision: Literal["auto", "fp32", "bf16", "fp16"]) -> Worker:
    """The side of bertkit, warm."""
    accelerator = build_accelerator(precision)
    device = accelerator.device.type
    base_bytes = reset_peak(device)
    model = work.our_model()
    if work.config.train.gradient_checkpointing:
        model.activation_checkpointing_enable()
    # No schedule: every step of a comparison is alike.
    optim = work.config.optim.model_copy(update={"schedule": "constant", "warmup_steps": 0})
    state = build_state(model, optim, accelerator, seed=work.config.train.seed)
    loader = work.loader()
    largest = 0

    def round(steps: int) -> Round:
        """The first step is not counted: it waits for its data, as the stock side's does."""
        nonlocal largest
        timed = _TimedLoader(loader)
        reports = training_steps(
            state,
            timed,
            loss_fn=work.terms,
            count_fn=work.target_counts,
            micro_batch_tokens=work.micro_batch_tokens,
            budget=Budget((1.0,), max_steps=ENDLESS),
            optim=optim,
            accelerator=accelerator,
        )
        clock, sizes, waited_s = Clock(device, steps), [], 0.0
        for number, _ in enumerate(islice(reports, steps + 1)):
            clock.step()
            largest = max(largest, *(each.num_tokens for each in timed.sizes))
            if number:
                sizes += timed.sizes
                waited_s += timed.waited_s
        reports.close()
        tokens = sum(each.num_tokens for each in sizes)
        flops = sum(work.flops(each) for each in sizes)
        return Round(clock.seconds, tokens, flops, waited_s, largest)

    tokens = tokens_a_pass(work.micro_batch_tokens, accelerator.device)
    settings = {
        "model": type(model).__name__,
        "precision": "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision,
        "batch": f"{work.config.train.global_batch_size} a step" + (f", {tokens:,} tokens a pass" if tokens else ""),
        "padding": "none: packed",
        "optimizer": f"{optim.name}, fused",
    }
    pace_s = round(WARM_UP_STEPS).seconds[-1]
    return Worker(round, pace_s=pace_s, settings=settings, base_bytes=base_bytes, device=device)


class Clock:
    """Seconds between the ends of steps, the first one left out; waits for the device at both ends only."""

    def __init__(self, device: str, steps: int) -> None:
        self._device, self._steps = device, steps
        self._ends_s: list[float] = []

    @property
    def seconds(self) -> tuple[float, ...]:
        """Of each step that counts."""
        return tuple(end - start for start, end in zip(self._ends_s, self._ends_s[1:], strict=False))

    @property
    def is_over(self) -> bool:
        """Whether all steps were made."""
        return len(self._ends_s) > self._steps

    def step(self) -> None:
        """A step is over."""
        if len(self._ends_s) in (0, self._steps):
            synchronize(self._device)
        self._ends_s.append(time.perf_counter())


class _TimedLoader:
    """A loader that notes of the last step what was in its micro-batches, and how long the loop waited for it."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self.sizes: list[Sizes] = []
        self.waited_s = 0.0

    def steps(self, position: Position, *, micro_batch_tokens: int | None) -> Prefetched[StepBatch]:
        """The loader's steps, timed."""
        steps = self._loader.steps(position, micro_batch_tokens=micro_batch_tokens)
        return _TimedSteps(steps, self)  # type: ignore[return-value]  # all that the loop asks of it


class _TimedSteps:
    def __init__(self, steps: Prefetched[StepBatch], notes: _TimedLoader) -> None:
        self._steps, self._notes = steps, notes
        self.close = steps.close

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StepBatch:
        started_s = time.perf_counter()
        step = next(self._steps)
        self._notes.waited_s = time.perf_counter() - started_s
        self._notes.sizes = [Sizes.of(batch) for batch in step.micro_batches]
        return step
