"""What a pre-training run would take, before it starts: tokens, steps, epochs, hours and memory, measured here."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import psutil
import torch

from bertkit.config.schema import PretrainConfig
from bertkit.errors import ConfigError
from bertkit.train.budget import Budget
from bertkit.workflows.assemble import build_loader
from bertkit.workflows.bench.corpora import Sample, prepared_sample
from bertkit.workflows.bench.ours import build_ours
from bertkit.workflows.bench.request import default_precision, device_type, machine
from bertkit.workflows.bench.sides import Answer, Side, running
from bertkit.workflows.bench.work import PretrainingWork
from bertkit.workflows.initial import with_initial_shape
from bertkit.workflows.training import AUTO_TOKENS, tokens_a_pass
from bertkit.workflows.watch import Unwatched, Watcher

# Two forward passes are measured, and a line through them gives any other: one of so many instances, and one as large
# as takes some seconds, within bounds.
SMALL_PASS, LEAST_LARGE_PASS, MOST_LARGE_PASS = 8, 16, 256
SECONDS_A_LARGE_PASS = 3.0
SECONDS_A_MEASUREMENT, LEAST_STEPS, MOST_STEPS = 10.0, 2, 8
# Of what is free; the rest is for what comes and goes.
USABLE_SHARE = 0.9


@dataclass(frozen=True)
class Line:
    """Through two measured points: `fixed`, and `each` for one more."""

    fixed: float
    each: float

    @classmethod
    def through(cls, first: tuple[float, float], second: tuple[float, float]) -> "Line":
        """Through (number, value) twice; neither part is below 0, whatever the noise."""
        each = max(0.0, (second[1] - first[1]) / (second[0] - first[0]))
        return cls(max(0.0, second[1] - each * second[0]), each)

    def at(self, number: float) -> float:
        """The value at `number`."""
        return self.fixed + self.each * number


@dataclass(frozen=True)
class PhasePlan:
    """One phase: its steps and epochs, what a step takes, and the memory of a forward pass by its tokens.

    peak_bytes: at `tokens_a_pass`, which is what the recipe would run. largest_pass_tokens: what fits in 90 % of what
    is free; None where memory did not grow with the pass.
    """

    max_seq_length: int
    steps: int
    epochs: float
    instances_an_epoch: int
    tokens_a_step: float
    step_s: float
    hours: float
    tokens_a_pass: int
    peak_bytes: float
    largest_pass_tokens: int | None


@dataclass(frozen=True)
class Plan:
    """A whole run. documents_read: those that the size of the corpus is estimated from, None where it is exact."""

    documents: int
    tokens: int
    documents_read: int | None
    precision: str
    phases: tuple[PhasePlan, ...]
    steps: int
    epochs: float
    tokens_to_train: float
    hours: float
    peak_bytes: float
    free_bytes: int
    machine: dict[str, str]
    notes: tuple[str, ...]


def plan(config: PretrainConfig, *, watch: Watcher | None = None) -> Plan:
    """Measures a few real steps of every phase of a recipe on this machine; starts no run and leaves no file.

    Raises:
        BertkitError: whatever the user can mend, in one sentence.
    """
    watch = watch or Unwatched()
    if config.corpus is None:
        raise ConfigError("no corpus was named: bertkit plan CORPUS")
    config = with_initial_shape(config)
    with prepared_sample(config, config.corpus, watch=watch) as (sample, _):
        watch.begin("measuring")
        measured = [_measure(config, sample, phase, watch=watch) for phase in range(len(config.train.phases))]
    free_bytes = free_memory()
    phases = _divide(config, measured, free_bytes=free_bytes)
    train = sample.store.split("train")
    return Plan(
        documents=round(train.num_documents * sample.scale),
        tokens=round(train.num_tokens * sample.scale),
        documents_read=sample.documents_read,
        precision=default_precision(config),
        phases=phases,
        steps=sum(phase.steps for phase in phases),
        epochs=sum(phase.epochs for phase in phases),
        tokens_to_train=sum(phase.steps * phase.tokens_a_step for phase in phases),
        hours=sum(phase.hours for phase in phases),
        peak_bytes=max(phase.peak_bytes for phase in phases),
        free_bytes=free_bytes,
        machine=machine(),
        notes=_notes(config, sample),
    )


@dataclass(frozen=True)
class _Measured:
    """What was measured of one phase: seconds and tokens by instances, bytes by tokens."""

    max_seq_length: int
    share: float
    instances_an_epoch: int
    seconds: Line
    memory: Line
    tokens_an_instance: float
    tokens_a_pass: int

    def largest_pass(self, free_bytes: int) -> int | None:
        """Tokens of the largest forward pass that fits."""
        room = USABLE_SHARE * free_bytes - self.memory.fixed
        return max(0, int(room / self.memory.each)) if self.memory.each else None


def _measure(config: PretrainConfig, sample: Sample, phase: int, *, watch: Watcher) -> _Measured:
    shape = config.train.phases[phase]
    total, small = 2 * len(config.train.phases), SMALL_PASS
    watch.work(f"length {shape.max_seq_length}, {small} instances", 2 * phase, total)
    first = _measure_pass(config, sample.store.location, phase, small)
    large = int(small * SECONDS_A_LARGE_PASS / _seconds(first))
    # A pass that had to be halved for want of memory would bend the line.
    most = min(MOST_LARGE_PASS, AUTO_TOKENS // shape.max_seq_length)
    large = max(LEAST_LARGE_PASS, min(most, large))
    watch.work(f"length {shape.max_seq_length}, {large} instances", 2 * phase + 1, total)
    second = _measure_pass(config, sample.store.location, phase, large)
    length = second.round.amount / len(second.round.seconds) / large
    whole_step = round(config.train.global_batch_size * length)
    tokens = tokens_a_pass(config.train.micro_batch_tokens_of(phase), torch.device(device_type())) or whole_step
    size = config.train.micro_batch_of(phase)
    loader = build_loader(config, sample.store, phase=phase)
    return _Measured(
        max_seq_length=shape.max_seq_length,
        share=shape.share,
        instances_an_epoch=max(1, round(loader.num_instances() * sample.scale)),
        seconds=Line.through((small, _seconds(first)), (large, _seconds(second))),
        memory=Line.through((first.round.largest, first.peak_bytes), (second.round.largest, second.peak_bytes)),
        tokens_an_instance=length,
        tokens_a_pass=min(tokens, whole_step, round(size * length) if size else whole_step),
    )


def _measure_pass(config: PretrainConfig, store: str, phase: int, instances: int) -> Answer:
    """Real steps of one forward pass each, in a process of its own."""
    passes = {"global_batch_size": instances, "micro_batch_size": None, "micro_batch_tokens": None}
    phases = [
        each.model_copy(update={"micro_batch_size": None, "micro_batch_tokens": None}) for each in config.train.phases
    ]
    train = config.train.model_copy(update={**passes, "phases": tuple(phases)})
    work = PretrainingWork(config.model_copy(update={"train": train}), store, phase)
    side = Side(f"passes of {instances} instances", partial(build_ours, work, config.train.precision))
    with running([side], on_start=lambda name, place: None) as (opened,):
        steps = round(SECONDS_A_MEASUREMENT / max(opened.ready.pace_s, 1e-9))
        return opened.measure(max(LEAST_STEPS, min(MOST_STEPS, steps)))


def _seconds(answer: Answer) -> float:
    return answer.round.total_s / len(answer.round.seconds)


def _divide(config: PretrainConfig, measured: Sequence[_Measured], *, free_bytes: int) -> tuple[PhasePlan, ...]:
    """The steps of every phase, as a run would divide them, and what they take."""
    train, batch = config.train, config.train.global_batch_size
    step_s = [each.seconds.at(batch) for each in measured]
    if train.max_minutes is not None:
        # By the clock, a phase's share is one of time.
        steps = [round(each.share * 60 * train.max_minutes / s) for each, s in zip(measured, step_s, strict=True)]
    else:
        epochs_a_step = sum(each.share * batch / each.instances_an_epoch for each in measured)
        total = train.max_steps or max(len(measured), round((train.epochs or 1) / epochs_a_step))
        ends = Budget(tuple(each.share for each in measured), max_steps=total).phase_ends(total)
        steps = [end - start for start, end in pairwise([0, *ends])]
    return tuple(
        PhasePlan(
            max_seq_length=each.max_seq_length,
            steps=count,
            epochs=count * batch / each.instances_an_epoch,
            instances_an_epoch=each.instances_an_epoch,
            tokens_a_step=each.tokens_an_instance * batch,
            step_s=seconds,
            hours=count * seconds / 3600,
            tokens_a_pass=each.tokens_a_pass,
            peak_bytes=each.memory.at(each.tokens_a_pass),
            largest_pass_tokens=each.largest_pass(free_bytes),
        )
        for each, count, seconds in zip(measured, steps, step_s, strict=True)
    )


def free_memory() -> int:
    """Bytes free for a run: on the GPU, else in main memory."""
    return int(torch.cuda.mem_get_info()[0]) if device_type() == "cuda" else free_main_memory()


def free_main_memory() -> int:
    """Bytes free in main memory and under the limit of this process' control group."""
    free = int(psutil.virtual_memory().available)
    # Containers bound memory below what the machine has.
    with contextlib.suppress(OSError, ValueError, KeyError):
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
        held = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
        # Files kept in memory are counted there, and given up when memory is wanted.
        stat = dict(
            line.split() for line in Path("/sys/fs/cgroup/memory.stat").read_text(encoding="ascii").splitlines()
        )
        free = min(free, limit - held + int(stat["inactive_file"]))
    return free


def _notes(config: PretrainConfig, sample: Sample) -> tuple[str, ...]:
    notes = [
        f"measured: real steps of {SMALL_PASS} instances and of more, and their peak memory, each in a process of its "
        "own",
        "hours are those of one process; several share the instances of a step",
        f"extrapolated, by a straight line: a step of {config.train.global_batch_size} instances, and memory at any "
        "other number of tokens; evaluating, saving and preparing are not counted",
    ]
    if sample.documents_read is not None:
        store = sample.store.split("train").num_documents + sample.store.split("heldout").num_documents
        notes.append(
            f"the size of the corpus is estimated: {sample.documents_read:,} documents were read, and {store:,} of "
            "them tokenised; for exact figures run bertkit prepare, and plan on its folder"
        )
    return tuple(notes)
