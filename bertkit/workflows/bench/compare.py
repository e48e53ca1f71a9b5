"""Rounds in turn, and what they come to: medians, spreads, and ratios taken round by round."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bertkit.workflows.bench.sides import Answer, Round, RunningSide, Side, running
from bertkit.workflows.watch import Watcher

# Seconds of bertkit's own work a round, within which the number of steps is chosen.
SECONDS_A_ROUND = 5.0
LEAST_STEPS, MOST_STEPS = 2, 100


@dataclass(frozen=True)
class Spread:
    """The median of all rounds, the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of one value a round."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Pair:
    """Two sides to be compared, by name, and in which respect they are alike."""

    what: str
    ours: str
    theirs: str


@dataclass(frozen=True)
class SideResult:
    """What one side came to.

    step_s: seconds a step. rate: of the result's unit, a second. utilisation: model FLOPs over time over the matmul
    rate of the same round. waiting_share: of step time, waiting for data. base_bytes: held before the model was built.
    """

    name: str
    settings: Mapping[str, str]
    step_s: Spread
    rate: Spread
    utilisation: Spread | None
    waiting_share: Spread
    peak_bytes: int
    base_bytes: int


@dataclass(frozen=True)
class Ratio:
    """speed: their seconds over ours, round by round, more is better; memory: our peak over theirs, less is better.

    memory_growth: the same of what was added to the memory held before the model was built.
    """

    what: str
    ours: str
    theirs: str
    speed: Spread
    memory: float | None
    memory_growth: float | None


@dataclass(frozen=True)
class BenchResult:
    """A whole measurement: shared settings, every side, the ratios, and the matmul rates in FLOP/s by precision."""

    subject: str
    unit: str
    rounds: int
    steps: int
    machine: Mapping[str, str]
    settings: Mapping[str, str]
    sides: tuple[SideResult, ...]
    ratios: tuple[Ratio, ...]
    matmul_flops: Mapping[str, Spread] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """What is measured: the sides, which of them to compare, and the side that measures the matmul rate."""

    subject: str
    unit: str
    sides: tuple[Side, ...]
    pairs: tuple[Pair, ...]
    settings: Mapping[str, str]
    machine: Mapping[str, str]
    rates: Side | None = None
    notes: tuple[str, ...] = ()
    has_memory: bool = True

    @property
    def all_sides(self) -> tuple[Side, ...]:
        """The sides, the measuring of the matmul rate last."""
        return self.sides if self.rates is None else (*self.sides, self.rates)


def compare(
    comparison: Comparison,
    *,
    rounds: int,
    watch: Watcher,
    steps: int | None = None,
    notes_of: Callable[[Mapping[str, Round]], tuple[str, ...]] = lambda last: (),
) -> BenchResult:
    """Takes the sides in turn, `rounds` times; `notes_of` may say something about the last round.

    Raises:
        BertkitError: a side failed; none of them is left running.
    """
    watch.begin("building every side and warming it up")
    sides = comparison.all_sides
    with running(sides, on_start=lambda name, place: watch.work(name, place, len(sides))) as opened:
        steps = steps or steps_a_round(opened[0].ready.pace_s)
        watch.begin(f"measuring: {rounds} rounds of {steps} step{'s' if steps > 1 else ''} a side, in turn")
        answers = take_turns(opened, rounds=rounds, steps=steps, watch=watch)
        base_bytes = {side.side.name: side.ready.base_bytes for side in opened}
        settings = {side.side.name: side.ready.settings for side in opened}
    last = {name: given[-1].round for name, given in answers.items()}
    return BenchResult(
        subject=comparison.subject,
        unit=comparison.unit,
        rounds=rounds,
        steps=steps,
        machine=comparison.machine,
        settings=comparison.settings,
        sides=tuple(
            side_result(side, answers, comparison.rates, settings=settings[side.name], base=base_bytes[side.name])
            for side in comparison.sides
        ),
        ratios=tuple(ratio(pair, answers, base_bytes if comparison.has_memory else {}) for pair in comparison.pairs),
        matmul_flops=_matmul_spreads(comparison.rates, answers),
        notes=(*comparison.notes, *notes_of(last)),
    )


def steps_a_round(pace_s: float) -> int:
    """So many steps that bertkit works about `SECONDS_A_ROUND` seconds a round."""
    return max(LEAST_STEPS, min(MOST_STEPS, round(SECONDS_A_ROUND / max(pace_s, 1e-9))))


def take_turns(sides: Sequence[RunningSide], *, rounds: int, steps: int, watch: Watcher) -> dict[str, list[Answer]]:
    """A B C, A B C, ...: exactly one works at a time, so that a slow minute of the machine meets them all."""
    answers: dict[str, list[Answer]] = {side.side.name: [] for side in sides}
    for number in range(rounds):
        for place, side in enumerate(sides):
            watch.work(f"round {number + 1}: {side.side.name}", number * len(sides) + place, rounds * len(sides))
            answers[side.side.name].append(side.measure(steps))
    return answers


def side_result(
    side: Side,
    answers: Mapping[str, Sequence[Answer]],
    rates: Side | None,
    *,
    settings: Mapping[str, str],
    base: int,
) -> SideResult:
    """What the rounds of one side come to."""
    own = [answer.round for answer in answers[side.name]]
    utilisation = None
    if rates is not None and side.precision is not None and all(each.flops for each in own):
        measured = [answer.round.outcome[side.precision] for answer in answers[rates.name]]
        utilisation = Spread.of([r.flops / r.total_s / rate for r, rate in zip(own, measured, strict=True)])
    return SideResult(
        name=side.name,
        settings=settings,
        step_s=Spread.of([each.total_s / len(each.seconds) for each in own]),
        rate=Spread.of([each.amount / each.total_s for each in own]),
        utilisation=utilisation,
        waiting_share=Spread.of([each.waited_s / each.total_s for each in own]),
        peak_bytes=max(answer.peak_bytes for answer in answers[side.name]),
        base_bytes=base,
    )


def ratio(pair: Pair, answers: Mapping[str, Sequence[Answer]], base_bytes: Mapping[str, int]) -> Ratio:
    """Two sides, round by round: the machine's mood is that of the round, and falls out of the ratio.

    base_bytes: of every side, held before its model was built; empty where memory says nothing.
    """
    ours, theirs = answers[pair.ours], answers[pair.theirs]
    speeds = [theirs.round.total_s / ours.round.total_s for ours, theirs in zip(ours, theirs, strict=True)]
    memory = growth = None
    if base_bytes:
        our_peak, their_peak = (max(answer.peak_bytes for answer in side) for side in (ours, theirs))
        our_growth, their_growth = our_peak - base_bytes[pair.ours], their_peak - base_bytes[pair.theirs]
        memory = our_peak / their_peak
        growth = our_growth / their_growth if their_growth > 0 else None
    return Ratio(pair.what, pair.ours, pair.theirs, Spread.of(speeds), memory=memory, memory_growth=growth)


def _matmul_spreads(rates: Side | None, answers: Mapping[str, Sequence[Answer]]) -> dict[str, Spread]:
    if rates is None:
        return {}
    measured = [answer.round.outcome for answer in answers[rates.name]]
    return {precision: Spread.of([each[precision] for each in measured]) for precision in measured[0]}
